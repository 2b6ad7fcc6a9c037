/**
 * CreateVolume of block.union.csi.dev: chooses nodes, writes the BlockVolume, and answers when every one of them has its
 * replica, and one serves.
 * Places are chosen one call after the other, on what is written: two calls do not promise the same bytes.
 */

import { UnionError } from '../../base/errors.ts';
import { KeyedMutex } from '../../base/keyed-mutex.ts';
import { formatQuantity } from '../../base/units.ts';
import { geometryOf } from '../../block/areas.ts';
import { type BlockParameters, parseBlockParameters } from '../../block/driver/parameters.ts';
import { type PoolFacts, placeReplicas, replicaBytes } from '../../block/driver/placement.ts';
import { poolFacts } from '../../block/driver/pool-facts.ts';
import { isUsable } from '../../block/driver/volume-status.ts';
import type { Geometry } from '../../block/superblock.ts';
import { BLOCK_SIZE } from '../../block/units.ts';
import type { BlockVolume, VolumeMode } from '../../protocol/block-resources.ts';
import type { CreateVolumeRequest__Output } from '../../protocol/generated/csi/v1/CreateVolumeRequest.ts';
import type { CreateVolumeResponse } from '../../protocol/generated/csi/v1/CreateVolumeResponse.ts';
import { API_GROUP, API_VERSION, FINALIZER, TOPOLOGY_KEY_NODE } from '../../protocol/resources.ts';
import { requiredCapacity } from '../../union/capacity.ts';
import { findCondition } from '../../union/conditions.ts';
import { blockVolumeIdOf } from '../../union/ids.ts';
import { need } from '../controller-common.ts';
import type { RpcContext } from '../interceptors.ts';
import { parseRange } from '../volumes.ts';
import { waitUntil } from '../waiting.ts';
import { type BlockControllerDependencies, parseBlockCapabilities } from './common.ts';

const placing = 'placing';
/** ext4 and its journal want some room; no volume's log is smaller either. */
const MINIMUM_BYTES = 16n * 1024n ** 2n;

interface Wanted {
  readonly name: string;
  readonly requiredBytes: bigint;
  readonly limitBytes: bigint;
  readonly geometry: Geometry;
  readonly volumeMode: VolumeMode;
  readonly parameters: BlockParameters;
  readonly preferredNode: string | undefined;
}

export function createBlockVolume(deps: BlockControllerDependencies) {
  const mutex = new KeyedMutex();
  return async (request: CreateVolumeRequest__Output, context: RpcContext): Promise<CreateVolumeResponse> => {
    const wanted = parseRequest(request);
    const id = blockVolumeIdOf(wanted.name);
    const volume = await mutex.run(placing, () => writtenVolume(deps, id, wanted, context.signal));
    checkSame(volume, wanted);
    const current = await waitUntil(
      {
        key: id,
        changes: deps.volumeChanges,
        clock: deps.clock,
        read: (signal) => deps.volumes.get({ name: id }, signal),
        done: (latest) => latest?.metadata.uid !== volume.metadata.uid || isServed(latest),
      },
      context,
    );
    if (current?.metadata.uid !== volume.metadata.uid || !isServed(current)) {
      const pending =
        findCondition(current?.status?.conditions, 'Ready')?.message ?? 'its nodes have not looked at it yet';
      throw new UnionError('ABORTED', `volume "${wanted.name}" is pending: ${pending}`);
    }
    return { volume: { volumeId: id, capacityBytes: volume.spec.capacityBytes } };
  };
}

/** Every node has its replica, and one of them leads. */
function isServed(volume: BlockVolume | undefined): boolean {
  return isUsable(volume?.status?.phase) && volume?.status?.capacityBytes !== undefined;
}

