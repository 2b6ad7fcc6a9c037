/**
 * The CSI Controller service of block.union.csi.dev. As that of unions (controller.ts): calls write what is wanted to the
 * BlockVolume, wait a little, and answer; nothing is kept in memory but the turn of who chooses places.
 */
import { UnionError } from '../../base/errors.ts';
import type { BlockVolume } from '../../protocol/block-resources.ts';
import type { ControllerDefinition } from '../../protocol/generated/csi/v1/Controller.ts';
import type { ControllerPublishVolumeRequest__Output } from '../../protocol/generated/csi/v1/ControllerPublishVolumeRequest.ts';
import type { ControllerUnpublishVolumeRequest__Output } from '../../protocol/generated/csi/v1/ControllerUnpublishVolumeRequest.ts';
import type { DeleteVolumeRequest__Output } from '../../protocol/generated/csi/v1/DeleteVolumeRequest.ts';
import type { ValidateVolumeCapabilitiesRequest__Output } from '../../protocol/generated/csi/v1/ValidateVolumeCapabilitiesRequest.ts';
import type { ValidateVolumeCapabilitiesResponse } from '../../protocol/generated/csi/v1/ValidateVolumeCapabilitiesResponse.ts';
import { findCondition } from '../../union/conditions.ts';
import { need } from '../controller-common.ts';
import type { RpcContext } from '../interceptors.ts';
import type { Handlers } from '../server.ts';
import { waitUntil } from '../waiting.ts';
import {
  type BlockControllerDependencies,
  checkVolumeMode,
  needBlockVolume,
  parseBlockCapabilities,
  parseBlockCapability,
} from './common.ts';
import { createBlockVolume } from './create-volume.ts';
import { expandBlockVolume } from './expand.ts';

const CAPABILITIES = [
  'CREATE_DELETE_VOLUME',
  'PUBLISH_UNPUBLISH_VOLUME',
  'EXPAND_VOLUME',
  'SINGLE_NODE_MULTI_WRITER',
] as const;

export function blockControllerHandlers(deps: BlockControllerDependencies): Handlers<ControllerDefinition> {
  return {
    ControllerGetCapabilities: async () => ({ capabilities: CAPABILITIES.map((type) => ({ rpc: { type } })) }),
    CreateVolume: createBlockVolume(deps),
    DeleteVolume: async (request, context) => {
      await deleteVolume(deps, request, context);
      return {};
    },
    ControllerPublishVolume: async (request, context) => {
      await publishVolume(deps, request, context);
      return {};
    },
    ControllerUnpublishVolume: async (request, context) => {
      await unpublishVolume(deps, request, context);
      return {};
    },
    ControllerExpandVolume: (request, context) => expandBlockVolume(deps, request, context),
    ValidateVolumeCapabilities: (request, context) => validate(deps, request, context),
  };
}

/** Answers when no node has a replica any more. Unknown: done already. */
async function deleteVolume(
  deps: BlockControllerDependencies,
  request: DeleteVolumeRequest__Output,
  context: RpcContext,
): Promise<void> {
  const name = need(request.volumeId, 'volume_id');
  const volume = await deps.volumes.get({ name }, context.signal);
  if (volume === undefined) return;
  const { uid } = volume.metadata;
  if (volume.spec.attachedTo) {
    const message = `volume "${name}" is attached to ${volume.spec.attachedTo}; detach it first`;
    throw new UnionError('FAILED_PRECONDITION', message);
  }
  if (!volume.metadata.deletionTimestamp) await deps.volumes.delete({ name }, { uid }, context.signal);
  const left = await waitUntil(
    {
      key: name,
      changes: deps.volumeChanges,
      clock: deps.clock,
      read: (signal) => deps.volumes.get({ name }, signal),
      done: (latest) => latest?.metadata.uid !== uid,
    },
    context,
  );
  if (left?.metadata.uid !== uid) return;
  const pending = findCondition(left?.status?.conditions, 'Ready')?.message ?? 'nobody has looked at it yet';
  throw new UnionError('ABORTED', `volume "${name}" is being deleted: ${pending}`);
}

/** From then on the node's connections are served, and nobody else's. */
async function publishVolume(
  deps: BlockControllerDependencies,
  request: ControllerPublishVolumeRequest__Output,
  { signal }: RpcContext,
): Promise<void> {
  const id = need(request.volumeId, 'volume_id');
  const node = need(request.nodeId, 'node_id');
  const { volumeMode } = parseBlockCapability(request.volumeCapability);
  checkVolumeMode(await needBlockVolume(deps.volumes, id, signal), volumeMode);
  if ((await deps.nodes.get({ name: node }, signal)) === undefined) {
    throw new UnionError('NOT_FOUND', `node "${node}" does not exist`);
  }
  await attach(deps, id, (volume) => attachmentTo(volume, node), signal);
}

function attachmentTo({ metadata, spec: { attachedTo } }: BlockVolume, node: string): string | undefined {
  const { name } = metadata;
  if (metadata.deletionTimestamp) {
    throw new UnionError('FAILED_PRECONDITION', `volume "${name}" is being deleted and cannot be attached`);
  }
  if (attachedTo && attachedTo !== node) {
    const message = `volume "${name}" is attached to node "${attachedTo}" and cannot be on "${node}" as well; detach it there first`;
    throw new UnionError('FAILED_PRECONDITION', message);
  }
  return attachedTo === node ? undefined : node;
}

/** Unknown volume, or attached to another node: it is detached. */
async function unpublishVolume(
  deps: BlockControllerDependencies,
  request: ControllerUnpublishVolumeRequest__Output,
  { signal }: RpcContext,
): Promise<void> {
  const { nodeId } = request;
  const isOurs = (attachedTo: string) => nodeId === '' || nodeId === attachedTo;
  const id = need(request.volumeId, 'volume_id');
  await attach(deps, id, ({ spec: { attachedTo } }) => (attachedTo && isOurs(attachedTo) ? null : undefined), signal);
}

/** How often a spec is written again that another wrote in between. */
const MAX_WRITES = 5;

/** Writes what `decide` wants: a node, nobody (null), or nothing. */
async function attach(
  { volumes }: BlockControllerDependencies,
  id: string,
  decide: (volume: BlockVolume) => string | null | undefined,
  signal: AbortSignal,
): Promise<void> {
  for (let writes = 0; writes < MAX_WRITES; writes++) {
    const volume = await volumes.get({ name: id }, signal);
    const node = volume && decide(volume);
    if (volume === undefined || node === undefined) return;
    const { uid, resourceVersion } = volume.metadata;
    const patch = { metadata: { uid, resourceVersion }, spec: { attachedTo: node } };
    if ((await volumes.patchMerge({ name: id }, patch, signal)).ok) return;
  }
  throw new UnionError('ABORTED', `volume "${id}" keeps changing; repeat the call`);
}

async function validate(
  deps: BlockControllerDependencies,
  request: ValidateVolumeCapabilitiesRequest__Output,
  { signal }: RpcContext,
): Promise<ValidateVolumeCapabilitiesResponse> {
  need(request.volumeId, 'volume_id');
  if (request.volumeCapabilities.length === 0) parseBlockCapabilities([]);
  const volume = await needBlockVolume(deps.volumes, request.volumeId, signal);
  try {
    checkVolumeMode(volume, parseBlockCapabilities(request.volumeCapabilities));
  } catch (error) {
    // Here what is not supported is an answer, not an error.
    if (error instanceof UnionError) return { message: error.message };
    throw error;
  }
  const { volumeContext, volumeCapabilities, parameters } = request;
  return { confirmed: { volumeContext, volumeCapabilities, parameters } };
}
