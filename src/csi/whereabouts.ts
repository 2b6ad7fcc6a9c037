/**
 * Where the API says that a union's server is, and how often that was started: asked at most once a second, and never waited for,
 * because the API server may be away while the next server of the same pod is there.
 */
import type { Clock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { ServerPlace, UnionLink } from './union-link.ts';

const INTERVAL_MS = 1_000;

export interface WhereaboutsOptions {
  readonly link: Pick<UnionLink, 'locate'>;
  readonly clock: Clock;
  readonly log: Logger;
}

export class Whereabouts {
  readonly #options: WhereaboutsOptions;
  readonly #volumeId: string;
  #place: ServerPlace | undefined;
  #starts = 0;
  #askedAt = Number.NEGATIVE_INFINITY;
  #isAsking = false;

  constructor(options: WhereaboutsOptions, volumeId: string) {
    this.#options = options;
    this.#volumeId = volumeId;
  }

  /** Undefined until it is known. */
  get socket(): string | undefined {
    return this.#place?.socket;
  }

  /** How often the server's container was started again since the first answer. */
  get starts(): number {
    return this.#starts;
  }

  /** Asks, if it is time to. */
  ask(signal: AbortSignal): void {
    const now = this.#options.clock.now();
    if (this.#isAsking || now - this.#askedAt < INTERVAL_MS) return;
    this.#isAsking = true;
    this.#askedAt = now;
    void this.#ask(signal).finally(() => {
      this.#isAsking = false;
    });
  }

  async #ask(signal: AbortSignal): Promise<void> {
    const { link, log } = this.#options;
    try {
      const place = await link.locate(this.#volumeId, signal);
      if (place === undefined) return;
      if (this.#place !== undefined) this.#starts += Math.max(0, place.restarts - this.#place.restarts);
      this.#place = place;
    } catch (error) {
      if (!signal.aborted) log.warn('custodian.cannot_locate', { volumeId: this.#volumeId, error: messageOf(error) });
    }
  }
}
