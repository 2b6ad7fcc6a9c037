/**
 * ControllerPublish and ControllerUnpublish: a UnionAttachment per volume and node, whose reconciler makes the server pod.
 * A volume for one node is on one node: attachments are looked for before writing ours and again after, and whoever then
 * sees another one withdraws. Of two that race at most one stays; if both withdraw, both are repeated.
 */
import { UnionError } from '../base/errors.ts';
import type { ControllerPublishVolumeRequest__Output } from '../protocol/generated/csi/v1/ControllerPublishVolumeRequest.ts';
import type { ControllerPublishVolumeResponse } from '../protocol/generated/csi/v1/ControllerPublishVolumeResponse.ts';
import type { ControllerUnpublishVolumeRequest__Output } from '../protocol/generated/csi/v1/ControllerUnpublishVolumeRequest.ts';
import type { ControllerUnpublishVolumeResponse } from '../protocol/generated/csi/v1/ControllerUnpublishVolumeResponse.ts';
import { API_GROUP, API_VERSION, FINALIZER, type UnionAttachment, type UnionVolume } from '../protocol/resources.ts';
import { isMultiNode } from '../union/access-mode.ts';
import { attachmentNameOf } from '../union/ids.ts';
import { type Capability, capabilityObstacle, parseCapability } from './capabilities.ts';
import { attachmentsOf, type ControllerDependencies, hasServer, need, needVolume } from './controller-common.ts';
import type { RpcContext } from './interceptors.ts';
import { waitUntil } from './waiting.ts';

/** Answers when the server pod is scheduled: from then on kubelet has it, and NodeStage waits for it. */
export async function publishVolume(
  deps: ControllerDependencies,
  request: ControllerPublishVolumeRequest__Output,
  context: RpcContext,
): Promise<ControllerPublishVolumeResponse> {
  const { signal } = context;
  const volumeId = need(request.volumeId, 'volume_id');
  const node = need(request.nodeId, 'node_id');
  const capability = parseCapability(request.volumeCapability);
  const volume = await publishable(deps, volumeId, signal);
  if ((await deps.nodes.get({ name: node }, signal)) === undefined) {
    throw new UnionError('NOT_FOUND', `node "${node}" does not exist`);
  }
  const obstacle = capabilityObstacle(volume.spec, capability);
  if (obstacle !== undefined) throw new UnionError('INVALID_ARGUMENT', obstacle);

  const wanted = unionAttachment(volumeId, node, request.readonly || capability.readOnly);
  const { uid } = (await attached(deps, { wanted, capability }, context)).metadata;
  const current = await waitUntil(
    {
      key: wanted.metadata.name,
      changes: deps.attachmentChanges,
      clock: deps.clock,
      read: (readSignal) => deps.attachments.get(wanted.metadata, readSignal),
      done: (latest) => latest === undefined || latest.metadata.uid !== uid || isSettled(latest),
    },
    context,
  );
  if (current === undefined || current.metadata.uid !== uid || current.metadata.deletionTimestamp) {
    throw new UnionError('ABORTED', `volume "${volumeId}" was detached from node "${node}" meanwhile; repeat the call`);
  }
  if (hasServer(current)) return { publishContext: {} };
  const message = `volume "${volumeId}" on node "${node}": ${pendingOf(current)}`;
  throw new UnionError(current.status?.phase === 'Failed' ? 'FAILED_PRECONDITION' : 'ABORTED', message);
}

/** Answers when the server pod is gone. Unknown volume or node: it is. */
export async function unpublishVolume(
  deps: ControllerDependencies,
  request: ControllerUnpublishVolumeRequest__Output,
  context: RpcContext,
): Promise<ControllerUnpublishVolumeResponse> {
  const volumeId = need(request.volumeId, 'volume_id');
  if (request.nodeId !== '') {
    await detached(deps, attachmentNameOf(volumeId, request.nodeId), context);
    return {};
  }
  for (const { metadata } of await attachmentsOf(deps, volumeId, context.signal)) {
    await detached(deps, metadata.name, context);
  }
  return {};
}

async function publishable(deps: ControllerDependencies, id: string, signal: AbortSignal): Promise<UnionVolume> {
  const volume = await needVolume(deps, id, signal);
  if (!volume.metadata.deletionTimestamp) return volume;
  throw new UnionError('FAILED_PRECONDITION', `volume "${id}" is being deleted and cannot be attached`);
}

