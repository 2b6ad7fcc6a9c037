/**
 * The log ring in memory: which batches are live, and where on disk each lies.
 * Invariant: `batches` is a contiguous hash-chained prefix that begins at `base`, the checkpoint in the durable superblock;
 * nothing at or after that place in the ring is overwritten before a later superblock is durable.
 */
import { assert } from '../base/assert.ts';
import type { Batch } from './batch.ts';
import type { DiskOperation } from './ports.ts';
import { BLOCK_SIZE, type Lsn, type Point, samePoint } from './units.ts';

export interface PlacedBatch {
  readonly batch: Batch;
  /** Ring block of its header. */
  readonly position: number;
}

export class Log {
  readonly ringBlocks: number;
  #batches: PlacedBatch[] = [];
  #base: Point;
  #tail: number;
  #used = 0;

  constructor(ringBlocks: number, base: Point, tail: number) {
    this.ringBlocks = ringBlocks;
    this.#base = base;
    this.#tail = tail;
  }

  get base(): Point {
    return this.#base;
  }

  get last(): Point {
    return this.#batches.at(-1)?.batch.end ?? this.#base;
  }

  get batches(): readonly PlacedBatch[] {
    return this.#batches;
  }

  get usedBlocks(): number {
    return this.#used;
  }

  get head(): number {
    return (this.#tail + this.#used) % this.ringBlocks;
  }

  fits(batch: Batch): boolean {
    return this.#used + sizeOf(batch) <= this.ringBlocks;
  }

  place(batch: Batch): PlacedBatch {
    const { last } = this;
    assert(
      batch.firstLsn === last.lsn + 1n && batch.previousHash === last.hash,
      'a batch that does not follow the log',
    );
    assert(this.fits(batch), 'a batch that does not fit the ring');
    const placed = { batch, position: this.head };
    this.#batches.push(placed);
    this.#used += sizeOf(batch);
    return placed;
  }

  /** Takes the newest batch away. */
  pop(): PlacedBatch {
    const placed = this.#batches.pop();
    assert(placed !== undefined, 'the log is empty');
    this.#used -= sizeOf(placed.batch);
    return placed;
  }

  /** Where the log would begin if everything up to `point` were applied. */
  positionAfter(point: Point): number {
    if (samePoint(point, this.#base)) return this.#tail;
    const placed = this.#endingAt(point);
    assert(placed !== undefined, 'a checkpoint between batches');
    return (placed.position + sizeOf(placed.batch)) % this.ringBlocks;
  }

  /** Gives the ring's blocks up to `point` free, and returns the batches that were there; the superblock that says so is durable. */
  trim(point: Point): readonly Batch[] {
    this.#tail = this.positionAfter(point);
    const trimmed = this.#batches.splice(0, this.#indexOf(point.lsn) + 1).map(({ batch }) => batch);
    for (const batch of trimmed) this.#used -= sizeOf(batch);
    this.#base = point;
    return trimmed;
  }

  /** Whether `point` is the base or the end of a live batch. */
  has(point: Point): boolean {
    return samePoint(point, this.#base) || this.#endingAt(point) !== undefined;
  }

  /** The batch that follows `point`; undefined when there is none, or `point` is not in this log. */
  after(point: Point): Batch | undefined {
    if (!this.has(point)) return undefined;
    return this.#batches[this.#indexOf(point.lsn) + 1]?.batch;
  }

  /** The last batch boundary at or before `lsn`; undefined when that lies before the log. */
  boundaryBefore(lsn: Lsn): Point | undefined {
    if (lsn < this.#base.lsn) return undefined;
    return this.#batches[this.#indexOf(lsn)]?.batch.end ?? this.#base;
  }

  #endingAt(point: Point): PlacedBatch | undefined {
    const placed = this.#batches[this.#indexOf(point.lsn)];
    return placed && samePoint(placed.batch.end, point) ? placed : undefined;
  }

  /** Index of the last batch that ends at or before `lsn`; -1 when none does. */
  #indexOf(lsn: Lsn): number {
    let low = 0;
    let high = this.#batches.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#batches[middle]!.batch.end.lsn <= lsn) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

export function sizeOf(batch: Batch): number {
  return 1 + batch.payloadBlocks;
}

/** The writes of a batch at a ring block: one for each part, and one more where it goes over the ring's end. */
export function ringWrites(
  position: number,
  parts: readonly Uint8Array[],
  ringBlocks: number,
): readonly DiskOperation[] {
  const writes: DiskOperation[] = [];
  const end = ringBlocks * BLOCK_SIZE;
  let offset = position * BLOCK_SIZE;
  for (const part of parts) {
    const room = end - offset;
    writes.push({ kind: 'write', area: 'log', offset, data: part.subarray(0, room) });
    if (part.length > room) writes.push({ kind: 'write', area: 'log', offset: 0, data: part.subarray(room) });
    offset = (offset + part.length) % end;
  }
  return writes;
}

/** `blocks` ring blocks from `position` on, out of the bytes of the whole ring. */
export function ringSlice(ring: Uint8Array, position: number, blocks: number): Uint8Array {
  const start = position * BLOCK_SIZE;
  const end = start + blocks * BLOCK_SIZE;
  if (end <= ring.length) return ring.subarray(start, end);
  return Buffer.concat([ring.subarray(start), ring.subarray(0, Math.min(start, end - ring.length))]);
}
