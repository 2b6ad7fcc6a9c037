/**
 * When a mount is let go whose servers keep dying: applications get errors then, instead of waiting for ever. Pure.
 *
 * Deaths of servers that served for a while each are no loop. Kubelet starts a container that keeps dying at longer and longer
 * intervals, so that a loop may be told by the time for which nothing serves as well as by the number of deaths.
 */

/** A server that served for so long did not die of what it began with. Five of these make a minute: servers that die sooner die five times in one. */
export const STEADY_MS = 12_000;
const MAX_DEATHS = 5;
const FEW_DEATHS = 3;
const MINUTE_MS = 60_000;

/** When servers of a mount died that had not served for long, oldest first. */
export type Deaths = readonly number[];

export function afterDeath(deaths: Deaths, { servedSince, now }: { servedSince: number; now: number }): Deaths {
  return now - servedSince >= STEADY_MS ? [now] : [...deaths, now].slice(-MAX_DEATHS);
}

export interface Outage {
  readonly deaths: Deaths;
  /** How often the server's container was started again since the last death: a server may end before it can serve. */
  readonly starts: number;
  /** What the server that is there said instead of serving, and since when nothing else was heard. */
  readonly refusal?: { readonly message: string; readonly since: number } | undefined;
  readonly now: number;
}

/** Why the mount is to be let go, while nothing serves it; undefined while there is hope. */
export function hopelessness({ deaths, starts, refusal, now }: Outage): string | undefined {
  if (refusal !== undefined && now - refusal.since >= MINUTE_MS) return refusal.message;
  const forMs = now - (deaths[0] ?? now);
  if (deaths.length >= MAX_DEATHS) return `its server died ${deaths.length} times in ${Math.ceil(forMs / 1000)} s`;
  if (forMs < MINUTE_MS || deaths.length + starts < FEW_DEATHS) return undefined;
  const starting = starts > 0 ? `, and was started ${starts} times since` : '';
  return `its server died ${deaths.length} times${starting}`;
}
