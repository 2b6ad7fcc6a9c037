/** Empties a cluster before it ends: its pods first, and what they used follows as it always does. */
import type { Clock } from '../base/clock.ts';
import { nodes, pods, volumeAttachments } from './api-server/kinds.ts';
import type { Store } from './api-server/store.ts';

/** A pod has at most this long to end by itself: somebody waits for the prompt. */
const MAX_GRACE_SECONDS = 2;
const LIMIT_MS = 20_000;

/**
 * Deletes pods, and waits until they and their mounts and attachments are gone. Pods that others own (the servers of unions) go
 * when their owners do. Returns what was left when time was up.
 */
export async function drain(store: Store, clock: Clock): Promise<readonly string[]> {
  for (const pod of store.list(pods)) {
    if (pod.metadata.ownerReferences?.some(({ controller }) => controller)) continue;
    const ref = { namespace: pod.metadata.namespace!, name: pod.metadata.name };
    const own = pod.spec?.terminationGracePeriodSeconds ?? MAX_GRACE_SECONDS;
    store.delete(pods, ref, { gracePeriodSeconds: Math.min(own, MAX_GRACE_SECONDS) });
  }
  const emptied = Promise.withResolvers<void>();
  const look = () => remaining(store).length === 0 && emptied.resolve();
  const stops = [pods, volumeAttachments, nodes].map((kind) => store.subscribe(kind, store.resourceVersion, look));
  look();
  const limit = new AbortController();
  const slept = clock.sleep(LIMIT_MS, limit.signal).catch(() => {});
  await Promise.race([emptied.promise, slept]);
  limit.abort();
  for (const stop of stops) stop();
  return remaining(store);
}

function remaining(store: Store): readonly string[] {
  const mounted = store
    .list(nodes)
    .flatMap(({ metadata, status }) =>
      (status?.volumesInUse ?? []).map((volume) => `volume ${volume} is still in use on ${metadata.name}`),
    );
  const attached = store
    .list(volumeAttachments)
    .map(({ metadata }) => `volume attachment ${metadata.name} is still there`);
  const running = store.list(pods).map(({ metadata }) => `pod ${metadata.namespace}/${metadata.name} has not ended`);
  return [...running, ...mounted, ...attached];
}
