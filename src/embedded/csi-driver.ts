/**
 * CSI as its callers see it: what sidecars and kubelet need of a driver, behind a socket (csi-client.ts) or in this process
 * (provisioners/). One path for both. Every call may be repeated. Errors are UnionErrors with gRPC's code names.
 */
import type { ControllerExpandVolumeRequest } from '../protocol/generated/csi/v1/ControllerExpandVolumeRequest.ts';
import type { ControllerExpandVolumeResponse__Output } from '../protocol/generated/csi/v1/ControllerExpandVolumeResponse.ts';
import type { ControllerPublishVolumeRequest } from '../protocol/generated/csi/v1/ControllerPublishVolumeRequest.ts';
import type { ControllerUnpublishVolumeRequest } from '../protocol/generated/csi/v1/ControllerUnpublishVolumeRequest.ts';
import type { CreateVolumeRequest } from '../protocol/generated/csi/v1/CreateVolumeRequest.ts';
import type { NodeExpandVolumeRequest } from '../protocol/generated/csi/v1/NodeExpandVolumeRequest.ts';
import type { NodeGetInfoResponse__Output } from '../protocol/generated/csi/v1/NodeGetInfoResponse.ts';
import type { NodePublishVolumeRequest } from '../protocol/generated/csi/v1/NodePublishVolumeRequest.ts';
import type { NodeStageVolumeRequest } from '../protocol/generated/csi/v1/NodeStageVolumeRequest.ts';
import type { Volume__Output } from '../protocol/generated/csi/v1/Volume.ts';

export interface CsiController {
  /** Names of ControllerServiceCapability.RPC.Type. */
  capabilities(signal: AbortSignal): Promise<ReadonlySet<string>>;
  createVolume(request: CreateVolumeRequest, signal: AbortSignal): Promise<Volume__Output>;
  deleteVolume(volumeId: string, signal: AbortSignal): Promise<void>;
  /** Resolves to the publish context. */
  publishVolume(
    request: ControllerPublishVolumeRequest,
    signal: AbortSignal,
  ): Promise<Readonly<Record<string, string>>>;
  unpublishVolume(request: ControllerUnpublishVolumeRequest, signal: AbortSignal): Promise<void>;
  expandVolume(
    request: ControllerExpandVolumeRequest,
    signal: AbortSignal,
  ): Promise<ControllerExpandVolumeResponse__Output>;
}

export interface CsiNode {
  /** Names of NodeServiceCapability.RPC.Type. */
  capabilities(signal: AbortSignal): Promise<ReadonlySet<string>>;
  getInfo(signal: AbortSignal): Promise<NodeGetInfoResponse__Output>;
  stageVolume(request: NodeStageVolumeRequest, signal: AbortSignal): Promise<void>;
  unstageVolume(volumeId: string, stagingPath: string, signal: AbortSignal): Promise<void>;
  publishVolume(request: NodePublishVolumeRequest, signal: AbortSignal): Promise<void>;
  unpublishVolume(volumeId: string, targetPath: string, signal: AbortSignal): Promise<void>;
  expandVolume(request: NodeExpandVolumeRequest, signal: AbortSignal): Promise<void>;
  close(): void;
}
