/**
 * A disk with a cache, as a filesystem on a real one shows it: writes are seen at once and kept for sure only after a sync.
 * Power loss keeps any part of what was not synced, in any order, torn at 512 bytes or 4 KiB. A killed process loses nothing
 * that it had handed over. A failed sync forgets which writes it owed: they stay visible and are gone after power loss.
 * It can also lie: drop a write, put it elsewhere, flip a bit, come back blank.
 */
import type { Area, DiskOperation, DiskOutcome } from '../../src/block/ports.ts';
import { BLOCK_SIZE } from '../../src/block/units.ts';
import type { Random } from './random.ts';

type Blocks = Map<number, Uint8Array>;

interface Change {
  readonly block: number;
  /** Undefined: zeros. */
  readonly data: Uint8Array | undefined;
}

interface AreaState {
  /** What survives power loss. */
  media: Blocks;
  /** What reads see. */
  view: Blocks;
  unsynced: Change[];
}

export type DiskError = 'eio-write' | 'enospc' | 'eio-sync' | 'eio-read';
export type Lie = 'drop' | 'misdirect';

const SECTOR = 512;
const ZEROS: Uint8Array = Buffer.alloc(BLOCK_SIZE);
const AREAS: readonly Area[] = ['superblock', 'log', 'table', 'data'];

export class VirtualDisk {
  readonly #random: Random;
  readonly #areas = new Map<Area, AreaState>();
  readonly #inFlight = new Set<DiskOperation>();
  #errors: DiskError[] = [];
  #lie: { readonly kind: Lie; readonly area: Area } | undefined;
  /** Called when a lie has happened. */
  onLie: (kind: string) => void = () => {};

  constructor(random: Random) {
    this.#random = random;
    this.wipe();
  }

  wipe(): void {
    for (const area of AREAS) this.#areas.set(area, { media: new Map(), view: new Map(), unsynced: [] });
  }

