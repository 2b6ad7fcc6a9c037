/**
 * What the log says about each block beyond what is in the extents: all versions since the checkpoint, oldest first.
 * Reads look here first. Older versions are kept because an uncommitted tail may be truncated.
 */
import type { LogRecord } from './batch.ts';
import { blocksOf } from './batch.ts';
import { BLOCK_SIZE, type Lsn } from './units.ts';

export interface BlockVersion {
  readonly lsn: Lsn;
  /** Undefined: zeros. */
  readonly data: Uint8Array | undefined;
}

export class Overlay {
  readonly #versions = new Map<number, BlockVersion[]>();

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
    if (this.#versions.size === 0) return false;
    for (let block = lba; block < lba + blocks; block++) if (this.#versions.has(block)) return true;
    return false;
  }

  add(record: LogRecord, lsn: Lsn): void {
    if (record.kind === 'epoch') return;
    for (let index = 0; index < blocksOf(record); index++) {
      const start = index * BLOCK_SIZE;
      const data = record.kind === 'write' ? record.data.subarray(start, start + BLOCK_SIZE) : undefined;
      const versions = this.#versions.get(record.lba + index);
      if (versions) versions.push({ lsn, data });
      else this.#versions.set(record.lba + index, [{ lsn, data }]);
    }
  }

  /** The same record again, with its data in another place: in the batch, so that its first buffer can go. */
  move(record: LogRecord, lsn: Lsn): void {
    if (record.kind !== 'write') return;
    for (let index = 0; index < blocksOf(record); index++) {
      const versions = this.#versions.get(record.lba + index);
      const at = versions?.findLastIndex((version) => version.lsn === lsn) ?? -1;
      if (at >= 0) versions![at] = { lsn, data: record.data.subarray(index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE) };
    }
  }

  /** The newest version of a block, of those at or before `limit` if that is given. */
  newest(lba: number, limit?: Lsn): BlockVersion | undefined {
    const versions = this.#versions.get(lba);
    return limit === undefined ? versions?.at(-1) : versions?.findLast((version) => version.lsn <= limit);
  }

  /** The newest version of each block at or before `lsn`. */
  upTo(lsn: Lsn): ReadonlyMap<number, BlockVersion> {
    const changes = new Map<number, BlockVersion>();
    for (const [lba, versions] of this.#versions) {
      const version = versions.findLast((candidate) => candidate.lsn <= lsn);
      if (version) changes.set(lba, version);
    }
    return changes;
  }

  /** Forgets what is at or before `lsn`: it has been applied. */
  dropUpTo(lsn: Lsn): void {
    this.#keep((version) => version.lsn > lsn);
  }

  /** Forgets what is after `lsn`: it was never committed. */
  dropAfter(lsn: Lsn): void {
    this.#keep((version) => version.lsn <= lsn);
  }

  clear(): void {
    this.#versions.clear();
  }

  #keep(wanted: (version: BlockVersion) => boolean): void {
    for (const [lba, versions] of this.#versions) {
      const kept = versions.filter(wanted);
      if (kept.length === 0) this.#versions.delete(lba);
      else if (kept.length !== versions.length) this.#versions.set(lba, kept);
    }
  }
}
