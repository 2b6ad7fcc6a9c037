/**
 * Leader election over a coordination.k8s.io Lease, with the timing of Kubernetes' own components.
 * Whether a holder is alive is judged by our own clock, from when we saw its record change: clocks of nodes may differ.
 * A leader that could not renew in time must assume that another has taken over: its work is aborted and the process is
 * expected to exit, so that nothing of it goes on by mistake.
 */
import { type Clock, systemClock } from '../base/clock.ts';
import { messageOf, UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Lease } from '../protocol/objects.ts';
import type { Repository } from './repository.ts';

const LEASE_SECONDS = 15;
const RENEW_WITHIN_MS = 10_000;
const RETRY_MS = 2_000;

export interface Election {
  readonly leases: Repository<Lease>;
  readonly namespace: string;
  readonly name: string;
  /** Ours alone: pod name and something random. */
  readonly identity: string;
  readonly log: Logger;
  readonly clock?: Clock;
}

/**
 * Waits to become the leader, then runs `lead` until it ends or the signal aborts, and gives the lease back.
 * Throws UNAVAILABLE when leadership is lost; `lead` has been aborted then, and has ended.
 */
export async function runAsLeader(
  election: Election,
  lead: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { log, name, clock = systemClock } = election;
  const candidate = new Candidate(election, clock);
  while (!signal.aborted && !(await candidate.tryToHold(signal))) {
    await clock.sleep(RETRY_MS, signal).catch(() => {});
  }
  if (signal.aborted) return;
  log.info('leader.elected', { lease: name, identity: election.identity });

  const term = new AbortController();
  const end = () => term.abort(signal.reason);
  signal.addEventListener('abort', end, { once: true });
  const lost = renew(candidate, clock, term.signal).then((error) => term.abort(error));
  try {
    await lead(term.signal);
    if (!signal.aborted && term.signal.aborted) throw term.signal.reason;
  } finally {
    signal.removeEventListener('abort', end);
    term.abort();
    await lost;
    await candidate.release();
  }
}

/** Renews until the signal aborts; resolves early, with the reason, when the lease must be taken for lost. */
async function renew(candidate: Candidate, clock: Clock, signal: AbortSignal): Promise<UnionError | undefined> {
  let renewedAt = clock.now();
  while (!signal.aborted) {
    await clock.sleep(RETRY_MS, signal).catch(() => {});
    if (signal.aborted) return undefined;
    if (await candidate.tryToHold(signal)) renewedAt = clock.now();
    else if (candidate.heldByOther || clock.now() - renewedAt > RENEW_WITHIN_MS) {
      return new UnionError('UNAVAILABLE', 'leadership was lost: the lease could not be renewed in time');
    }
  }
  return undefined;
}

class Candidate {
  readonly #election: Election;
  readonly #clock: Clock;
  /** The record of another holder, and when we first saw it so. */
  #seen: { readonly record: string; readonly at: number } | undefined;
  heldByOther = false;

  constructor(election: Election, clock: Clock) {
    this.#election = election;
    this.#clock = clock;
  }

  /** Takes or renews the lease; false when another holds it, was faster, or the API server does not answer. */
  async tryToHold(signal: AbortSignal): Promise<boolean> {
    const { leases, namespace, name, log } = this.#election;
    try {
      const current = await leases.get({ namespace, name }, signal);
      if (current === undefined) return (await leases.create(this.#lease(undefined), signal)).ok;
      this.heldByOther = this.#holdsFirmly(current);
      return !this.heldByOther && (await leases.update(this.#lease(current), signal)).ok;
    } catch (error) {
      if (!signal.aborted) log.debug('leader.retry', { lease: name, message: messageOf(error) });
      return false;
    }
  }

  /** Lets the next one in at once. Best effort: without it, it waits for the lease to run out. */
  async release(): Promise<void> {
    const { leases, namespace, name, identity } = this.#election;
    const signal = AbortSignal.timeout(RETRY_MS);
    try {
      const current = await leases.get({ namespace, name }, signal);
      if (current?.spec?.holderIdentity !== identity) return;
      await leases.update(
        { ...current, spec: { ...current.spec, holderIdentity: '', leaseDurationSeconds: 1 } },
        signal,
      );
    } catch (error) {
      this.#election.log.debug('leader.release', { lease: name, message: messageOf(error) });
    }
  }

  #holdsFirmly(lease: Lease): boolean {
    const holder = lease.spec?.holderIdentity ?? '';
    if (holder === '' || holder === this.#election.identity) return false;
    const record = `${holder} ${lease.spec?.renewTime ?? ''} ${lease.metadata.resourceVersion ?? ''}`;
    if (this.#seen?.record !== record) this.#seen = { record, at: this.#clock.now() };
    const seconds = lease.spec?.leaseDurationSeconds ?? LEASE_SECONDS;
    return this.#clock.now() - this.#seen.at < seconds * 1000;
  }

  #lease(current: Lease | undefined): Lease {
    const { namespace, name, identity } = this.#election;
    const now = microTime(this.#clock.now());
    const ours = current?.spec?.holderIdentity === identity;
    const transitions = current?.spec?.leaseTransitions ?? 0;
    return {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: current?.metadata ?? { namespace, name },
      spec: {
        ...current?.spec,
        holderIdentity: identity,
        leaseDurationSeconds: LEASE_SECONDS,
        renewTime: now,
        acquireTime: ours ? (current.spec?.acquireTime ?? now) : now,
        leaseTransitions: current === undefined || ours ? transitions : transitions + 1,
      },
    };
  }
}

/** The one time format that Lease takes: always six digits of a second. */
function microTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, -1)}000Z`;
}
