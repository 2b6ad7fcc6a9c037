/**
 * A keyed work queue: a key waits once however often it is added, is never worked on twice at a time, and comes back
 * with exponential back-off when its work fails. A key added while it is worked on is done once more afterwards.
 * QueueState is the pure core, told the time; createWorkQueue runs it. Keys are names of existing objects, so the number
 * of them is bounded by the cluster.
 */
import { type Clock, systemClock } from '../base/clock.ts';
import { messageOf, UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';

export interface Backoff {
  readonly baseMs: number;
  readonly maxMs: number;
}

/** Fast at first, for what is about to be there; slow when it is not. */
export const DEFAULT_BACKOFF: Backoff = { baseMs: 50, maxMs: 60_000 };

export type Outcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'failed' }
  /** Succeeded, and wants to look again later: a time-out to watch, a slow neighbour without events. */
  | { readonly kind: 'again'; readonly afterMs: number };

export class QueueState {
  /** When each waiting key is due. */
  readonly #due = new Map<string, number>();
  readonly #running = new Set<string>();
  readonly #failures = new Map<string, number>();
  readonly #backoff: Backoff;
  readonly #random: () => number;

  constructor(backoff: Backoff, random: () => number) {
    this.#backoff = backoff;
    this.#random = random;
  }

  /** Makes the key due at `at`, or leaves it due earlier. */
  add(key: string, at: number): void {
    const due = this.#due.get(key);
    if (due === undefined || at < due) this.#due.set(key, at);
  }

  /** The longest due key that nobody works on, now taken. */
  take(now: number): string | undefined {
    const key = this.#earliest();
    if (key === undefined || this.#due.get(key)! > now) return undefined;
    this.#due.delete(key);
    this.#running.add(key);
    return key;
  }

  finish(key: string, outcome: Outcome, now: number): void {
    this.#running.delete(key);
    if (outcome.kind === 'failed') {
      const failures = this.failuresOf(key) + 1;
      this.#failures.set(key, failures);
      this.add(key, now + this.#delay(failures));
      return;
    }
    this.#failures.delete(key);
    if (outcome.kind === 'again') this.add(key, now + outcome.afterMs);
  }

  /** When take() will next have something, as far as is known. */
  nextDueAt(): number | undefined {
    const key = this.#earliest();
    return key === undefined ? undefined : this.#due.get(key);
  }

  failuresOf(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  get running(): number {
    return this.#running.size;
  }

  get waiting(): number {
    return this.#due.size;
  }

  /** Between half of and the whole of base · 2^(failures - 1), so that many keys do not come back at one moment. */
  #delay(failures: number): number {
    const full = Math.min(this.#backoff.maxMs, this.#backoff.baseMs * 2 ** Math.min(failures - 1, 30));
    return full * (0.5 + this.#random() / 2);
  }

  #earliest(): string | undefined {
    let best: string | undefined;
    let bestDue = Number.POSITIVE_INFINITY;
    for (const [key, due] of this.#due) {
      if (due < bestDue && !this.#running.has(key)) {
        best = key;
        bestDue = due;
      }
    }
    return best;
  }
}

export interface WorkQueue {
  add(key: string): void;
  addAfter(key: string, delayMs: number): void;
  /** Works until the signal aborts, and resolves when the work under way has ended too. */
  run(signal: AbortSignal): Promise<void>;
}

export interface WorkMeasurement {
  readonly queue: string;
  readonly outcome: Outcome['kind'];
  readonly seconds: number;
}

export interface WorkQueueOptions {
  /** For logs and measurements. */
  readonly name: string;
  /** Throwing means: later again. `requeueAfterMs`: all well, but look again then. */
  readonly work: (key: string, signal: AbortSignal) => Promise<undefined | { readonly requeueAfterMs: number }>;
  /** Keys worked on at once. */
  readonly concurrency: number;
  readonly log: Logger;
  readonly measure?: ((measurement: WorkMeasurement) => void) | undefined;
  readonly backoff?: Backoff;
  readonly clock?: Clock;
  readonly random?: () => number;
}

export function createWorkQueue(options: WorkQueueOptions): WorkQueue {
  const { name, work, concurrency, log, measure, clock = systemClock } = options;
  const state = new QueueState(options.backoff ?? DEFAULT_BACKOFF, options.random ?? Math.random);
  let wake = Promise.withResolvers<void>();

  const one = async (key: string, signal: AbortSignal): Promise<void> => {
    const startedAt = performance.now();
    let outcome: Outcome;
    try {
      const answer = await work(key, signal);
      outcome = answer === undefined ? { kind: 'done' } : { kind: 'again', afterMs: answer.requeueAfterMs };
    } catch (error) {
      outcome = { kind: 'failed' };
      if (!signal.aborted) report({ log, name, key, failures: state.failuresOf(key) + 1 }, error);
    }
    state.finish(key, outcome, clock.now());
    measure?.({ queue: name, outcome: outcome.kind, seconds: (performance.now() - startedAt) / 1000 });
    wake.resolve();
  };

  return {
    add(key) {
      state.add(key, clock.now());
      wake.resolve();
    },
    addAfter(key, delayMs) {
      state.add(key, clock.now() + delayMs);
      wake.resolve();
    },
    async run(signal) {
      const underWay = new Set<Promise<void>>();
      while (!signal.aborted) {
        wake = Promise.withResolvers<void>();
        while (state.running < concurrency) {
          const key = state.take(clock.now());
          if (key === undefined) break;
          const running = one(key, signal).finally(() => underWay.delete(running));
          underWay.add(running);
        }
        const due = state.running < concurrency ? state.nextDueAt() : undefined;
        await wokenOrDue({ woken: wake.promise, due, clock }, signal);
      }
      await Promise.all(underWay);
    },
  };
}

async function wokenOrDue(
  { woken, due, clock }: { woken: Promise<void>; due: number | undefined; clock: Clock },
  signal: AbortSignal,
): Promise<void> {
  const timer = new AbortController();
  const stop = () => timer.abort();
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  // Without a due key only a wake or the signal ends the wait: an hour is as good as for ever.
  const delayMs = due === undefined ? 3_600_000 : Math.max(0, due - clock.now());
  const slept = clock.sleep(delayMs, timer.signal).catch(() => {});
  await Promise.race([woken, slept]);
  stop();
  signal.removeEventListener('abort', stop);
}

function report(where: { log: Logger; name: string; key: string; failures: number }, error: unknown): void {
  const { log, name, key, failures } = where;
  const fields = { queue: name, key, failures, message: messageOf(error) };
  const expected = error instanceof UnionError && (error.code === 'UNAVAILABLE' || error.code === 'ABORTED');
  if (expected && failures < 5) log.debug('work.retry', fields);
  else log.warn('work.failed', { ...fields, ...(!(error instanceof UnionError) && { stack: stackOf(error) }) });
}

function stackOf(error: unknown): string | undefined {
  return error instanceof Error ? error.stack : undefined;
}
