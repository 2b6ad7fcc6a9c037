/** What placement goes by, from the objects of the cluster. Pure. */
import { type BlockPool, type BlockVolume, membersOf } from '../../protocol/block-resources.ts';
import type { Node } from '../../protocol/objects.ts';
import { geometryOf } from '../areas.ts';
import { type PoolFacts, replicaBytes } from './placement.ts';

export interface BlockCluster {
  readonly pools: readonly BlockPool[];
  readonly volumes: readonly BlockVolume[];
  readonly nodes: readonly Node[];
}

/** Of each node of the cluster that has the pool. `now` is milliseconds since the epoch. */
export function poolFacts(
  { pools, volumes, nodes }: BlockCluster,
  { pool, spread }: { readonly pool: string; readonly spread: string },
  now: number,
): readonly PoolFacts[] {
  return pools.flatMap(({ spec, status }): PoolFacts[] => {
    const node = nodes.find(({ metadata }) => metadata.name === spec.node);
    if (spec.pool !== pool || status === undefined || node === undefined) return [];
    const placed = volumes.filter((volume) => volume.spec.pool === pool && takesRoomOf(volume, spec.node));
    return [
      {
        node: spec.node,
        capacityBytes: BigInt(status.capacityBytes),
        reservedBytes: placed.reduce((sum, volume) => sum + bytesOf(volume), 0n),
        volumes: placed.length,
        silentMs: now - Date.parse(status.lastSeen),
        spreadValue: node.metadata.labels?.[spread],
      },
    ];
  });
}

/** Also a former member's files do, until they have gone. */
function takesRoomOf(volume: BlockVolume, node: string): boolean {
  return membersOf(volume).includes(node) || volume.status?.replicas?.[node] !== undefined;
}

/** What one replica of the volume may come to take. */
export function bytesOf({ spec }: BlockVolume): bigint {
  const geometry = geometryOf(Number(spec.capacityBytes));
  return geometry.ok ? replicaBytes(geometry.value) : 0n;
}