  /** The first bytes of an area, as a read would find them. */
  peek(area: Area, length: number): Uint8Array {
    return readFrom(this.#areas.get(area)!.view, 0, length);
  }

  failNext(error: DiskError): void {
    this.#errors.push(error);
  }

  lieNext(kind: Lie, area: Area): void {
    this.#lie = { kind, area };
  }

  heal(): void {
    this.#errors = [];
    this.#lie = undefined;
  }

  begin(operation: DiskOperation): void {
    this.#inFlight.add(operation);
  }

  finish(operation: DiskOperation): DiskOutcome {
    this.#inFlight.delete(operation);
    const area = this.#areas.get(operation.area)!;
    switch (operation.kind) {
      case 'read':
        if (this.#takes('eio-read')) return { ok: false, error: 'EIO' };
        return { ok: true, data: readFrom(area.view, operation.offset, operation.length) };
      case 'grow':
        return { ok: true, data: undefined };
      case 'hole':
        if (this.#takes('eio-read')) return { ok: false, error: 'EIO' };
        return { ok: true, data: undefined, holeBytes: holeBytes(area.view, operation.offset, operation.length) };
      case 'sync':
        if (this.#takes('eio-sync')) {
          this.#keepSome(area);
          return { ok: false, error: 'EIO' };
        }
        for (const change of area.unsynced) put(area.media, change);
        area.unsynced = [];
        return { ok: true, data: undefined };
      case 'write':
      case 'discard':
        if (this.#takes('eio-write')) return { ok: false, error: 'EIO' };
        if (operation.area === 'data' && operation.kind === 'write' && this.#takes('enospc')) {
          return { ok: false, error: 'ENOSPC' };
        }
        this.#write(area, operation);
        return { ok: true, data: undefined };
    }
  }

  /** Carries an operation out at once and for good. */
  force(operation: DiskOperation): void {
    this.finish(operation);
    const area = this.#areas.get(operation.area)!;
    for (const change of area.unsynced) put(area.media, change);
    area.unsynced = [];
  }

  #write(area: AreaState, operation: DiskOperation, wanted = changesOf(operation)): void {
    let changes = wanted;
    if (this.#lie?.area === operation.area) {
      const { kind } = this.#lie;
      this.#lie = undefined;
      this.onLie(kind);
      const shift = this.#random.integer(1, 3);
      changes = kind === 'drop' ? [] : changes.map(({ block, data }) => ({ block: block + shift, data }));
    }
    for (const change of changes) put(area.view, change);
    area.unsynced.push(...changes);
  }

  #takes(error: DiskError): boolean {
    const index = this.#errors.indexOf(error);
    if (index < 0) return false;
    this.#errors.splice(index, 1);
    return true;
  }

  /** The process is killed: what it had asked for happens wholly, not at all, or, block by block, in part. */
  kill(): void {
    for (const operation of this.#inFlight) {
      if (operation.kind !== 'write' && operation.kind !== 'discard') continue;
      const fate = this.#random.next();
      const changes = changesOf(operation);
      const count = fate < 0.4 ? 0 : fate < 0.8 ? changes.length : this.#random.integer(0, changes.length);
      this.#write(this.#areas.get(operation.area)!, operation, changes.slice(0, count));
    }
    this.#inFlight.clear();
  }

  losePower(): void {
    this.kill();
    for (const area of this.#areas.values()) {
      this.#keepSome(area);
      area.view = new Map(area.media);
    }
  }

  #keepSome(area: AreaState): void {
    const fate = this.#random.next();
    for (const change of area.unsynced) {
      const kept = fate < 0.25 ? 0 : fate < 0.5 ? 1 : this.#random.next();
      if (kept < 0.4) continue;
      if (kept < 0.6) put(area.media, this.#torn(area, change));
      else put(area.media, change);
    }
    area.unsynced = [];
  }

  #torn(area: AreaState, change: Change): Change {
    const data = Buffer.from(area.media.get(change.block) ?? ZEROS);
    const wanted = change.data ?? ZEROS;
    for (let start = 0; start < BLOCK_SIZE; start += SECTOR) {
      if (this.#random.chance(0.5)) data.set(wanted.subarray(start, start + SECTOR), start);
    }
    return { block: change.block, data };
  }

  /** Flips a bit of something that is there; false when there is nothing. */
  flip(areaName: Area): boolean {
    const area = this.#areas.get(areaName)!;
    const blocks = [...area.media.keys()];
    if (blocks.length === 0) return false;
    const block = this.#random.pick(blocks);
    const bit = this.#random.integer(0, BLOCK_SIZE * 8 - 1);
    for (const blocksOf of [area.media, area.view]) {
      const data = Buffer.from(blocksOf.get(block) ?? ZEROS);
      data[bit >> 3]! ^= 1 << (bit & 7);
      blocksOf.set(block, data);
    }
    return true;
  }
}

function put(blocks: Blocks, { block, data }: Change): void {
  if (data) blocks.set(block, data);
  else blocks.delete(block);
}

function changesOf(operation: DiskOperation): readonly Change[] {
  if (operation.kind !== 'write' && operation.kind !== 'discard') return [];
  const first = operation.offset / BLOCK_SIZE;
  const length = operation.kind === 'write' ? operation.data.length : operation.length;
  return Array.from({ length: length / BLOCK_SIZE }, (_, index) => {
    const start = index * BLOCK_SIZE;
    // A copy: what was written is the replica's to use again.
    const data = operation.kind === 'write' ? Buffer.copyBytesFrom(operation.data, start, BLOCK_SIZE) : undefined;
    return { block: first + index, data };
  });
}

function holeBytes(blocks: Blocks, offset: number, length: number): number {
  let end = offset;
  while (end < offset + length && !blocks.has(end / BLOCK_SIZE)) end += BLOCK_SIZE;
  return end - offset;
}

function readFrom(blocks: Blocks, offset: number, length: number): Uint8Array {
  const first = offset / BLOCK_SIZE;
  const single = blocks.get(first);
  if (length === BLOCK_SIZE) return single ?? ZEROS;
  const result = Buffer.alloc(length);
  for (let index = 0; index < length / BLOCK_SIZE; index++) {
    const data = blocks.get(first + index);
    if (data) result.set(data, index * BLOCK_SIZE);
  }
  return result;
}
