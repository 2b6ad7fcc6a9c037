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

/** The content that a change gives one of its blocks; undefined: zeros. */
export function contentOf({ record }: Change, lba: number): Uint8Array | undefined {
  if (record.kind !== 'write') return undefined;
  const start = (lba - record.lba) * BLOCK_SIZE;
  return record.data.subarray(start, start + BLOCK_SIZE);
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

  /** The newest version of each block at or before `lsn`. */
  upTo(lsn: Lsn): ReadonlyMap<number, Change> {
    const changes = new Map<number, Change>();
    for (const [lba, versions] of this.#versions) {
      const change = versions.findLast((candidate) => candidate.lsn <= lsn);
      if (change) changes.set(lba, change);
    }
    return changes;
  }

  /** Forgets what is at or before `lsn`: it has been applied. */
  dropUpTo(limit: Lsn): void {
    this.#keep(({ lsn }) => lsn > limit);
  }

  /** Forgets what is after `lsn`: it was never committed. */
  dropAfter(limit: Lsn): void {
    this.#keep(({ lsn }) => lsn <= limit);
  }

  clear(): void {
    this.#versions.clear();
  }

  #keep(wanted: (change: Change) => boolean): void {
    for (const [lba, versions] of this.#versions) {
      if (versions.every(wanted)) continue;
      const kept = versions.filter(wanted);
      if (kept.length === 0) this.#versions.delete(lba);
      else this.#versions.set(lba, kept);
    }
  }
}
