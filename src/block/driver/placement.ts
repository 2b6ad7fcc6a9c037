/**
 * Which nodes get a new volume's replicas: filters first, then a score, ties by name. Pure: all facts come as arguments.
 * When there is no place the answer says why of each node, the nearest miss first.
 */
import { err, ok, type Result } from '../../base/result.ts';
import { formatBytes } from '../../base/units.ts';
import { areaSizes } from '../areas.ts';
import type { Geometry } from '../superblock.ts';

/** A node's directory for replicas, as it was last told. */
export interface PoolFacts {
  readonly node: string;
  readonly capacityBytes: bigint;
  /** What the volumes that are placed there may come to take. */
  readonly reservedBytes: bigint;
  readonly volumes: number;
  /** Milliseconds since it was heard of. */
  readonly silentMs: number;
  /** Of the label by which replicas are spread; undefined when the node does not have it. */
  readonly spreadValue: string | undefined;
}

export interface PlacementWish {
  readonly replicas: number;
  /** What one replica may come to take. */
  readonly replicaBytes: bigint;
  readonly pool: string;
  readonly spread: string;
  /** Nodes that have a replica of it already: neither they nor any that shares their value of `spread`. */
  readonly beside?: readonly string[];
  /** Where the volume's first pod will run: a replica there is read without a network. */
  readonly preferredNode?: string | undefined;
}

/** A node that was silent for longer gets nothing. */
export const SILENT_LIMIT_MS = 60_000;

/** Of a score from 0 to 1. */
const WEIGHTS = { free: 0.5, unreserved: 0.3, volumes: 0.2 } as const;

/** What a replica's files may come to take. */
export function replicaBytes(geometry: Geometry): bigint {
  return Object.values(areaSizes(geometry)).reduce((sum, size) => sum + BigInt(size), 0n);
}

/** Names of the nodes, the future primary first. The error is a message for people. */
export function placeReplicas(pools: readonly PoolFacts[], wish: PlacementWish): Result<readonly string[], string> {
  const taken = pools.filter(({ node }) => wish.beside?.includes(node));
  const free = pools.filter((pool) => !taken.includes(pool));
  const suitable = free.filter((pool) => missOf(pool, wish) === undefined);
  const chosen: PoolFacts[] = [];
  for (const pool of ranked(suitable, wish)) {
    if (chosen.length < wish.replicas && !sharesPlace([...taken, ...chosen], pool)) chosen.push(pool);
  }
  if (chosen.length === wish.replicas) return ok(chosen.map(({ node }) => node));
  return err(shortage({ free, taken, chosen }, wish));
}

function ranked(pools: readonly PoolFacts[], { preferredNode }: PlacementWish): readonly PoolFacts[] {
  const mostVolumes = Math.max(1, ...pools.map(({ volumes }) => volumes));
  const mostFree = Math.max(1, ...pools.map((pool) => Number(freeBytes(pool))));
  const scoreOf = (pool: PoolFacts) => {
    if (pool.node === preferredNode) return 2;
    const free = Number(freeBytes(pool)) / mostFree;
    const unreserved = 1 - Number(pool.reservedBytes) / Number(pool.capacityBytes || 1n);
    return WEIGHTS.free * free + WEIGHTS.unreserved * unreserved + WEIGHTS.volumes * (1 - pool.volumes / mostVolumes);
  };
  const scored = pools.map((pool) => ({ pool, score: scoreOf(pool) }));
  scored.sort((a, b) => b.score - a.score || (a.pool.node < b.pool.node ? -1 : 1));
  return scored.map(({ pool }) => pool);
}

function freeBytes({ capacityBytes, reservedBytes }: PoolFacts): bigint {
  return capacityBytes > reservedBytes ? capacityBytes - reservedBytes : 0n;
}

function sharesPlace(chosen: readonly PoolFacts[], pool: PoolFacts): boolean {
  return chosen.some(({ spreadValue }) => spreadValue === pool.spreadValue);
}

interface Miss {
  /** How far away the node is from suiting, for sorting: bytes, or beyond all bytes. */
  readonly by: bigint;
  readonly message: string;
}

const FAR = 1n << 64n;

function missOf(pool: PoolFacts, wish: PlacementWish): Miss | undefined {
  if (pool.silentMs > SILENT_LIMIT_MS) {
    const seconds = Math.round(pool.silentMs / 1000);
    return { by: FAR + 1n, message: `${pool.node}: not heard of for ${seconds} s` };
  }
  if (pool.spreadValue === undefined) return { by: FAR, message: `${pool.node}: has no label ${wish.spread}` };
  const short = wish.replicaBytes - freeBytes(pool);
  return short > 0n ? { by: short, message: `${pool.node}: ${formatBytes(short)} short` } : undefined;
}

interface Choice {
  readonly free: readonly PoolFacts[];
  readonly taken: readonly PoolFacts[];
  readonly chosen: readonly PoolFacts[];
}

function shortage({ free, taken, chosen }: Choice, wish: PlacementWish): string {
  const { replicas, pool, spread } = wish;
  const what = `${replicas} ${replicas === 1 ? 'replica' : 'replicas'} of ${formatBytes(wish.replicaBytes)} in pool "${pool}"`;
  if (free.length === 0 && taken.length === 0)
    return `no place for ${what}: no node has that pool; see kubectl get blockpools`;
  const misses = free.flatMap((facts): Miss[] => {
    if (chosen.includes(facts)) return [];
    const other = [...taken, ...chosen].find(({ spreadValue }) => spreadValue === facts.spreadValue);
    const shared = `${facts.node}: shares ${spread}=${facts.spreadValue} with ${other?.node}`;
    return [missOf(facts, wish) ?? { by: 0n, message: shared }];
  });
  misses.sort((a, b) => (a.by === b.by ? (a.message < b.message ? -1 : 1) : a.by < b.by ? -1 : 1));
  const found = chosen.length === 0 ? 'none' : chosen.map(({ node }) => node).join(', ');
  const reasons = misses.length === 0 ? 'there are no other nodes' : misses.map(({ message }) => message).join('; ');
  return `no place for ${what}: found ${found}; ${reasons}; add nodes or space, or ask for less`;
}
