/** ControllerExpandVolume of block.union.csi.dev: the wish is written, and whoever leads the volume makes it so. */
import { UnionError } from '../../base/errors.ts';
import { formatBytes } from '../../base/units.ts';
import { geometryOf } from '../../block/areas.ts';
import { bytesOf } from '../../block/driver/pool-facts.ts';
import { isUsable } from '../../block/driver/volume-status.ts';
import { BLOCK_SIZE } from '../../block/units.ts';
import { type BlockVolume, membersOf } from '../../protocol/block-resources.ts';
import type { ControllerExpandVolumeRequest__Output } from '../../protocol/generated/csi/v1/ControllerExpandVolumeRequest.ts';
import type { ControllerExpandVolumeResponse } from '../../protocol/generated/csi/v1/ControllerExpandVolumeResponse.ts';
import { TOPOLOGY_KEY_NODE } from '../../protocol/resources.ts';
import { requiredCapacity } from '../../union/capacity.ts';
import type { RpcContext } from '../interceptors.ts';
import { needRange } from '../volumes.ts';
import { waitUntil } from '../waiting.ts';
import { type BlockControllerDependencies, checkVolumeMode, needBlockVolume, parseBlockCapability } from './common.ts';
import { readPoolFacts } from './create-volume.ts';

export async function expandBlockVolume(
  deps: BlockControllerDependencies,
  request: ControllerExpandVolumeRequest__Output,
  context: RpcContext,
): Promise<ControllerExpandVolumeResponse> {
  const range = needRange(request.capacityRange);
  const capability = request.volumeCapability === null ? undefined : parseBlockCapability(request.volumeCapability);
  const required = requiredCapacity(range);
  if (!required.ok) throw new UnionError(required.error.code, required.error.message);
  const blocks = Number((required.value + BigInt(BLOCK_SIZE) - 1n) / BigInt(BLOCK_SIZE));
  const geometry = geometryOf(blocks * BLOCK_SIZE);
  if (!geometry.ok) throw new UnionError('OUT_OF_RANGE', geometry.error);
  const volume = await needBlockVolume(deps.volumes, request.volumeId, context.signal);
  if (capability !== undefined) checkVolumeMode(volume, capability.volumeMode);
  const wanted = blocks * BLOCK_SIZE;
  if (Number(volume.spec.capacityBytes) < wanted) await write(deps, volume, String(wanted), context.signal);
  const isGrown = (latest: BlockVolume) => Number(latest.status?.capacityBytes ?? 0) >= wanted;
  const current = await waitUntil(
    {
      key: volume.metadata.name,
      changes: deps.volumeChanges,
      clock: deps.clock,
      read: (signal) => needBlockVolume(deps.volumes, request.volumeId, signal),
      done: isGrown,
    },
    context,
  );
  if (isGrown(current)) return { capacityBytes: current.status?.capacityBytes ?? '0', nodeExpansionRequired: true };
  throw new UnionError('ABORTED', `volume "${volume.metadata.name}" is growing: no replica leads it just now`);
}

async function write(
  deps: BlockControllerDependencies,
  volume: BlockVolume,
  capacityBytes: string,
  signal: AbortSignal,
): Promise<void> {
  const { metadata, spec, status } = volume;
  if (metadata.deletionTimestamp) {
    throw new UnionError('FAILED_PRECONDITION', `volume "${metadata.name}" is being deleted and cannot grow`);
  }
  // Replicas must have been made with one size before there is another.
  if (!isUsable(status?.phase) || status?.capacityBytes === undefined) {
    throw new UnionError('ABORTED', `volume "${metadata.name}" has not been served yet; repeat the call`);
  }
  const more = bytesOf({ ...volume, spec: { ...spec, capacityBytes } }) - bytesOf(volume);
  const pools = await readPoolFacts(deps, { pool: spec.pool, spread: TOPOLOGY_KEY_NODE }, signal);
  const members = membersOf(volume);
  const short = pools.flatMap(({ node, capacityBytes: has, reservedBytes }) => {
    const left = has - reservedBytes;
    return members.includes(node) && left < more ? [`${node}: ${formatBytes(more - left)} short`] : [];
  });
  if (short.length > 0) {
    const message = `no space to grow volume "${metadata.name}" by ${formatBytes(more)}: ${short.join('; ')}; ask for less, or add space`;
    throw new UnionError('OUT_OF_RANGE', message);
  }
  const { uid, resourceVersion } = metadata;
  const patch = { metadata: { uid, resourceVersion }, spec: { capacityBytes } };
  const written = await deps.volumes.patchMerge(metadata, patch, signal);
  if (!written.ok) throw new UnionError('ABORTED', `volume "${metadata.name}" has just changed; repeat the call`);
}
