/**
 * Reconciles UnionVolumes: observe, plan (src/union/plan-volume.ts), act. It owns their status.
 * Everything is read live before acting, every write is a compare-and-swap or repeatable, and nothing is remembered:
 * a reconcile that was cut off anywhere is completed by the next.
 */
import { assertNever } from '../base/assert.ts';
import { messageOf, UnionError } from '../base/errors.ts';
import { formatQuantity } from '../base/units.ts';
import { createWorkQueue } from '../kubernetes/workqueue.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '../protocol/objects.ts';
import {
  ANNOTATION_ADOPTED_BY,
  FINALIZER,
  FINALIZER_ADOPTED,
  LABEL_ATTACHMENT,
  LABEL_VOLUME,
  type UnionVolume,
} from '../protocol/resources.ts';
import { nextLookMs } from '../union/next-look.ts';
import { type ObservedVolume, planUnionVolume, type VolumeAction } from '../union/plan-volume.ts';
import { type ReconcilerDeps, written } from './cluster-view.ts';
import { observeVolume } from './observe-volume.ts';
import { tell } from './tell.ts';

/** Volumes worked on at once. */
const CONCURRENCY = 8;

/** Runs until the signal aborts. The view's informers must be running. */
export async function runUnionVolumeController(deps: ReconcilerDeps, signal: AbortSignal): Promise<void> {
  const { view } = deps;
  const queue = createWorkQueue({
    name: 'union-volume',
    work: (key, signal) => reconcileUnionVolume(deps, key, signal),
    concurrency: CONCURRENCY,
    log: deps.log,
    measure: deps.measure,
    clock: deps.clock,
  });
  const addAll = (names: readonly string[]) => {
    for (const name of names) queue.add(name);
  };
  const unsubscribe = [
    view.volumes.informer.onChange(({ key }) => queue.add(key)),
    view.attachments.informer.onChange(({ object }) => queue.add(object.spec.volume)),
    view.claims.informer.onChange(({ object }) => addAll(volumesOfClaim(deps, object.metadata))),
    view.pods.informer.onChange(({ object: { metadata } }) => {
      const volume = metadata.labels?.[LABEL_VOLUME];
      // Those of attachments are the attachments' concern.
      if (volume !== undefined && metadata.labels?.[LABEL_ATTACHMENT] === undefined) queue.add(volume);
    }),
    view.persistentVolumes.informer.onChange(({ object }) => addAll(volumesOfVolume(deps, object))),
  ];
  try {
    await queue.run(signal);
  } finally {
    for (const stop of unsubscribe) stop();
  }
}

function volumesOfVolume(deps: ReconcilerDeps, { spec }: PersistentVolume): readonly string[] {
  const { namespace, name } = spec?.claimRef ?? {};
  return name === undefined ? [] : volumesOfClaim(deps, { namespace, name });
}

function volumesOfClaim(
  { view }: ReconcilerDeps,
  { namespace, name }: { namespace?: string | undefined; name: string },
) {
  const concerned = ({ spec }: UnionVolume) =>
    spec.branches.some(({ claim }) => claim.name === name && claim.namespace === namespace);
  return view.volumes.informer
    .list()
    .filter(concerned)
    .map(({ metadata }) => metadata.name);
}

/** One round: exported for tests that step through it. */
export async function reconcileUnionVolume(
  deps: ReconcilerDeps,
  name: string,
  signal: AbortSignal,
): Promise<undefined | { requeueAfterMs: number }> {
  const observed = await observeVolume(deps, name, signal);
  if (!observed) return undefined;
  const actions = planUnionVolume(observed);
  for (const { kind } of actions) deps.log.debug('union-volume.action', { volume: name, action: kind });
  const failed = await changeClaims(deps, observed, actions, signal);
  // What could not be done is part of the status that the user sees.
  const told = failed.size === 0 ? actions : planUnionVolume(withWarnings(observed, failed));
  for (const action of told) await report(deps, observed.volume, action, signal);
  const [error] = failed.values();
  if (error) throw error;
  return nextLook(observed, told);
}

