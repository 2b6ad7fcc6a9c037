/**
 * Who is told of changes. Listeners run after the write that caused the change, in order, and never inside one another:
 * a listener may write to the store.
 */
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Change } from './history.ts';

/** Receives the changes of one moment, oldest first; never empty. */
export type ChangeListener = (changes: readonly Change[]) => void;

interface Subscription {
  /** Undefined: every kind. */
  readonly kindKey: string | undefined;
  readonly listener: ChangeListener;
  queue: Change[];
}

export class Subscriptions {
  readonly #all = new Set<Subscription>();
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Starts with `past`. Returns what ends it; nothing is delivered after that. */
  add(kindKey: string | undefined, past: readonly Change[], listener: ChangeListener): () => void {
    const subscription: Subscription = { kindKey, listener, queue: [] };
    this.#all.add(subscription);
    for (const change of past) this.#enqueue(subscription, change);
    return () => {
      this.#all.delete(subscription);
    };
  }

  publish(change: Change): void {
    for (const subscription of this.#all) this.#enqueue(subscription, change);
  }

  close(): void {
    this.#all.clear();
  }

  #enqueue(subscription: Subscription, change: Change): void {
    if (subscription.kindKey !== undefined && subscription.kindKey !== change.kindKey) return;
    if (subscription.queue.push(change) > 1) return;
    queueMicrotask(() => {
      const changes = subscription.queue;
      subscription.queue = [];
      if (!this.#all.has(subscription)) return;
      try {
        subscription.listener(changes);
      } catch (error) {
        this.#log.error('watch-listener-failed', { kind: subscription.kindKey, error: messageOf(error) });
      }
    });
  }
}