interface Wanted {
  readonly wanted: UnionAttachment;
  readonly capability: Capability;
}

/** The attachment as it is in the cluster, written if need be. */
async function attached(deps: ControllerDependencies, { wanted, capability }: Wanted, context: RpcContext) {
  const { signal } = context;
  const existing = await usableAttachment(deps, wanted, context);
  // With a server it has passed the looks below before.
  if (existing !== undefined && hasServer(existing)) return existing;
  if (existing === undefined) await refuseOthers(deps, { wanted, capability }, signal);
  const attachment = existing ?? (await write(deps, wanted, signal));
  try {
    // What began between our looks before and our write is seen here.
    await publishable(deps, wanted.spec.volume, signal);
    await refuseOthers(deps, { wanted, capability }, signal);
  } catch (error) {
    await deps.attachments.delete(wanted.metadata, { uid: attachment.metadata.uid }, signal);
    throw error;
  }
  return attachment;
}

/** The attachment that is there, if any; one that is being detached is waited for. */
async function usableAttachment(deps: ControllerDependencies, wanted: UnionAttachment, context: RpcContext) {
  const existing = await deps.attachments.get(wanted.metadata, context.signal);
  if (existing?.metadata.deletionTimestamp) {
    await detached(deps, wanted.metadata.name, context);
    return undefined;
  }
  if (existing === undefined || existing.spec.readOnly === wanted.spec.readOnly) return existing;
  const { volume, node, readOnly } = existing.spec;
  const how = readOnly ? 'read-only' : 'for writing';
  throw new UnionError('ALREADY_EXISTS', `volume "${volume}" is attached to node "${node}" ${how}; detach it first`);
}

async function write(deps: ControllerDependencies, wanted: UnionAttachment, signal: AbortSignal) {
  const created = await deps.attachments.create(wanted, signal);
  if (created.ok) return created.value;
  const { volume, node } = wanted.spec;
  throw new UnionError(
    'ABORTED',
    `volume "${volume}" is being attached to node "${node}" by another call; repeat the call`,
  );
}

async function refuseOthers(deps: ControllerDependencies, { wanted, capability }: Wanted, signal: AbortSignal) {
  const { volume, node } = wanted.spec;
  const others = (await attachmentsOf(deps, volume, signal)).filter(({ spec }) => spec.node !== node);
  const shares = isMultiNode(capability.accessMode);
  const other = others.find(({ spec }) => !shares || (capability.accessMode === 'ReadOnlyMany' && !spec.readOnly));
  if (other === undefined) return;
  const message = `volume "${volume}" is attached to node "${other.spec.node}" and cannot be on "${node}" as well`;
  throw new UnionError('FAILED_PRECONDITION', `${message}; detach it there first`);
}

async function detached(deps: ControllerDependencies, name: string, context: RpcContext): Promise<void> {
  const existing = await deps.attachments.get({ name }, context.signal);
  if (existing === undefined) return;
  const { uid } = existing.metadata;
  if (!existing.metadata.deletionTimestamp) await deps.attachments.delete({ name }, { uid }, context.signal);
  const left = await waitUntil(
    {
      key: name,
      changes: deps.attachmentChanges,
      clock: deps.clock,
      read: (signal) => deps.attachments.get({ name }, signal),
      done: (latest) => latest?.metadata.uid !== uid,
    },
    context,
  );
  if (left === undefined || left.metadata.uid !== uid) return;
  const { volume, node } = existing.spec;
  throw new UnionError('ABORTED', `volume "${volume}" is being detached from node "${node}": ${pendingOf(left)}`);
}

function unionAttachment(volume: string, node: string, readOnly: boolean): UnionAttachment {
  return {
    apiVersion: `${API_GROUP}/${API_VERSION}`,
    kind: 'UnionAttachment',
    metadata: { name: attachmentNameOf(volume, node), finalizers: [FINALIZER] },
    spec: { volume, node, readOnly },
  };
}

function isSettled(attachment: UnionAttachment): boolean {
  return hasServer(attachment) || attachment.status?.phase === 'Failed' || !!attachment.metadata.deletionTimestamp;
}

/** What the reconciler says of its server pod. */
function pendingOf({ status }: UnionAttachment): string {
  const waiting = status?.conditions?.find((condition) => condition.status === 'False');
  return waiting?.message ?? 'its server pod is pending';
}
