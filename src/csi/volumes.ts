/** Controller calls about volumes that exist: delete, expand, validate, list, get. */
import { UnionError } from '../base/errors.ts';
import type { CapacityRange__Output } from '../protocol/generated/csi/v1/CapacityRange.ts';
import type { ControllerExpandVolumeRequest__Output } from '../protocol/generated/csi/v1/ControllerExpandVolumeRequest.ts';
import type { ControllerExpandVolumeResponse } from '../protocol/generated/csi/v1/ControllerExpandVolumeResponse.ts';
import type { ControllerGetVolumeRequest__Output } from '../protocol/generated/csi/v1/ControllerGetVolumeRequest.ts';
import type { ControllerGetVolumeResponse } from '../protocol/generated/csi/v1/ControllerGetVolumeResponse.ts';
import type { DeleteVolumeRequest__Output } from '../protocol/generated/csi/v1/DeleteVolumeRequest.ts';
import type { DeleteVolumeResponse } from '../protocol/generated/csi/v1/DeleteVolumeResponse.ts';
import type { ListVolumesRequest__Output } from '../protocol/generated/csi/v1/ListVolumesRequest.ts';
import type { ListVolumesResponse } from '../protocol/generated/csi/v1/ListVolumesResponse.ts';
import type { ValidateVolumeCapabilitiesRequest__Output } from '../protocol/generated/csi/v1/ValidateVolumeCapabilitiesRequest.ts';
import type { ValidateVolumeCapabilitiesResponse } from '../protocol/generated/csi/v1/ValidateVolumeCapabilitiesResponse.ts';
import type { Volume } from '../protocol/generated/csi/v1/Volume.ts';
import type { VolumeCondition } from '../protocol/generated/csi/v1/VolumeCondition.ts';
import { ANNOTATION_PROVISIONED, type UnionAttachment, type UnionVolume } from '../protocol/resources.ts';
import { BRANCHES_AVAILABLE } from '../union/branches-available.ts';
import type { CapacityRange } from '../union/capacity.ts';
import { findCondition } from '../union/conditions.ts';
import { planExpansion } from '../union/existing.ts';
import { capabilityObstacle, parseCapabilities, parseCapability } from './capabilities.ts';
import {
  attachmentsOf,
  type ControllerDependencies,
  hasServer,
  isCurrent,
  need,
  needVolume,
} from './controller-common.ts';
import type { RpcContext } from './interceptors.ts';
import { waitUntil } from './waiting.ts';

/** Answers when the UnionVolume is gone, and with it every lower volume that was made for it. Unknown: done already. */
export async function deleteVolume(
  deps: ControllerDependencies,
  request: DeleteVolumeRequest__Output,
  context: RpcContext,
): Promise<DeleteVolumeResponse> {
  const name = need(request.volumeId, 'volume_id');
  const volume = await deps.volumes.get({ name }, context.signal);
  if (volume === undefined) return {};
  if (!volume.metadata.deletionTimestamp) {
    const users = await attachmentsOf(deps, name, context.signal);
    if (users.length > 0) {
      const nodes = users.map(({ spec }) => spec.node).join(', ');
      throw new UnionError('FAILED_PRECONDITION', `volume "${name}" is attached to ${nodes}; detach it first`);
    }
    await deps.volumes.delete({ name }, { uid: volume.metadata.uid }, context.signal);
  }
  const left = await waitUntil(
    {
      key: name,
      changes: deps.volumeChanges,
      clock: deps.clock,
      read: (signal) => deps.volumes.get({ name }, signal),
      done: (latest) => latest?.metadata.uid !== volume.metadata.uid,
    },
    context,
  );
  if (left === undefined || left.metadata.uid !== volume.metadata.uid) return {};
  const pending = findCondition(left.status?.conditions, 'Ready')?.message ?? 'the controller has not looked at it yet';
  throw new UnionError('ABORTED', `volume "${name}" is being deleted: ${pending}`);
}

/** How often a spec is written again that another wrote in between. */
const MAX_WRITES = 5;

export async function expandVolume(
  deps: ControllerDependencies,
  request: ControllerExpandVolumeRequest__Output,
  context: RpcContext,
): Promise<ControllerExpandVolumeResponse> {
  const range = needRange(request.capacityRange);
  if (request.volumeCapability !== null) parseCapability(request.volumeCapability);
  const { metadata } = await writeExpansion(deps, need(request.volumeId, 'volume_id'), range, context.signal);
  const current = await waitUntil(
    {
      key: metadata.name,
      changes: deps.volumeChanges,
      clock: deps.clock,
      read: (signal) => needVolume(deps, metadata.name, signal),
      done: (latest) => isGrown(latest, range),
    },
    context,
  );
  if (isGrown(current, range)) {
    return { capacityBytes: current.status?.capacityBytes ?? '0', nodeExpansionRequired: false };
  }
  const resized = findCondition(current.status?.conditions, 'Resized');
  const pending = isCurrent(current) && resized ? resized.message : 'the controller has not looked at it yet';
  throw new UnionError('ABORTED', `volume "${metadata.name}" is growing: ${pending}`);
}

async function writeExpansion(
  deps: ControllerDependencies,
  volumeId: string,
  range: CapacityRange,
  signal: AbortSignal,
): Promise<UnionVolume> {
  for (let writes = 0; writes < MAX_WRITES; writes++) {
    const volume = await needVolume(deps, volumeId, signal);
    if (volume.metadata.deletionTimestamp) {
      throw new UnionError('FAILED_PRECONDITION', `volume "${volumeId}" is being deleted and cannot grow`);
    }
    const storageClasses = await deps.storageClasses.list({}, signal);
    const planned = planExpansion(volume, range, { storageClasses });
    if (!planned.ok) throw new UnionError(planned.error.code, planned.error.message);
    if (planned.value === volume.spec) return volume;
    const updated = await deps.volumes.update({ ...volume, spec: planned.value }, signal);
    if (updated.ok) return updated.value;
  }
  throw new UnionError('ABORTED', `volume "${volumeId}" keeps changing; repeat the call`);
}

