/**
 * CSI over unix sockets, as external-provisioner, -attacher, -resizer and kubelet speak it: every call with a deadline,
 * status codes kept by name.
 */
import {
  type CallOptions,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type requestCallback,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { type ErrorCode, UnionError } from '../base/errors.ts';
import type { ControllerExpandVolumeResponse__Output } from '../protocol/generated/csi/v1/ControllerExpandVolumeResponse.ts';
import type { ControllerGetCapabilitiesResponse__Output } from '../protocol/generated/csi/v1/ControllerGetCapabilitiesResponse.ts';
import type { ControllerPublishVolumeResponse__Output } from '../protocol/generated/csi/v1/ControllerPublishVolumeResponse.ts';
import type { CreateVolumeResponse__Output } from '../protocol/generated/csi/v1/CreateVolumeResponse.ts';
import type { NodeGetCapabilitiesResponse__Output } from '../protocol/generated/csi/v1/NodeGetCapabilitiesResponse.ts';
import type { NodeGetInfoResponse__Output } from '../protocol/generated/csi/v1/NodeGetInfoResponse.ts';
import { loadCsi } from '../protocol/proto.ts';
import type { CsiController, CsiNode } from './csi-driver.ts';

/** As the sidecars' `--timeout` in our manifests: longer than a driver waits before it answers ABORTED. */
const TIMEOUT_MS = 15_000;

/**
 * Makes one call, with our deadline and the caller's signal. A driver that is only about to listen is waited for.
 * `start` is handed what every client method takes last.
 */
export function call<Response>(
  signal: AbortSignal,
  start: (metadata: Metadata, options: CallOptions, done: requestCallback<Response>) => ClientUnaryCall,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(new UnionError('CANCELLED', 'the call was given up before it began'));
    const abort = () => pending.cancel();
    const pending = start(
      new Metadata({ waitForReady: true }),
      { deadline: Date.now() + TIMEOUT_MS },
      (error, response) => {
        signal.removeEventListener('abort', abort);
        if (error) reject(toUnionError(error));
        else resolve(response!);
      },
    );
    signal.addEventListener('abort', abort, { once: true });
  });
}

function toUnionError(error: ServiceError): UnionError {
  const name = (status[error.code] ?? 'INTERNAL') as ErrorCode | 'UNKNOWN' | 'DATA_LOSS' | 'UNAUTHENTICATED';
  const code = name === 'UNKNOWN' || name === 'DATA_LOSS' || name === 'UNAUTHENTICATED' ? 'INTERNAL' : name;
  return new UnionError(code, error.details || error.message, { cause: error });
}

export const channelOptions = {
  'grpc.enable_channelz': 0,
  // Sockets appear when plugins start: ask again soon, not after gRPC's default of up to two minutes.
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.min_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 200,
};

/** The Controller service behind `socket`. */
export function connectController(socket: string): CsiController & { close(): void } {
  const client = new (loadCsi().Controller)(`unix://${socket}`, credentials.createInsecure(), channelOptions);
  const capabilities = async (signal: AbortSignal): Promise<ReadonlySet<string>> => {
    const response = await call<ControllerGetCapabilitiesResponse__Output>(signal, (...rest) =>
      client.controllerGetCapabilities({}, ...rest),
    );
    return new Set(response.capabilities.flatMap(({ rpc }) => (rpc ? [rpc.type] : [])));
  };
  const can = async (capability: string, signal: AbortSignal) => (await capabilities(signal)).has(capability);
  return {
    capabilities,
    async createVolume(request, signal) {
      const { volume } = await call<CreateVolumeResponse__Output>(signal, (...rest) =>
        client.createVolume(request, ...rest),
      );
      if (!volume) throw new UnionError('INTERNAL', `the driver at ${socket} answered CreateVolume without a volume`);
      return volume;
    },
    async deleteVolume(volumeId, signal) {
      await call(signal, (...rest) => client.deleteVolume({ volumeId }, ...rest));
    },
    async publishVolume(request, signal) {
      if (!(await can('PUBLISH_UNPUBLISH_VOLUME', signal))) return {};
      const { publishContext } = await call<ControllerPublishVolumeResponse__Output>(signal, (...rest) =>
        client.controllerPublishVolume(request, ...rest),
      );
      return publishContext;
    },
    async unpublishVolume(request, signal) {
      if (!(await can('PUBLISH_UNPUBLISH_VOLUME', signal))) return;
      await call(signal, (...rest) => client.controllerUnpublishVolume(request, ...rest));
    },
    async expandVolume(request, signal) {
      const capacityBytes = String(request.capacityRange?.requiredBytes ?? 0);
      if (!(await can('EXPAND_VOLUME', signal))) return { capacityBytes, nodeExpansionRequired: true };
      return await call<ControllerExpandVolumeResponse__Output>(signal, (...rest) =>
        client.controllerExpandVolume(request, ...rest),
      );
    },
    close: () => client.close(),
  };
}

/** The Node service behind `socket`. */
export function connectNode(socket: string): CsiNode {
  const client = new (loadCsi().Node)(`unix://${socket}`, credentials.createInsecure(), channelOptions);
  return {
    async capabilities(signal) {
      const { capabilities } = await call<NodeGetCapabilitiesResponse__Output>(signal, (...rest) =>
        client.nodeGetCapabilities({}, ...rest),
      );
      return new Set(capabilities.flatMap(({ rpc }) => (rpc ? [rpc.type] : [])));
    },
    getInfo: (signal) => call<NodeGetInfoResponse__Output>(signal, (...rest) => client.nodeGetInfo({}, ...rest)),
    async stageVolume(request, signal) {
      await call(signal, (...rest) => client.nodeStageVolume(request, ...rest));
    },
    async unstageVolume(volumeId, stagingTargetPath, signal) {
      const request = { volumeId, stagingTargetPath };
      await call(signal, (...rest) => client.nodeUnstageVolume(request, ...rest));
    },
    async publishVolume(request, signal) {
      await call(signal, (...rest) => client.nodePublishVolume(request, ...rest));
    },
    async unpublishVolume(volumeId, targetPath, signal) {
      await call(signal, (...rest) => client.nodeUnpublishVolume({ volumeId, targetPath }, ...rest));
    },
    async expandVolume(request, signal) {
      await call(signal, (...rest) => client.nodeExpandVolume(request, ...rest));
    },
    close: () => client.close(),
  };
}