function parseRequest(request: CreateVolumeRequest__Output): Wanted {
  const name = need(request.name, 'name');
  const volumeMode = parseBlockCapabilities(request.volumeCapabilities);
  if (request.volumeContentSource !== null) {
    throw new UnionError(
      'INVALID_ARGUMENT',
      'a block volume cannot be made from a snapshot or a clone yet; leave dataSource out',
    );
  }
  const mutable = Object.keys(request.mutableParameters);
  if (mutable.length > 0)
    throw new UnionError('INVALID_ARGUMENT', `mutable parameters are not supported: ${mutable.join(', ')}`);
  const parameters = parseBlockParameters(request.parameters);
  if (!parameters.ok) throw new UnionError('INVALID_ARGUMENT', parameters.error);
  const range = parseRange(request.capacityRange);
  const required = requiredCapacity(range);
  if (!required.ok) throw new UnionError(required.error.code, required.error.message);
  const least = required.value < MINIMUM_BYTES ? MINIMUM_BYTES : required.value;
  const blocks = (least + BigInt(BLOCK_SIZE) - 1n) / BigInt(BLOCK_SIZE);
  const geometry = geometryOf(Number(blocks) * BLOCK_SIZE);
  const tooLarge = range.limitBytes > 0n && blocks * BigInt(BLOCK_SIZE) > range.limitBytes;
  if (!geometry.ok || tooLarge) {
    throw new UnionError(
      'OUT_OF_RANGE',
      geometry.ok ? `a limit of ${range.limitBytes} bytes is too small` : geometry.error,
    );
  }
  return {
    name,
    ...range,
    geometry: geometry.value,
    volumeMode,
    parameters: parameters.value,
    preferredNode: request.accessibilityRequirements?.preferred[0]?.segments[TOPOLOGY_KEY_NODE],
  };
}

async function writtenVolume(
  deps: BlockControllerDependencies,
  id: string,
  wanted: Wanted,
  signal: AbortSignal,
): Promise<BlockVolume> {
  const existing = await deps.volumes.get({ name: id }, signal);
  if (existing?.metadata.deletionTimestamp) {
    throw new UnionError('ABORTED', `an earlier volume "${wanted.name}" is still being deleted; repeat the call`);
  }
  if (existing !== undefined) return existing;
  const { parameters, geometry, volumeMode, preferredNode } = wanted;
  const { replicas, pool, spread, minInSync } = parameters;
  const wish = { replicas, pool, spread, preferredNode, replicaBytes: replicaBytes(geometry) };
  const members = placeReplicas(await readPoolFacts(deps, parameters, signal), wish);
  if (!members.ok) throw new UnionError('RESOURCE_EXHAUSTED', members.error);
  const created = await deps.volumes.create(
    {
      apiVersion: `${API_GROUP}/${API_VERSION}`,
      kind: 'BlockVolume',
      metadata: { name: id, finalizers: [FINALIZER] },
      spec: {
        ...{ volumeName: wanted.name, pool, volumeMode, minInSync, spread, members: members.value },
        capacityBytes: String(geometry.blocks * BLOCK_SIZE),
      },
    },
    signal,
  );
  if (created.ok) return created.value;
  throw new UnionError('ABORTED', `volume "${wanted.name}" is being made by another call; repeat the call`);
}

export async function readPoolFacts(
  { pools, volumes, nodes, clock }: BlockControllerDependencies,
  wish: Pick<BlockParameters, 'pool' | 'spread'>,
  signal: AbortSignal,
): Promise<readonly PoolFacts[]> {
  const [allPools, allVolumes, allNodes] = await Promise.all([
    pools.list({}, signal),
    volumes.list({}, signal),
    nodes.list({}, signal),
  ]);
  return poolFacts({ pools: allPools, volumes: allVolumes, nodes: allNodes }, wish, clock.now());
}

function checkSame({ spec }: BlockVolume, wanted: Wanted): void {
  const { name, requiredBytes, limitBytes, parameters } = wanted;
  const has = BigInt(spec.capacityBytes);
  const fits = has >= requiredBytes && (limitBytes === 0n || has <= limitBytes);
  const { members, pool, volumeMode = 'Filesystem' } = spec;
  const isSame = members.length === parameters.replicas && pool === parameters.pool && volumeMode === wanted.volumeMode;
  if (fits && isSame) return;
  const what = `${formatQuantity(has)}, ${members.length} replicas in pool ${pool}, volumeMode ${volumeMode}`;
  throw new UnionError('ALREADY_EXISTS', `volume "${name}" exists with ${what}; ask for that, or take another name`);
}
