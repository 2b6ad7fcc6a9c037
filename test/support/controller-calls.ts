/** The Controller service's handlers as plain calls, and what tests of them ask for again and again. */
import { expect } from 'chai';
import { UnionError } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';
import type { controllerHandlers } from '../../src/csi/controller.ts';
import type { RpcContext } from '../../src/csi/interceptors.ts';
import {
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  unionAttachments,
  unionVolumes,
} from '../../src/embedded/api-server/kinds.ts';
import type { CreateVolumeRequest__Output } from '../../src/protocol/generated/csi/v1/CreateVolumeRequest.ts';
import type { VolumeCapability__Output } from '../../src/protocol/generated/csi/v1/VolumeCapability.ts';
import type { ControlPlane } from './control-plane.ts';

export const GIB = 1024n ** 3n;

type Mode = NonNullable<VolumeCapability__Output['accessMode']>['mode'];

export function mount(mode: Mode = 'SINGLE_NODE_WRITER'): VolumeCapability__Output {
  return { mount: { fsType: '', mountFlags: [], volumeMountGroup: '' }, accessMode: { mode }, accessType: 'mount' };
}

export function creation(
  name: string,
  changes: Partial<CreateVolumeRequest__Output> = {},
): CreateVolumeRequest__Output {
  return {
    name,
    capacityRange: { requiredBytes: String(GIB), limitBytes: '0' },
    volumeCapabilities: [mount()],
    parameters: { lowerStorageClassName: 'plain', branches: '2' },
    secrets: {},
    volumeContentSource: null,
    accessibilityRequirements: null,
    mutableParameters: {},
    ...changes,
  };
}

/** The handlers as plain calls. */
export function calls(handlers: ReturnType<typeof controllerHandlers>) {
  const context = (limitMs = 60_000): RpcContext => ({
    signal: AbortSignal.timeout(limitMs),
    deadline: Date.now() + limitMs,
    log: silentLogger,
  });
  const secrets = {};
  return {
    create: (request: CreateVolumeRequest__Output, limitMs?: number) =>
      handlers.CreateVolume!(request, context(limitMs)),
    remove: (volumeId: string) => handlers.DeleteVolume!({ volumeId, secrets }, context()),
    publish: (volumeId: string, nodeId: string, limitMs?: number, how: { mode?: Mode; readonly?: boolean } = {}) => {
      const { mode, readonly = false } = how;
      const request = { volumeId, nodeId, volumeCapability: mount(mode), readonly, secrets, volumeContext: {} };
      return handlers.ControllerPublishVolume!(request, context(limitMs));
    },
    unpublish: (volumeId: string, nodeId: string, limitMs?: number) =>
      handlers.ControllerUnpublishVolume!({ volumeId, nodeId, secrets }, context(limitMs)),
    expand: (volumeId: string, bytes: bigint) => {
      const capacityRange = { requiredBytes: String(bytes), limitBytes: '0' };
      return handlers.ControllerExpandVolume!({ volumeId, capacityRange, secrets, volumeCapability: null }, context());
    },
    validate: (volumeId: string, volumeCapabilities: VolumeCapability__Output[]) => {
      const rest = { volumeContext: {}, parameters: {}, secrets, mutableParameters: {} };
      return handlers.ValidateVolumeCapabilities!({ volumeId, volumeCapabilities, ...rest }, context());
    },
    capacity: (parameters: Record<string, string>, node?: string) => {
      const accessibleTopology = node === undefined ? null : { segments: { 'kubernetes.io/hostname': node } };
      return handlers.GetCapacity!({ volumeCapabilities: [mount()], parameters, accessibleTopology }, context());
    },
    list: (request: { maxEntries?: number; startingToken?: string } = {}) =>
      handlers.ListVolumes!({ maxEntries: 0, startingToken: '', ...request }, context()),
  };
}

/** The error that a call is refused with. */
export async function refusal(work: Promise<unknown>): Promise<UnionError> {
  try {
    await work;
  } catch (error) {
    expect(error).to.be.instanceOf(UnionError);
    return error as UnionError;
  }
  throw new Error('expected a refusal');
}

/** How many there are of everything that a volume leads to. */
export function census({ store }: ControlPlane): Record<string, number> {
  return {
    volumes: store.list(unionVolumes).length,
    attachments: store.list(unionAttachments).length,
    claims: store.list(persistentVolumeClaims).length,
    persistentVolumes: store.list(persistentVolumes).length,
    pods: store.list(pods).length,
  };
}
