/**
 * Reconciles BlockVolumes for people and for CSI: phase and condition from what nodes and engine have written, events when they
 * change, and the end of a volume when no node has a replica of it any more. The data path needs none of this.
 */
import { type Clock, systemClock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { summarise } from '../../block/driver/volume-status.ts';
import type { KubeClient } from '../../kubernetes/client.ts';
import { createEventRecorder, type EventRecorder } from '../../kubernetes/events.ts';
import type { Informer } from '../../kubernetes/informer.ts';
import { BLOCK_VOLUME, EVENT, NODE } from '../../kubernetes/kinds.ts';
import { createRepository, type Repository } from '../../kubernetes/repository.ts';
import { createWorkQueue } from '../../kubernetes/workqueue.ts';
import type { BlockVolume } from '../../protocol/block-resources.ts';
import type { Node } from '../../protocol/objects.ts';
import { FINALIZER } from '../../protocol/resources.ts';
import { condition, eventOf, findCondition } from '../../union/conditions.ts';
import { written } from '../cluster-view.ts';

const CONCURRENCY = 4;
/** A node that was taken out of the cluster is noticed so late. */
const LOOK_AGAIN_MS = 30_000;

interface Deps {
  readonly volumes: Repository<BlockVolume>;
  readonly nodes: Repository<Node>;
  readonly recorder: EventRecorder;
  readonly clock: Clock;
}

/** Runs until the signal aborts. The informer must be running. */
export async function runBlockVolumeController(
  { client, changes, log }: { client: KubeClient; changes: Informer<BlockVolume>; log: Logger },
  signal: AbortSignal,
): Promise<void> {
  const deps: Deps = {
    volumes: createRepository(client, BLOCK_VOLUME),
    nodes: createRepository(client, NODE),
    recorder: createEventRecorder({ events: createRepository(client, EVENT), component: 'union-csi-block', log }),
    clock: systemClock,
  };
  const work = (key: string, signal: AbortSignal) => reconcileBlockVolume(deps, key, signal);
  const queue = createWorkQueue({ name: 'block-volume', work, concurrency: CONCURRENCY, log });
  const unsubscribe = changes.onChange(({ key }) => queue.add(key));
  try {
    await queue.run(signal);
  } finally {
    unsubscribe();
  }
}

async function reconcileBlockVolume(
  deps: Deps,
  name: string,
  signal: AbortSignal,
): Promise<undefined | { requeueAfterMs: number }> {
  const volume = await deps.volumes.get({ name }, signal);
  if (volume === undefined) return undefined;
  if (volume.metadata.deletionTimestamp) {
    const left = Object.keys(volume.status?.replicas ?? {});
    if (left.length === 0) return await removeFinalizer(deps, volume, signal);
    await forgetLostNodes(deps, volume, left, signal);
  }
  await writeStatus(deps, volume, signal);
  return volume.metadata.deletionTimestamp ? { requeueAfterMs: LOOK_AGAIN_MS } : undefined;
}

async function writeStatus({ volumes, recorder, clock }: Deps, volume: BlockVolume, signal: AbortSignal) {
  const { apiVersion, kind, metadata, status } = volume;
  const { name, uid, resourceVersion, generation } = metadata;
  const { phase, reason, message } = summarise(volume);
  const isReady = phase === 'Ready' || phase === 'Degraded';
  const before = findCondition(status?.conditions, 'Ready');
  const now = new Date(clock.now()).toISOString();
  const facts = { type: 'Ready', status: isReady ? 'True' : 'False', reason, message } as const;
  const after = condition(facts, { before: status?.conditions ?? [], now, generation });
  if (status?.phase === phase && status.observedGeneration === generation && isSame(before, after)) return;
  const patch = { phase, conditions: [after], observedGeneration: generation };
  written(await volumes.patchStatusMerge({ name }, { metadata: { uid, resourceVersion }, status: patch }, signal));
  const event = eventOf(before, after);
  if (event) await recorder.emit({ apiVersion, kind, name, uid }, event, signal);
}

function isSame(before: object | undefined, after: object): boolean {
  return JSON.stringify(before) === JSON.stringify(after);
}

/** Nobody can remove a replica on a node that the cluster does not have any more. */
async function forgetLostNodes({ volumes, nodes }: Deps, volume: BlockVolume, left: string[], signal: AbortSignal) {
  const { name, uid } = volume.metadata;
  for (const node of left) {
    if ((await nodes.get({ name: node }, signal)) !== undefined) continue;
    await volumes.patchStatusMerge({ name }, { metadata: { uid }, status: { replicas: { [node]: null } } }, signal);
  }
}

async function removeFinalizer({ volumes }: Deps, { metadata }: BlockVolume, signal: AbortSignal): Promise<undefined> {
  const { name, uid, resourceVersion } = metadata;
  const finalizers = (metadata.finalizers ?? []).filter((finalizer) => finalizer !== FINALIZER);
  const result = await volumes.patchMerge({ name }, { metadata: { finalizers, uid, resourceVersion } }, signal);
  if (result.ok || result.error.kind !== 'NOT_FOUND') written(result);
  return undefined;
}
