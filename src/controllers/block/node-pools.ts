/**
 * A node's pools as BlockPools: made when the node starts, renewed while it is well and has the pool's disk. What a pool may hold is what its disk has
 * free and what its replicas have taken of it, or less where a limit was given.
 */
import { mkdir, readdir, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { messageOf, UnionError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Repository } from '../../kubernetes/repository.ts';
import { type BlockPool, type BlockPoolStatus, blockPoolName } from '../../protocol/block-resources.ts';
import { API_GROUP, API_VERSION } from '../../protocol/resources.ts';
import { expectDisk, identifyDisk } from './pool-disk.ts';

/** A third of what counts as silence (block/driver/placement.ts). */
const RENEW_MS = 20_000;
const RETRY_MS = 1_000;
const SECTOR_BYTES = 512;

export interface PoolPlace {
  readonly name: string;
  readonly directory: string;
  readonly limitBytes: bigint | undefined;
}

export interface NodePoolsOptions {
  readonly node: string;
  readonly pools: readonly PoolPlace[];
  readonly addresses: Pick<BlockPoolStatus, 'peerAddress' | 'exportAddress'>;
  readonly repository: Repository<BlockPool>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Registers and renews until the signal aborts. */
export async function keepPools(options: NodePoolsOptions, signal: AbortSignal): Promise<void> {
  const { pools, clock, log } = options;
  while (!signal.aborted) {
    let pauseMs = RENEW_MS;
    for (const pool of pools) {
      try {
        await renew(options, pool, signal);
      } catch (error) {
        if (!signal.aborted) log.warn('block.pool', { pool: pool.name, message: messageOf(error) });
        // What is for people to mend takes its time.
        if (!(error instanceof UnionError && error.code === 'FAILED_PRECONDITION')) pauseMs = RETRY_MS;
      }
    }
    await clock.sleep(pauseMs, signal).catch(() => {});
  }
}

async function renew(options: NodePoolsOptions, pool: PoolPlace, signal: AbortSignal): Promise<void> {
  const { node, addresses, repository, clock } = options;
  const name = blockPoolName(pool.name, node);
  const { directory } = pool;
  await mkdir(directory, { recursive: true });
  const before = await repository.get({ name }, signal);
  await expectDisk(directory, before);
  const diskId = before?.status?.diskId ?? (await identifyDisk(directory));
  const capacityBytes = String(await capacityOf(pool));
  const lastSeen = new Date(clock.now()).toISOString();
  const status: BlockPoolStatus = { ...addresses, capacityBytes, lastSeen, diskId };
  if (before === undefined) {
    const apiVersion = `${API_GROUP}/${API_VERSION}` as const;
    const spec = { node, pool: pool.name, directory };
    await repository.create({ apiVersion, kind: 'BlockPool', metadata: { name }, spec }, signal);
  }
  await repository.patchStatusMerge({ name }, { status }, signal);
}

async function capacityOf({ directory, limitBytes }: PoolPlace): Promise<bigint> {
  const { bavail, bsize } = await statfs(directory, { bigint: true });
  let bytes = bavail * bsize;
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    // One that was removed meanwhile is free by now.
    const found = await stat(join(entry.parentPath, entry.name), { bigint: true }).catch(() => undefined);
    if (found) bytes += found.blocks * BigInt(SECTOR_BYTES);
  }
  return limitBytes !== undefined && limitBytes < bytes ? limitBytes : bytes;
}
