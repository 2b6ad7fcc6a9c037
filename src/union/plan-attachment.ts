/**
 * What to do next about a UnionAttachment: pure, from what was observed to a list of actions.
 * Invariants: a union that one node may use has server pods on one node; the attachment goes only when its pods are gone from the
 * API (a pod that may still run on a node that is cut off is not gone); a lost pod is replaced. One that is ending, or of another
 * version than we are, serves until a successor beside it can go on (csi/held-union.ts): never more than these two. Feeders
 * (plan-feeders.ts) stay as long as the server, which works in what they have mounted.
 * Source: kubernetes.md, sections 3 and 4.
 */
import type { PersistentVolumeClaim, Pod, StorageClass } from '../protocol/objects.ts';
import {
  ANNOTATION_IMAGE,
  DRIVER_NAMESPACE,
  FINALIZER,
  LABEL_BRANCH,
  type PodRef,
  type UnionAttachment,
  type UnionAttachmentStatus,
  type UnionVolume,
} from '../protocol/resources.ts';
import { isMultiNode } from './access-mode.ts';
import { type Standing, statusActions } from './attachment-status.ts';
import { refusalOf } from './branch-refusal.ts';
import { findCondition, type PlannedEvent } from './conditions.ts';
import { STEADY_MS } from './crash-loop.ts';
import { isOwnedBy } from './owner.ts';
import { isFeederOf, planFeeders, podRef } from './plan-feeders.ts';
import { type ServerPodOptions, serverPod } from './server-pod.ts';

export interface ObservedAttachment {
  readonly attachment: UnionAttachment;
  readonly volume: UnionVolume | undefined;
  /** Every attachment of the volume, this one included. */
  readonly attachments: readonly UnionAttachment[];
  /** Pods labelled as servers of the volume. */
  readonly servers: readonly Pod[];
  /** Claims and pods of the branches' namespace; needed where claims are adopted. */
  readonly claims: readonly PersistentVolumeClaim[];
  readonly pods: readonly Pod[];
  readonly storageClasses: readonly StorageClass[];
  readonly server: ServerPodOptions;
  /** No other union's server is just being replaced on the node. */
  readonly mayReplace: boolean;
  /** RFC 3339. */
  readonly now: string;
}

export type AttachmentAction =
  | { readonly kind: 'add-finalizer' }
  | { readonly kind: 'create-pod'; readonly pod: Pod }
  | { readonly kind: 'delete-pod'; readonly pod: PodRef }
  | { readonly kind: 'remove-finalizer' }
  | { readonly kind: 'event'; readonly event: PlannedEvent }
  | { readonly kind: 'update-status'; readonly status: UnionAttachmentStatus };

export function planUnionAttachment(observed: ObservedAttachment): readonly AttachmentAction[] {
  const { attachment, servers } = observed;
  const held = attachment.metadata.finalizers?.includes(FINALIZER) === true;
  const own = servers.filter((server) => isServerOf(attachment, server));
  if (attachment.metadata.deletionTimestamp) return held ? planDetach(observed, own) : [];
  if (!held) return [{ kind: 'add-finalizer' }];
  const leaving = own.find(({ metadata }) => metadata.deletionTimestamp);
  const live = own.filter(({ metadata }) => !metadata.deletionTimestamp);
  const outdated = leaving ? undefined : live.find((pod) => isOutdated(pod, observed.server));
  if (outdated) {
    const successor = live.find((pod) => pod !== outdated);
    return planReplacement(observed, outdated, successor);
  }
  const [staying] = live;
  const isStarting = (staying?.status?.phase ?? 'Pending') === 'Pending';
  if (leaving && isStarting) return planSuccession(observed, leaving, staying);
  return staying ? planRunning(observed, staying) : planStart(observed);
}

function planDetach(observed: ObservedAttachment, own: readonly Pod[]): readonly AttachmentAction[] {
  const [pod] = own;
  if (!pod) return planEnd(observed);
  const message = `waits for ${titleOf(pod)} to end`;
  const staying = own.filter(({ metadata }) => !metadata.deletionTimestamp);
  const deletions = staying.map((each) => ({ kind: 'delete-pod', pod: podRef(each) }) as const);
  return [...deletions, ...statusActions(observed, { reason: 'Detaching', message, pod })];
}

/** Whoever uses the union is served by the pod that is ending, where the node plugin reaches it, until its successor runs. */
function planSuccession(
  observed: ObservedAttachment,
  leaving: Pod,
  successor: Pod | undefined,
): readonly AttachmentAction[] {
  const title = titleOf(leaving);
  if (successor) {
    const message = `${title} is ending; ${startingMessage(titleOf(successor), successor)}`;
    return statusActions(observed, { reason: 'Starting', message, pod: leaving });
  }
  const pod = isHeardOf(leaving) ? successorOf(observed) : undefined;
  const next = pod ? `${titleOf(pod)} is to follow it` : 'it is then started anew';
  return [
    ...(pod ? [{ kind: 'create-pod' as const, pod }] : []),
    ...statusActions(observed, { reason: 'Starting', message: `${title} is ending; ${next}`, pod: leaving }),
  ];
}

