/**
 * The CSI Controller service (kubernetes.md, section 3).
 * Calls write what is wanted to UnionVolume and UnionAttachment, wait a little for the reconcilers, and answer: done, or
 * ABORTED with what is pending, and the sidecar calls again. Nothing is kept in memory: two replicas may each get calls
 * about one volume, so every write is a compare-and-swap and every call may be repeated.
 * Spec: https://github.com/container-storage-interface/spec/blob/master/spec.md#controller-service-rpc
 */
import type { ControllerDefinition } from '../protocol/generated/csi/v1/Controller.ts';
import type { ControllerServiceCapability } from '../protocol/generated/csi/v1/ControllerServiceCapability.ts';
import type { ControllerDependencies } from './controller-common.ts';
import { createVolume } from './create-volume.ts';
import { getCapacity } from './get-capacity.ts';
import { publishVolume, unpublishVolume } from './publish.ts';
import type { Handlers } from './server.ts';
import { deleteVolume, expandVolume, getVolume, listVolumes, validateCapabilities } from './volumes.ts';

type RpcType = NonNullable<NonNullable<ControllerServiceCapability['rpc']>['type']>;

const CAPABILITIES: readonly RpcType[] = [
  'CREATE_DELETE_VOLUME',
  'PUBLISH_UNPUBLISH_VOLUME',
  'PUBLISH_READONLY',
  'LIST_VOLUMES',
  'LIST_VOLUMES_PUBLISHED_NODES',
  'GET_CAPACITY',
  'GET_VOLUME',
  'VOLUME_CONDITION',
  'EXPAND_VOLUME',
  'SINGLE_NODE_MULTI_WRITER',
];

export function controllerHandlers(deps: ControllerDependencies): Handlers<ControllerDefinition> {
  return {
    ControllerGetCapabilities: async () => ({ capabilities: CAPABILITIES.map((type) => ({ rpc: { type } })) }),
    CreateVolume: (request, context) => createVolume(deps, request, context),
    DeleteVolume: (request, context) => deleteVolume(deps, request, context),
    ControllerPublishVolume: (request, context) => publishVolume(deps, request, context),
    ControllerUnpublishVolume: (request, context) => unpublishVolume(deps, request, context),
    ValidateVolumeCapabilities: (request, context) => validateCapabilities(deps, request, context),
    ListVolumes: (request, context) => listVolumes(deps, request, context),
    GetCapacity: (request, { signal }) => getCapacity(deps, request, signal),
    ControllerGetVolume: (request, context) => getVolume(deps, request, context),
    ControllerExpandVolume: (request, context) => expandVolume(deps, request, context),
  };
}