function isGrown(volume: UnionVolume, { requiredBytes }: CapacityRange): boolean {
  const resized = findCondition(volume.status?.conditions, 'Resized');
  const capacity = BigInt(volume.status?.capacityBytes ?? 0);
  return isCurrent(volume) && resized?.status === 'True' && capacity >= requiredBytes;
}

export async function validateCapabilities(
  deps: ControllerDependencies,
  request: ValidateVolumeCapabilitiesRequest__Output,
  { signal }: RpcContext,
): Promise<ValidateVolumeCapabilitiesResponse> {
  need(request.volumeId, 'volume_id');
  if (request.volumeCapabilities.length === 0) parseCapabilities([]);
  const { spec } = await needVolume(deps, request.volumeId, signal);
  for (const capability of request.volumeCapabilities) {
    const message = obstacleOf(spec, capability);
    if (message !== undefined) return { message };
  }
  const { volumeContext, volumeCapabilities, parameters } = request;
  return { confirmed: { volumeContext, volumeCapabilities, parameters } };
}

/** Here what is not supported is an answer, not an error. */
function obstacleOf(spec: UnionVolume['spec'], capability: Parameters<typeof parseCapability>[0]): string | undefined {
  try {
    return capabilityObstacle(spec, parseCapability(capability));
  } catch (error) {
    if (error instanceof UnionError) return error.message;
    throw error;
  }
}

/** Pages are cut by name: the token is the last name of the page before, which may be gone by now. */
export async function listVolumes(
  deps: ControllerDependencies,
  request: ListVolumesRequest__Output,
  { signal }: RpcContext,
): Promise<ListVolumesResponse> {
  const { maxEntries, startingToken } = request;
  if (maxEntries < 0) {
    throw new UnionError('INVALID_ARGUMENT', `max_entries ${maxEntries} is negative; 0 asks for all`);
  }
  if (startingToken !== '' && !/^uv-[0-9a-f]{32}$/.test(startingToken)) {
    throw new UnionError('ABORTED', `starting_token "${startingToken}" is not one of ours; list from the beginning`);
  }
  const [volumes, attachments] = await Promise.all([deps.volumes.list({}, signal), deps.attachments.list({}, signal)]);
  const rest = volumes
    .filter((volume) => isThere(volume) && volume.metadata.name > startingToken)
    .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  const page = maxEntries === 0 ? rest : rest.slice(0, maxEntries);
  return {
    entries: page.map((volume) => entryOf(volume, attachments)),
    nextToken: page.length < rest.length ? page.at(-1)!.metadata.name : '',
  };
}

export async function getVolume(
  deps: ControllerDependencies,
  request: ControllerGetVolumeRequest__Output,
  { signal }: RpcContext,
): Promise<ControllerGetVolumeResponse> {
  const volume = await needVolume(deps, request.volumeId, signal);
  return entryOf(volume, await attachmentsOf(deps, request.volumeId, signal));
}

/** Volumes that CreateVolume has not answered for are not there yet. */
function isThere({ metadata }: UnionVolume): boolean {
  return metadata.annotations?.[ANNOTATION_PROVISIONED] !== undefined;
}

function entryOf(volume: UnionVolume, all: readonly UnionAttachment[]) {
  const attachments = all.filter(({ spec }) => spec.volume === volume.metadata.name);
  return {
    volume: toCsiVolume(volume),
    status: {
      // Only where a server pod is: the attacher publishes again where one was lost.
      publishedNodeIds: attachments
        .filter(hasServer)
        .map(({ spec }) => spec.node)
        .sort(),
      volumeCondition: conditionOf(volume, attachments),
    },
  };
}

function conditionOf({ status }: UnionVolume, attachments: readonly UnionAttachment[]): VolumeCondition {
  const ill = attachments.find(({ status }) => status?.mount !== undefined && status.mount.state !== 'Served');
  if (ill !== undefined) {
    const message = findCondition(ill.status?.conditions, 'Ready')?.message ?? '';
    return { abnormal: true, message: `node ${ill.spec.node}: ${message}` };
  }
  const available = findCondition(status?.conditions, BRANCHES_AVAILABLE);
  if (available?.status === 'False') return { abnormal: true, message: available.message };
  const ready = findCondition(status?.conditions, 'Ready');
  return { abnormal: status?.phase === 'Failed', message: ready?.message ?? '' };
}

export function toCsiVolume({ metadata, spec, status }: UnionVolume): Volume {
  return {
    volumeId: metadata.name,
    capacityBytes: status?.capacityBytes ?? spec.capacityBytes,
    accessibleTopology: (status?.accessibleTopology ?? []).map((segments) => ({ segments })),
  };
}

/** 64-bit integers come as decimal strings; absent is 0, "not given". */
export function parseRange(range: CapacityRange__Output | null): CapacityRange {
  return { requiredBytes: BigInt(range?.requiredBytes ?? 0), limitBytes: BigInt(range?.limitBytes ?? 0) };
}

/** The same, and INVALID_ARGUMENT when nothing is asked for. */
export function needRange(given: CapacityRange__Output | null): CapacityRange {
  const range = parseRange(given);
  if (range.requiredBytes === 0n && range.limitBytes === 0n) {
    throw new UnionError('INVALID_ARGUMENT', 'capacity_range is missing; say how large the volume is to be');
  }
  return range;
}
