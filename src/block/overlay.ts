/**
 * What the log says about each block beyond what is in the extents: all versions since the checkpoint, oldest first, but for those
 * that a committed one has replaced. Reads look here first. Older versions are kept because an uncommitted tail may be truncated.
 */
import { crc32 } from 'node:zlib';
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

export class Overlay {
  /** The lists are shared by the blocks of a record, and never changed. */
  readonly #versions = new Map<number, readonly Change[]>();

  /** How many blocks have a version here. */
  get size(): number {
    return this.#versions.size;
  }

  /** Blocks that have a version here. */
  blocks(): Iterable<number> {
    return this.#versions.keys();
  }

  /** Whether any of these blocks has a version here. */
  touches(lba: number, blocks: number): boolean {
    return this.untouched(lba, blocks) < blocks;
  }

  /** How many blocks from `lba` on, at most `most`, have no version here. */
  untouched(lba: number, most: number): number {
    if (this.#versions.size === 0) return most;
    let block = lba;
    while (block < lba + most && !this.#versions.has(block)) block++;
    return block - lba;
  }

  /** What is older than the newest version at or before `committed` is forgotten: nobody can go back there. */
  add(change: Change, committed: Lsn): void {
    const { record } = change;
    if (record.kind === 'epoch' || record.kind === 'resize') return;
    const alone = [change];
    const end = record.lba + blocksOf(record);
    for (let block = record.lba; block < end; block++) {
      const before = this.#versions.get(block);
      if (before === undefined) this.#versions.set(block, alone);
      else {
        const from = Math.max(
          0,
          before.findLastIndex(({ lsn }) => lsn <= committed),
        );
        this.#versions.set(block, [...before.slice(from), change]);
      }
    }
  }

  /** The newest version of a block, of those at or before `limit` if that is given; that must not be before what is committed. */
  newest(lba: number, limit?: Lsn): Change | undefined {
    const versions = this.#versions.get(lba);
    return limit === undefined ? versions?.at(-1) : versions?.findLast(({ lsn }) => lsn <= limit);
  }

  /** The newest version of each block at or before `lsn`, in the order of the volume. */
  upTo(lsn: Lsn): readonly BlockChange[] {
    const changes: BlockChange[] = [];
    for (const lba of Float64Array.from(this.#versions.keys()).sort()) {
      const versions = this.#versions.get(lba)!;
      const count = countUpTo(versions, lsn);
      if (count > 0) changes.push({ lba, change: versions[count - 1]! });
    }
    return changes;
  }

  /** Forgets what is at or before `lsn`: it has been applied. */
  dropUpTo(lsn: Lsn): void {
    for (const [lba, versions] of this.#versions) this.#keep(lba, versions, countUpTo(versions, lsn), versions.length);
  }

  /** Forgets what is after `lsn`: it was never committed. */
  dropAfter(lsn: Lsn): void {
    for (const [lba, versions] of this.#versions) this.#keep(lba, versions, 0, countUpTo(versions, lsn));
  }

  clear(): void {
    this.#versions.clear();
  }

  #keep(lba: number, versions: readonly Change[], from: number, to: number): void {
    if (from === to) this.#versions.delete(lba);
    else if (to - from < versions.length) this.#versions.set(lba, versions.slice(from, to));
  }
}

/** How many of the versions, oldest first, are at or before `lsn`. */
function countUpTo(versions: readonly Change[], lsn: Lsn): number {
  let count = versions.length;
  while (count > 0 && versions[count - 1]!.lsn > lsn) count--;
  return count;
}
