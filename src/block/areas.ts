/** How large a replica's areas are, and what a volume's geometry may be. */
import { err, ok, type Result } from '../base/result.ts';
import { tablePages } from './extents.ts';
import type { Area } from './ports.ts';
import type { Geometry } from './superblock.ts';
import { BLOCK_SIZE } from './units.ts';

export const MAX_BLOCKS = 2 ** 30;
const MAX_RING_BLOCKS = 2 ** 17;
const SMALL_RING_BLOCKS = 2 ** 12;

/** Bytes of each area. */
export function areaSizes({ blocks, ringBlocks }: Geometry): Readonly<Record<Area, number>> {
  return {
    superblock: 2 * BLOCK_SIZE,
    log: ringBlocks * BLOCK_SIZE,
    table: tablePages(blocks) * 2 * BLOCK_SIZE,
    data: blocks * BLOCK_SIZE,
  };
}

/** The geometry of a volume of that size; its log is a sixteenth of it, from 16 to 512 MiB. */
export function geometryOf(sizeBytes: number): Result<Geometry, string> {
  const blocks = sizeBytes / BLOCK_SIZE;
  if (!Number.isInteger(blocks) || blocks < 1 || blocks > MAX_BLOCKS) {
    return err(`a size of ${sizeBytes} bytes; choose a multiple of ${BLOCK_SIZE}, at most 4 TiB`);
  }
  const ringBlocks = Math.min(MAX_RING_BLOCKS, Math.max(SMALL_RING_BLOCKS, Math.ceil(blocks / 16)));
  return ok({ blocks, ringBlocks });
}
