/**
 * Waiting for what a reconciler brings about. The truth is read live; changes seen by an informer only say when to read.
 */
import type { Clock } from '../base/clock.ts';
import type { Change } from '../kubernetes/informer.ts';
import type { RpcContext } from './interceptors.ts';

/** The most that one call waits. Callers repeat it, so this is a matter of how soon they hear what is pending. */
const MAX_WAIT_MS = 8_000;
/** What is left of a caller's deadline for our answer to reach it. */
const ANSWER_MARGIN_MS = 500;
/** For an informer that is behind: reads without a change. */
const REREAD_MS = 1_000;

/** What can tell of changes: an Informer. */
export interface Changes {
  onChange(listener: (change: Change<unknown>) => void): () => void;
}

export interface Wait<T> {
  readonly key: string;
  readonly changes: Changes;
  readonly read: (signal: AbortSignal) => Promise<T>;
  readonly done: (value: T) => boolean;
  readonly clock: Clock;
}

/** Reads until `done` or time is up, and returns what was read last. At least once. */
export async function waitUntil<T>(wait: Wait<T>, context: RpcContext): Promise<T> {
  const { signal } = context;
  const { key, changes, read, done, clock } = wait;
  const until = Math.min(clock.now() + MAX_WAIT_MS, context.deadline - ANSWER_MARGIN_MS);
  let changed = Promise.withResolvers<void>();
  const stop = changes.onChange((change) => {
    if (change.key === key) changed.resolve();
  });
  try {
    for (;;) {
      changed = Promise.withResolvers();
      const value = await read(signal);
      const left = until - clock.now();
      if (done(value) || left <= 0) return value;
      const timer = new AbortController();
      const slept = clock.sleep(Math.min(left, REREAD_MS), AbortSignal.any([signal, timer.signal]));
      await Promise.race([changed.promise, slept.catch(() => {})]);
      timer.abort();
      signal.throwIfAborted();
    }
  } finally {
    stop();
  }
}
