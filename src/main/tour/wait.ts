/** Waiting for an object of the embedded cluster to be as wanted, told by its own events while it is not. */
import { messageOf, UnionError } from '../../base/errors.ts';
import { events, type Kind } from '../../embedded/api-server/kinds.ts';

import type { Store } from '../../embedded/api-server/store.ts';
import type { KubeObject } from '../../protocol/objects.ts';

export interface Wanted<T extends KubeObject> {
  readonly store: Store;
  readonly kind: Kind<T>;
  readonly ref: { readonly namespace?: string; readonly name: string };
  /** undefined: the object does not exist. */
  readonly until: (object: T | undefined) => boolean;
  readonly limitMs: number;
}

/** Resolves when `until` holds. After `limitMs` throws with the last warning about the object; aborts with the signal. */
export async function waitUntil<T extends KubeObject>(wanted: Wanted<T>, signal: AbortSignal): Promise<void> {
  const { store, kind, ref, until, limitMs } = wanted;
  const limit = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
  try {
    await new Promise<void>((resolve, reject) => {
      limit.addEventListener('abort', () => reject(limit.reason), { once: true });
      if (limit.aborted) reject(limit.reason);
      const look = () => {
        if (until(store.get(kind, ref))) resolve();
      };
      const unsubscribe = store.subscribe(kind, undefined, look);
      limit.addEventListener('abort', unsubscribe, { once: true });
      look();
    });
  } catch (error) {
    if (signal.aborted) throw error;
    const message = `${kind.kind} ${ref.name} is not as wanted after ${limitMs / 1000} s: ${lastWarning(store, ref.name) ?? messageOf(error)}`;
    throw new UnionError('DEADLINE_EXCEEDED', message);
  }
}

function lastWarning(store: Store, name: string): string | undefined {
  const warnings = store
    .list(events)
    .filter(({ type, involvedObject }) => type === 'Warning' && involvedObject?.name === name);
  return warnings.at(-1)?.message;
}
