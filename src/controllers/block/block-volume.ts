/**
 * Reconciles BlockVolumes for people and for CSI: phase and condition from what nodes and engine have written, events when they
 * change, spec.members as the configuration has them, and the end of a volume when no node has a replica of it any more. Beside
 * that, lost replicas are replaced (lost-replicas.ts). The data path needs none of this.
 */
import { type Clock, systemClock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { summarise } from '../../block/driver/volume-status.ts';
import type { KubeClient } from '../../kubernetes/client.ts';
import { createEventRecorder, type EventRecorder } from '../../kubernetes/events.ts';
import type { Informer } from '../../kubernetes/informer.ts';
import { BLOCK_POOL, BLOCK_VOLUME, EVENT, NODE } from '../../kubernetes/kinds.ts';
import { createRepository, type Repository } from '../../kubernetes/repository.ts';
import { createWorkQueue } from '../../kubernetes/workqueue.ts';
import { type BlockVolume, membersOf } from '../../protocol/block-resources.ts';
import type { Node } from '../../protocol/objects.ts';
import { FINALIZER } from '../../protocol/resources.ts';
import { condition, eventOf, findCondition } from '../../union/conditions.ts';
import { written } from '../cluster-view.ts';
import { LostReplicas } from './lost-replicas.ts';

const CONCURRENCY = 4;
/** A node that was taken out of the cluster is noticed so late. */
const LOOK_AGAIN_MS = 30_000;

interface Deps {
  readonly volumes: Repository<BlockVolume>;
  readonly nodes: Repository<Node>;
  readonly recorder: EventRecorder;
  readonly clock: Clock;
  /** What is done about a member that is lost. */
  readonly remarkOn: (volume: string) => string | undefined;
}

export interface BlockVolumeControllerOptions {
  readonly client: KubeClient;
  /** Must be running. */
  readonly changes: Informer<BlockVolume>;
  /** For how long a silent node is waited for before its replicas are made elsewhere. */
  readonly replaceAfterMs: number;
  readonly log: Logger;
}

/** Runs until the signal aborts. */
export async function runBlockVolumeController(
  { client, changes, replaceAfterMs, log }: BlockVolumeControllerOptions,
  signal: AbortSignal,
): Promise<void> {
  const volumes = createRepository(client, BLOCK_VOLUME);
  const nodes = createRepository(client, NODE);
  const recorder = createEventRecorder({ events: createRepository(client, EVENT), component: 'union-csi-block', log });
  const clock = systemClock;
  const lost = new LostReplicas({
    ...{ volumes, nodes, recorder, clock, log, volumeChanges: changes, delayMs: replaceAfterMs },
    pools: createRepository(client, BLOCK_POOL),
    onRemark: (volume) => queue.add(volume),
  });
  const deps: Deps = { volumes, nodes, recorder, clock, remarkOn: (volume) => lost.remarkOn(volume) };
  const work = (key: string, signal: AbortSignal) => reconcileBlockVolume(deps, key, signal);
  const queue = createWorkQueue({ name: 'block-volume', work, concurrency: CONCURRENCY, log });
  const unsubscribe = changes.onChange(({ key }) => queue.add(key));
  try {
    await Promise.all([queue.run(signal), lost.run(signal)]);
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
  const holders = Object.keys(volume.status?.replicas ?? {});
  const isDeleted = volume.metadata.deletionTimestamp !== undefined;
  if (isDeleted && holders.length === 0) return await removeFinalizer(deps, volume, signal);
  if (!isDeleted && (await followConfiguration(deps, volume, signal))) return undefined;
  // Of a volume that stays, those that are no members any more.
  const leaving = holders.filter((node) => isDeleted || !membersOf(volume).includes(node));
  await forgetLostNodes(deps, volume, leaving, signal);
  await writeStatus(deps, volume, signal);
  return leaving.length > 0 ? { requeueAfterMs: LOOK_AGAIN_MS } : undefined;
}

/** Writes the members of the configuration to the spec. Whether they were others: the volume comes again then. */
async function followConfiguration({ volumes }: Deps, volume: BlockVolume, signal: AbortSignal): Promise<boolean> {
  const { name, uid, resourceVersion } = volume.metadata;
  const members = membersOf(volume);
  if (isSame(members, volume.spec.members)) return false;
  written(await volumes.patchMerge({ name }, { metadata: { uid, resourceVersion }, spec: { members } }, signal));
  return true;
}

async function writeStatus({ volumes, recorder, clock, remarkOn }: Deps, volume: BlockVolume, signal: AbortSignal) {
  const { apiVersion, kind, metadata, status } = volume;
  const { name, uid, resourceVersion, generation } = metadata;
  const { phase, reason, message } = summarise(volume, remarkOn(name));
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
