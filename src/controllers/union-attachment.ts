/**
 * Reconciles UnionAttachments: a server pod for each volume on a node (src/union/plan-attachment.ts).
 * Attachments of one volume are worked on one after the other: which of two may have a server is decided once.
 */
import { assertNever } from '../base/assert.ts';
import { KeyedMutex } from '../base/keyed-mutex.ts';
import { createWorkQueue } from '../kubernetes/workqueue.ts';
import { FINALIZER, LABEL_ATTACHMENT, LABEL_VOLUME, type UnionAttachment } from '../protocol/resources.ts';
import { findCondition } from '../union/conditions.ts';
import { branchNamespace } from '../union/ids.ts';
import {
  type AttachmentAction,
  isOutdated,
  type ObservedAttachment,
  planUnionAttachment,
} from '../union/plan-attachment.ts';
import { type ReconcilerDeps, written } from './cluster-view.ts';
import { mayReplace, nextOutdated } from './outdated.ts';
import { tell } from './tell.ts';

const CONCURRENCY = 8;
/** A branch that someone else uses is asked for again so often: we do not watch all pods. */
const REFUSED_MS = 2_000;

/** Runs until the signal aborts. The view's informers must be running. */
export async function runUnionAttachmentController(deps: ReconcilerDeps, signal: AbortSignal): Promise<void> {
  const { view } = deps;
  const mutex = new KeyedMutex();
  const queue = createWorkQueue({
    name: 'union-attachment',
    work: async (key, signal) => {
      const volume = view.attachments.informer.get(key)?.spec.volume ?? key;
      const outcome = await mutex.run(volume, () => reconcileUnionAttachment(deps, key, signal));
      if (outcome?.isPassedOver) addNext(key, { wraps: false });
      return outcome?.requeueAfterMs === undefined ? undefined : { requeueAfterMs: outcome.requeueAfterMs };
    },
    concurrency: CONCURRENCY,
    log: deps.log,
    measure: deps.measure,
    clock: deps.clock,
  });
  const addNext = (after: string, how: { wraps: boolean }) => {
    const next = nextOutdated(deps, after, how);
    if (next !== undefined) queue.add(next);
  };
  const addAllOf = (volume: string) => {
    for (const { metadata, spec } of view.attachments.informer.list())
      if (spec.volume === volume) queue.add(metadata.name);
  };
  const unsubscribe = [
    view.attachments.informer.onChange(({ key, kind, object }) => {
      queue.add(key);
      // One that goes makes room for another.
      if (kind === 'deleted') addAllOf(object.spec.volume);
    }),
    view.volumes.informer.onChange(({ key }) => addAllOf(key)),
    view.pods.informer.onChange(({ object }) => {
      const name = object.metadata.labels?.[LABEL_ATTACHMENT];
      if (name === undefined) return;
      queue.add(name);
      addNext(name, { wraps: true });
    }),
  ];
  try {
    await queue.run(signal);
  } finally {
    for (const stop of unsubscribe) stop();
  }
}

export interface AttachmentOutcome {
  readonly requeueAfterMs?: number;
  /** Its server is of another version, and cannot be replaced now: another one's may be. */
  readonly isPassedOver: boolean;
}

/** One round: exported for tests that step through it. */
export async function reconcileUnionAttachment(
  deps: ReconcilerDeps,
  name: string,
  signal: AbortSignal,
): Promise<undefined | AttachmentOutcome> {
  const observed = await observe(deps, name, signal);
  if (!observed) return undefined;
  const actions = planUnionAttachment(observed);
  for (const action of actions) {
    deps.log.debug('union-attachment.action', { attachment: name, action: action.kind });
    await act(deps, observed, action, signal);
  }
  const update = actions.find((action) => action.kind === 'update-status');
  const status = update?.status ?? observed.attachment.status;
  const { servers, mayReplace } = observed;
  const isReplacing = actions.some(({ kind }) => kind === 'create-pod' || kind === 'delete-pod');
  const isPassedOver = mayReplace && !isReplacing && servers.some((pod) => isOutdated(pod, deps.server));
  // A union that has failed is heard of when it changes.
  const isRefused = status?.phase === 'Failed' && findCondition(status.conditions, 'Ready')?.reason !== 'VolumeFailed';
  return { ...(isRefused && { requeueAfterMs: REFUSED_MS }), isPassedOver };
}

async function observe(
  deps: ReconcilerDeps,
  name: string,
  signal: AbortSignal,
): Promise<ObservedAttachment | undefined> {
  const { view, clock, server } = deps;
  const attachment = await view.attachments.live.get({ name }, signal);
  if (!attachment) return undefined;
  const volumeName = attachment.spec.volume;
  const [volume, attachments, servers, storageClasses] = await Promise.all([
    view.volumes.live.get({ name: volumeName }, signal),
    view.attachments.live.list({ fieldSelector: `spec.volume=${volumeName}` }, signal),
    view.pods.live.list({ labelSelector: `${LABEL_VOLUME}=${volumeName}` }, signal),
    view.storageClasses.list({}, signal),
  ]);
  const adopts = volume?.spec.branches.some(({ origin }) => origin === 'adopted') === true;
  const namespace = volume && adopts ? branchNamespace(volume.spec) : undefined;
  const [claims, pods] =
    namespace === undefined
      ? [[], []]
      : await Promise.all([view.claims.live.list({ namespace }, signal), view.pods.live.list({ namespace }, signal)]);
  const now = new Date(clock.now()).toISOString();
  return {
    ...{ attachment, volume, attachments, servers, claims, pods, storageClasses, server, now },
    mayReplace: mayReplace(deps, name, attachment.spec.node),
  };
}

async function act(
  deps: ReconcilerDeps,
  { attachment, volume }: ObservedAttachment,
  action: AttachmentAction,
  signal: AbortSignal,
): Promise<void> {
  const { view } = deps;
  switch (action.kind) {
    case 'add-finalizer':
      return setFinalizers(deps, attachment, [...(attachment.metadata.finalizers ?? []), FINALIZER], signal);
    case 'remove-finalizer': {
      const others = (attachment.metadata.finalizers ?? []).filter((finalizer) => finalizer !== FINALIZER);
      return setFinalizers(deps, attachment, others, signal);
    }
    case 'create-pod':
      written(await view.pods.live.create(action.pod, signal));
      return;
    case 'delete-pod':
      written(await view.pods.live.delete(action.pod, { uid: action.pod.uid }, signal));
      return;
    case 'event':
      return tell(deps, { object: attachment, claim: volume?.spec.claim, event: action.event }, signal);
    case 'update-status':
      written(await view.attachments.live.updateStatus({ ...attachment, status: action.status }, signal));
      return;
    default:
      assertNever(action);
  }
}

async function setFinalizers(
  { view }: ReconcilerDeps,
  { metadata }: UnionAttachment,
  finalizers: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const { uid, resourceVersion } = metadata;
  const patch = { metadata: { finalizers, uid, resourceVersion } };
  const result = await view.attachments.live.patchMerge(metadata, patch, signal);
  // Gone already: what the finalizer was for is done.
  if (result.ok || result.error.kind !== 'NOT_FOUND') written(result);
}