/** The old server is asked to end when the new one is there, and no sooner: that may never start. */
function planReplacement(
  observed: ObservedAttachment,
  outdated: Pod,
  successor: Pod | undefined,
): readonly AttachmentAction[] {
  const goesOn = planRunning(observed, outdated);
  if (successor === undefined) {
    const pod = observed.mayReplace && !mustBeAlone(observed) ? successorOf(observed) : undefined;
    return pod ? [{ kind: 'create-pod', pod }, ...goesOn] : goesOn;
  }
  const end = (pod: Pod): AttachmentAction => ({ kind: 'delete-pod', pod: podRef(pod) });
  if (hasEnded(successor)) return [end(successor), ...goesOn];
  return isReady(successor) ? [end(outdated), ...goesOn] : goesOn;
}

export function isOutdated({ metadata }: Pod, { image }: ServerPodOptions): boolean {
  return metadata.annotations?.[ANNOTATION_IMAGE] !== image;
}

/** Of a node that is cut off nothing is heard: neither that its pods are ready, nor that they have stopped. */
function isHeardOf(pod: Pod): boolean {
  const stopped = pod.status?.containerStatuses?.some(({ state }) => state?.waiting || state?.terminated);
  return isReady(pod) || stopped === true;
}

function isReady({ status }: Pod): boolean {
  return status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;
}

/**
 * Kubelet makes it wait, 10 s and then longer and longer, because it has ended before; but it had served well. Another pod is there
 * sooner. One that dies early is kubelet's to wait with.
 */
function isHeldBack({ status }: Pod): boolean {
  const [server] = status?.containerStatuses ?? [];
  const { startedAt, finishedAt } = server?.lastState?.terminated ?? {};
  if (server?.state?.waiting?.reason !== 'CrashLoopBackOff' || server.restartCount === 0) return false;
  return startedAt && finishedAt ? Date.parse(finishedAt) - Date.parse(startedAt) >= STEADY_MS : false;
}

/** For good: evicted, its node restarted. */
function hasEnded({ status }: Pod): boolean {
  return status?.phase === 'Failed' || status?.phase === 'Succeeded';
}

/** Adopted claims that one pod may use cannot be mounted by two at a time. */
function mustBeAlone({ volume, claims }: ObservedAttachment): boolean {
  const adopted = volume?.spec.branches.filter(({ origin }) => origin === 'adopted') ?? [];
  return adopted.some(({ claim: { namespace, name } }) =>
    claims
      .find(({ metadata }) => metadata.namespace === namespace && metadata.name === name)
      ?.spec?.accessModes?.includes('ReadWriteOncePod'),
  );
}

/** Another server pod beside the one that is there, if there may be one. */
function successorOf(observed: ObservedAttachment): Pod | undefined {
  const { volume, attachment, server, servers } = observed;
  const names = [attachment.metadata.name, `${attachment.metadata.name}-2`];
  const name = names.find((free) => !servers.some(({ metadata }) => metadata.name === free));
  if (!volume || name === undefined || obstacleOf(observed)) return undefined;
  return serverPod(volume, attachment, { ...server, name });
}

/** The server is gone, and with it what it did on branches that feeders have mounted. */
function planEnd(observed: ObservedAttachment): readonly AttachmentAction[] {
  const left = observed.servers.filter((pod) => isFeederOf(observed.attachment, pod));
  if (left.length === 0) return [{ kind: 'remove-finalizer' }];
  const message = `waits for feeder pods to end: ${left.map(({ metadata }) => metadata.name).join(', ')}`;
  const ends = left.filter(({ metadata }) => !metadata.deletionTimestamp);
  return [
    ...ends.map((pod) => ({ kind: 'delete-pod' as const, pod: podRef(pod) })),
    ...statusActions(observed, { reason: 'Detaching', message }),
  ];
}

function planRunning(observed: ObservedAttachment, pod: Pod): readonly AttachmentAction[] {
  const { actions, refusals } = planFeeders(observed, pod);
  return [...actions, ...planServer(observed, pod, refusals)];
}