/** The actions on branches, all at once; errors by branch. */
async function changeClaims(
  deps: ReconcilerDeps,
  { volume }: ObservedVolume,
  actions: readonly VolumeAction[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, unknown>> {
  const failed = new Map<string, unknown>();
  await Promise.all(
    actions.map(async (action) => {
      if (!('branchId' in action)) return;
      try {
        await changeClaim(deps, volume, action, signal);
      } catch (error) {
        failed.set(action.branchId, error);
      }
    }),
  );
  signal.throwIfAborted();
  return failed;
}

type BranchAction = Extract<VolumeAction, { readonly branchId: string }>;

async function changeClaim(
  { view }: ReconcilerDeps,
  volume: UnionVolume,
  action: BranchAction,
  signal: AbortSignal,
): Promise<void> {
  const claims = view.claims.live;
  const patch = async (change: { readonly metadata?: object; readonly spec?: object }) => {
    const { claim } = action;
    const { uid, resourceVersion } = 'metadata' in claim ? claim.metadata : claim;
    const ref = 'metadata' in claim ? claim.metadata : claim;
    const metadata = { ...change.metadata, uid, resourceVersion };
    written<PersistentVolumeClaim>(await claims.patchMerge(ref, { ...change, metadata }, signal));
  };
  switch (action.kind) {
    case 'create-claim':
      written(await claims.create(action.claim, signal));
      return;
    case 'adopt-claim':
      return patch({
        metadata: {
          annotations: { [ANNOTATION_ADOPTED_BY]: volume.metadata.name },
          finalizers: [...new Set([...action.claim.finalizers, FINALIZER_ADOPTED])],
        },
      });
    case 'release-claim':
      return patch({
        metadata: {
          annotations: { [ANNOTATION_ADOPTED_BY]: null },
          finalizers: action.claim.finalizers.filter((finalizer) => finalizer !== FINALIZER_ADOPTED),
        },
      });
    case 'grow-claim':
      return patch({ spec: { resources: { requests: { storage: formatQuantity(action.sizeBytes) } } } });
    case 'delete-claim':
      written(await claims.delete(action.claim, { uid: action.claim.uid }, signal));
      return;
    default:
      assertNever(action);
  }
}

/** The actions on the union itself. */
async function report(
  deps: ReconcilerDeps,
  volume: UnionVolume,
  action: VolumeAction,
  signal: AbortSignal,
): Promise<void> {
  const volumes = deps.view.volumes.live;
  const { metadata } = volume;
  const setFinalizers = async (finalizers: readonly string[]) => {
    const { uid, resourceVersion } = metadata;
    const result = await volumes.patchMerge(metadata, { metadata: { finalizers, uid, resourceVersion } }, signal);
    // Gone already: what the last finalizer was for is done.
    if (result.ok || result.error.kind !== 'NOT_FOUND') written(result);
  };
  switch (action.kind) {
    case 'add-finalizer':
      return setFinalizers([...(metadata.finalizers ?? []), FINALIZER]);
    case 'remove-finalizer':
      return setFinalizers((metadata.finalizers ?? []).filter((finalizer) => finalizer !== FINALIZER));
    case 'delete-union': {
      const { uid, resourceVersion } = metadata;
      written(await volumes.delete(metadata, { uid, resourceVersion }, signal));
      return;
    }
    case 'create-pod':
      written(await deps.view.pods.live.create(action.pod, signal));
      return;
    case 'delete-pod':
      written(await deps.view.pods.live.delete(action.pod, { uid: action.pod.uid }, signal));
      return;
    case 'event':
      return tell(deps, { object: volume, claim: volume.spec.claim, event: action.event }, signal);
    case 'update-status':
      written(await volumes.updateStatus({ ...volume, status: action.status }, signal));
      return;
    default:
  }
}

function withWarnings(observed: ObservedVolume, failed: ReadonlyMap<string, unknown>): ObservedVolume {
  const branches = [...observed.branches].map(([id, branch]) => {
    const error = failed.get(id);
    // A lost race is nobody's concern: the next round is due at once.
    if (error === undefined || (error instanceof UnionError && error.code === 'ABORTED')) return [id, branch] as const;
    return [id, { ...branch, warning: messageOf(error) }] as const;
  });
  return { ...observed, branches: new Map(branches) };
}

function nextLook({ volume, now }: ObservedVolume, actions: readonly VolumeAction[]) {
  if (actions.some(({ kind }) => kind === 'remove-finalizer')) return undefined;
  const update = actions.find((action) => action.kind === 'update-status');
  const requeueAfterMs = nextLookMs((update?.status ?? volume.status)?.conditions ?? [], now);
  return requeueAfterMs === undefined ? undefined : { requeueAfterMs };
}
