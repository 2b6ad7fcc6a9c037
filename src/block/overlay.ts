/**
 * What the log says about each block beyond what is in the extents: all versions since the checkpoint, oldest first, but for those
 * that a committed one has replaced. Reads look here first. Older versions are kept because an uncommitted tail may be truncated.
 */
import { crc32 } from '@node-rs/crc32';
import type { LogRecord } from './batch.ts';
import { blocksOf } from './batch.ts';
import { BLOCK_SIZE, type Lsn } from './units.ts';

/** A record in its place in the log: one for all the blocks it speaks for. */
export interface Change {
  readonly lsn: Lsn;
  /** Replaced by the same record with its data in another place, so that its first buffer can go. */
  record: LogRecord;
}

/** What becomes of a block. */
export interface BlockChange {
  readonly lba: number;
  readonly change: Change;
}

/** The content that a change gives some of its blocks; undefined: zeros. */
export function contentOf({ record }: Change, lba: number, blocks = 1): Uint8Array | undefined {
  if (record.kind !== 'write') return undefined;
  const start = (lba - record.lba) * BLOCK_SIZE;
  return record.data.subarray(start, start + blocks * BLOCK_SIZE);
}

/** The checksum of that content; undefined: of zeros. */
export function crcOf(change: Change, lba: number): number | undefined {
  const { record } = change;
  if (record.kind !== 'write') return undefined;
  return record.crcs ? record.crcs[lba - record.lba]! : crc32(contentOf(change, lba)!);
}

/** All versions of a block, oldest first. The lists are shared by the blocks of a record, and never changed. */
type Versions = readonly Change[];

/** Neighbours that are looked up together: a large write is one step for each sixteen of its blocks. */
const CHUNK_BLOCKS = 16;

export class Overlay {
  /** By number; none is empty. */
  readonly #chunks = new Map<number, (Versions | undefined)[]>();
  #size = 0;

  /** How many blocks have a version here. */
  get size(): number {
    return this.#size;
  }

  /** Blocks that have a version here. */
  *blocks(): Iterable<number> {
    for (const [index, chunk] of this.#chunks) {
      for (let slot = 0; slot < CHUNK_BLOCKS; slot++) if (chunk[slot]) yield index * CHUNK_BLOCKS + slot;
    }
  }

  /** Whether any of these blocks has a version here. */
  touches(lba: number, blocks: number): boolean {
    return this.untouched(lba, blocks) < blocks;
  }

  /** How many blocks from `lba` on, at most `most`, have no version here. */
  untouched(lba: number, most: number): number {
    if (this.#size === 0) return most;
    const end = lba + most;
    for (let block = lba; block < end; ) {
      const chunk = this.#chunks.get(Math.floor(block / CHUNK_BLOCKS));
      if (chunk?.[block % CHUNK_BLOCKS]) return block - lba;
      block = chunk ? block + 1 : chunkEnd(block);
    }
    return most;
  }

  /** What is older than the newest version at or before `committed` is forgotten: nobody can go back there. */
  add(change: Change, committed: Lsn): void {
    const { record } = change;
    if (record.kind === 'epoch' || record.kind === 'resize') return;
    const alone = [change];
    const end = record.lba + blocksOf(record);
    for (let block = record.lba; block < end; ) {
      const chunk = this.#chunkOf(block);
      for (const stop = Math.min(end, chunkEnd(block)); block < stop; block++) {
        const slot = block % CHUNK_BLOCKS;
        const before = chunk[slot];
        if (before === undefined) this.#size++;
        chunk[slot] = before === undefined ? alone : [...before.slice(newestUpTo(before, committed)), change];
      }
    }
  }

  #chunkOf(block: number): (Versions | undefined)[] {
    const index = Math.floor(block / CHUNK_BLOCKS);
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      chunk = new Array(CHUNK_BLOCKS).fill(undefined);
      this.#chunks.set(index, chunk);
    }
    return chunk;
  }

  /** The newest version of a block, of those at or before `limit` if that is given; that must not be before what is committed. */
  newest(lba: number, limit?: Lsn): Change | undefined {
    const versions = this.#chunks.get(Math.floor(lba / CHUNK_BLOCKS))?.[lba % CHUNK_BLOCKS];
    return limit === undefined ? versions?.at(-1) : versions?.findLast(({ lsn }) => lsn <= limit);
  }

  /** The newest version of each block at or before `lsn`, in the order of the volume. */
  upTo(lsn: Lsn): readonly BlockChange[] {
    const changes: BlockChange[] = [];
    for (const index of Float64Array.from(this.#chunks.keys()).sort()) {
      this.#chunks.get(index)!.forEach((versions, slot) => {
        const count = versions ? countUpTo(versions, lsn) : 0;
        if (count > 0) changes.push({ lba: index * CHUNK_BLOCKS + slot, change: versions![count - 1]! });
      });
    }
    return changes;
  }

  /** Forgets what is at or before `lsn`: it has been applied. */
  dropUpTo(lsn: Lsn): void {
    this.#keep((versions) => part(versions, countUpTo(versions, lsn), versions.length));
  }

  /** Forgets what is after `lsn`: it was never committed. */
  dropAfter(lsn: Lsn): void {
    this.#keep((versions) => part(versions, 0, countUpTo(versions, lsn)));
  }

  clear(): void {
    this.#chunks.clear();
    this.#size = 0;
  }

  #keep(some: (versions: Versions) => Versions | undefined): void {
    this.#size = 0;
    for (const [index, chunk] of this.#chunks) {
      let left = 0;
      for (let slot = 0; slot < CHUNK_BLOCKS; slot++) {
        const versions = chunk[slot];
        if (versions === undefined) continue;
        chunk[slot] = some(versions);
        if (chunk[slot]) left++;
      }
      if (left === 0) this.#chunks.delete(index);
      this.#size += left;
    }
  }
}

/** Undefined: none of them. */
function part(versions: Versions, from: number, to: number): Versions | undefined {
  if (from === to) return undefined;
  return to - from === versions.length ? versions : versions.slice(from, to);
}

/** The first block of the next chunk. */
function chunkEnd(block: number): number {
  return (Math.floor(block / CHUNK_BLOCKS) + 1) * CHUNK_BLOCKS;
}

/** Index of the newest of the versions at or before `lsn`; 0 when there is none. */
function newestUpTo(versions: Versions, lsn: Lsn): number {
  return Math.max(0, countUpTo(versions, lsn) - 1);
}

/** How many of the versions, oldest first, are at or before `lsn`. */
function countUpTo(versions: readonly Change[], lsn: Lsn): number {
  let count = versions.length;
  while (count > 0 && versions[count - 1]!.lsn > lsn) count--;
  return count;
}