function planServer(observed: ObservedAttachment, pod: Pod, refusals: readonly string[]): readonly AttachmentAction[] {
  const title = titleOf(pod);
  const { phase } = pod.status ?? {};
  // It makes room for the next.
  if (hasEnded(pod)) {
    const message = `${title} has ended (${pod.status?.reason ?? phase}), and is started anew`;
    return [{ kind: 'delete-pod', pod: podRef(pod) }, ...statusActions(observed, { reason: 'Starting', message })];
  }
  if (phase === 'Running') {
    const { mount } = observed.attachment.status ?? {};
    if (mount?.state === 'Held') {
      const what = `no server lives in ${title}; applications wait for the next one`;
      const end: readonly AttachmentAction[] = isHeldBack(pod) ? [{ kind: 'delete-pod', pod: podRef(pod) }] : [];
      return [...end, ...statusActions(observed, { reason: 'ServerDied', message: what, pod })];
    }
    if (mount?.state === 'Failed') {
      const what = `${title} does not serve, and applications get errors: ${mount.message}`;
      return statusActions(observed, { reason: 'ServerFails', message: what, pod });
    }
    const slow = pod.metadata.namespace === DRIVER_NAMESPACE ? '' : `; file data goes through it, which ${WHY_SLOW}`;
    const message = [`${title} runs${slow}`, ...refusals].join('; ');
    return statusActions(observed, { reason: 'Ready', message, pod });
  }
  return statusActions(observed, { reason: 'Starting', message: startingMessage(title, pod), pod });
}

/** Passthrough needs SYS_ADMIN, and a namespace that is not ours may forbid it (server-pod.ts). */
const WHY_SLOW = 'is slower: branches in the namespace of a claim get no passthrough';

/** What kubelet or the scheduler says the pod waits for. */
function startingMessage(title: string, pod: Pod): string {
  const waiting = pod.status?.containerStatuses?.find(({ state }) => state?.waiting)?.state?.waiting;
  if (waiting?.reason) return `${title}: ${waiting.reason}${waiting.message ? `, ${waiting.message}` : ''}`;
  const scheduled = pod.status?.conditions?.find(({ type }) => type === 'PodScheduled');
  if (pod.spec?.nodeName) return `${title} is starting`;
  return `${title} waits for the scheduler${scheduled?.message ? `: ${scheduled.message}` : ''}`;
}

function planStart(observed: ObservedAttachment): readonly AttachmentAction[] {
  const { volume, attachment, server } = observed;
  const obstacle = obstacleOf(observed);
  if (obstacle || !volume) {
    return statusActions(observed, obstacle ?? { reason: 'VolumeGone', message: 'the union is gone' });
  }
  const pod = serverPod(volume, attachment, server);
  const message = `${titleOf(pod)} is being made`;
  return [{ kind: 'create-pod', pod }, ...statusActions(observed, { reason: 'Starting', message })];
}

/** Why no server may start now. */
function obstacleOf(observed: ObservedAttachment): Standing | undefined {
  const { attachment, volume } = observed;
  if (!volume || volume.metadata.deletionTimestamp) {
    const message = `union "${attachment.spec.volume}" ${volume ? 'is being deleted' : 'does not exist'}`;
    return { reason: 'VolumeGone', message };
  }
  if (volume.status?.phase !== 'Ready') {
    const why = findCondition(volume.status?.conditions, 'Ready')?.message ?? 'its branches are not known yet';
    const reason = volume.status?.phase === 'Failed' ? 'VolumeFailed' : 'VolumeNotReady';
    return { reason, message: `union "${volume.metadata.name}" is not ready: ${why}` };
  }
  const rival = volume.spec.accessModes.some(isMultiNode) ? undefined : rivalOf(observed);
  if (rival) {
    const message = `union "${volume.metadata.name}" is attached to node "${rival.spec.node}", and its access modes allow one node`;
    return { reason: 'AttachedElsewhere', message };
  }
  for (const branch of volume.spec.branches) {
    const refusal = refusalOf(observed, volume, branch);
    if (refusal !== undefined) return { reason: 'BranchRefused', message: refusal };
  }
  return undefined;
}

/** The other attachment that has a server, or was first. */
function rivalOf({ attachment, attachments, servers }: ObservedAttachment): UnionAttachment | undefined {
  const others = attachments.filter(({ metadata }) => metadata.uid !== attachment.metadata.uid);
  return (
    others.find((other) => servers.some((server) => isServerOf(other, server))) ??
    others.find((other) => ageOf(other) < ageOf(attachment))
  );
}

function ageOf({ metadata }: UnionAttachment): string {
  return `${metadata.creationTimestamp ?? ''} ${metadata.name}`;
}

function isServerOf(attachment: UnionAttachment, pod: Pod): boolean {
  return isOwnedBy(attachment, pod) && pod.metadata.labels?.[LABEL_BRANCH] === undefined;
}

function titleOf({ metadata }: Pod): string {
  return `server pod "${metadata.namespace}/${metadata.name}"`;
}
