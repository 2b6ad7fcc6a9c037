/**
 * One replica's disk: superblocks, log, extents, and the tasks that change them.
 * Invariants (README.md, I2, I5, I10): checkpoint ≤ committed ≤ durable; a batch is written only when the one before it is
 * durable; every task may be cut off at any operation and is made good by `open`.
 */
import { assert } from '../base/assert.ts';
import { areaSizes } from './areas.ts';
import type { Batch } from './batch.ts';
import type { Decisions } from './decisions.ts';
import { Extents } from './extents.ts';
import { Log, ringWrites } from './log.ts';
import { type Change, Overlay } from './overlay.ts';
import type { DiskOperation } from './ports.ts';
import { findDamage, readBlocks } from './reader.ts';
import { chooseSuperblock, type Identity, scanLog } from './recovery.ts';
import { encodeSuperblock, type Superblock } from './superblock.ts';
import { perform, readAll, type Task, until } from './tasks.ts';
import { BLOCK_SIZE, type Lsn, ORIGIN, type Point, samePoint, toEpoch, toLsn } from './units.ts';

/** A checkpoint begins when so much waits for it: half the ring, or this many blocks in memory. */
const MAX_OVERLAY_BLOCKS = 16_384;

export type Opening = { readonly ok: true } | { readonly ok: false; readonly reason: string };

export class Store {
  readonly identity: Identity;
  readonly overlay = new Overlay();
  readonly #decisions: Decisions;
  readonly #release: (parts: readonly Uint8Array[]) => void;
  #superblock: Superblock;
  #log: Log;
  #extents: Extents;
  /** The log prefix that is on this disk. */
  #durable: Point = ORIGIN;
  /** The log prefix known to be on every disk of the in-sync set. */
  #committed: Point = ORIGIN;
  /** False: neither log nor extents mean anything; a rebuild is needed. */
  #usable = false;
  /** False: some block was found damaged; the others still count. */
  #intact = true;
  /** Sizes of the volume that the log tells of, oldest first. */
  #sizes: { readonly lsn: Lsn; readonly blocks: number }[] = [];
  #savingSuperblock = false;
  #changingLog = false;
  #applying = false;

  /** `release` is told of memory that nothing here uses any more. */
  constructor(identity: Identity, decisions: Decisions, release: (parts: readonly Uint8Array[]) => void = () => {}) {
    this.identity = identity;
    this.#decisions = decisions;
    this.#release = release;
    this.#superblock = newSuperblock(identity, { complete: false });
    this.#log = new Log(identity.geometry.ringBlocks, ORIGIN, 0);
    this.#extents = new Extents(identity.volume, identity.geometry.blocks);
  }

  get log(): Log {
    return this.#log;
  }
  get extents(): Extents {
    return this.#extents;
  }
  get durable(): Point {
    return this.#durable;
  }
  get committed(): Point {
    return this.#committed;
  }
  get promised() {
    return this.#superblock.promised;
  }
  get usable(): boolean {
    return this.#usable;
  }
  get intact(): boolean {
    return this.#intact;
  }
  /** The volume's size: as the log has it last, and as far as that is committed. */
  get blocks(): number {
    return this.#sizes.at(-1)?.blocks ?? this.#superblock.geometry.blocks;
  }
  get committedBlocks(): number {
    return this.#blocksAt(this.#committed.lsn);
  }
  #blocksAt(limit: Lsn): number {
    return this.#sizes.findLast(({ lsn }) => lsn <= limit)?.blocks ?? this.#superblock.geometry.blocks;
  }

  /** False when clients have to wait until a checkpoint has made room in memory. */
  get hasRoom(): boolean {
    return this.overlay.size < 2 * MAX_OVERLAY_BLOCKS;
  }
  get wantsCheckpoint(): boolean {
    const full = this.#log.usedBlocks * 2 > this.#log.ringBlocks || this.overlay.size > MAX_OVERLAY_BLOCKS;
    return full && !this.#applying && this.#committed.lsn > this.#log.base.lsn;
  }

  /** Makes sense of the disk. Writes nothing to a disk that is not ours. */
  *open(): Task<Opening> {
    const { identity } = this;
    const [bytes] = yield* readAll([{ kind: 'read', area: 'superblock', offset: 0, length: 2 * BLOCK_SIZE }]);
    const choice = chooseSuperblock(bytes, identity);
    if (!choice.ok) return { ok: false, reason: choice.error };
    if (choice.value !== undefined) this.#superblock = choice.value;
    const { checkpoint, tail, complete, geometry } = this.#superblock;
    this.#log = new Log(geometry.ringBlocks, checkpoint, tail);
    this.#extents = new Extents(identity.volume, geometry.blocks);
    this.#durable = checkpoint;
    this.#committed = checkpoint;
    // A killed process may have left it in the page cache only, and the room in the ring that it frees is written to below.
    yield* this.saveSuperblock({});
    if (complete && !((yield* this.#extents.load()) && (yield* this.#replay()))) {
      // Not taken for damage: a read that fails today may succeed tomorrow, and what is there must stay as it is.
      return { ok: false, reason: 'table or log cannot be read; check the disk and start the replica again' };
    }
    return { ok: true };
  }

  /** False when the log cannot be read. Leaves the replica unusable when the log is damaged. */
  *#replay(): Task<boolean> {
    const { ringBlocks } = this.#log;
    const [ring] = yield* readAll([{ kind: 'read', area: 'log', offset: 0, length: ringBlocks * BLOCK_SIZE }]);
    if (ring === undefined) return false;
    const { checkpoint: base, tail } = this.#superblock;
    const scan = scanLog(ring, { volume: this.identity.volume, base, tail });
    if (scan.damaged) return true;
    for (const { batch } of scan.batches) this.#log.place(batch);
    for (const { batch } of this.#decisions.replayOrder(scan.batches)) {
      yield* this.growFor(batch);
      this.addToOverlay(batch);
    }
    // Written again before it counts: after a failed sync the page cache may show what never reached the disk.
    yield* perform(scan.batches.flatMap(({ batch, position }) => [...ringWrites(position, batch.parts, ringBlocks)]));
    // A torn batch may have left an intact header, which would look like proof of damage once the log has been truncated.
    if (this.#log.usedBlocks < ringBlocks)
      yield* perform(ringWrites(this.#log.head, [Buffer.alloc(BLOCK_SIZE)], ringBlocks));
    yield* perform([{ kind: 'sync', area: 'log' }]);
    yield* this.#extents.settle(this.overlay.blocks());
    this.#durable = this.#log.last;
    this.#usable = true;
    return true;
  }

  addToOverlay(batch: Batch): void {
    batch.records.forEach((record, index) => {
      this.addChange({ record, lsn: toLsn(batch.firstLsn + BigInt(index)) });
    });
  }

  addChange(change: Change): void {
    const { record, lsn } = change;
    if (record.kind === 'resize') this.#sizes.push({ lsn, blocks: record.blocks });
    this.overlay.add(change, this.#committed.lsn);
  }

  /** Forgets what the log does not have. */
  forgetAfter(limit: Lsn): void {
    this.overlay.dropAfter(limit);
    this.#sizes = this.#sizes.filter(({ lsn }) => lsn <= limit);
  }

  *growFor(batch: Batch): Task {
    for (const record of batch.records) if (record.kind === 'resize') yield* this.grow(record.blocks);
  }

  /** Makes room for so many blocks; before a record that says so counts. */
  *grow(blocks: number): Task {
    const sizes = areaSizes({ blocks, ringBlocks: this.#log.ringBlocks });
    yield* perform((['table', 'data'] as const).map((area) => ({ kind: 'grow', area, length: sizes[area] })));
  }

  *saveSuperblock(
    change: Partial<Pick<Superblock, 'promised' | 'checkpoint' | 'tail' | 'complete' | 'geometry'>>,
  ): Task {
    yield* until(() => !this.#savingSuperblock);
    this.#savingSuperblock = true;
    const current = this.#superblock;
    const next = { ...current, ...change, sequence: current.sequence + 1n };
    // A promise is never taken back, in whatever order those who wait here come.
    if (next.promised < current.promised) next.promised = current.promised;
    yield* perform(superblockWrites(next).slice(0, 1));
    yield* perform([{ kind: 'sync', area: 'superblock' }]);
    yield* perform(superblockWrites(next).slice(1));
    yield* perform([{ kind: 'sync', area: 'superblock' }]);
    this.#superblock = next;
    this.#savingSuperblock = false;
  }

  /** Whether `append` may be called now, for a batch of so many ring blocks. */
  canAppend(ringBlocks: number): boolean {
    return !this.#changingLog && this.#log.usedBlocks + ringBlocks <= this.#log.ringBlocks;
  }

  /** Appends a batch that follows the log; durable when it returns. */
  *append(batch: Batch): Task {
    assert(!this.#changingLog, 'two changes of the log at once');
    this.#changingLog = true;
    const { position } = this.#log.place(batch);
    yield* perform(ringWrites(position, batch.parts, this.#log.ringBlocks));
    yield* perform([{ kind: 'sync', area: 'log' }]);
    this.#durable = batch.end;
    this.#changingLog = false;
  }

  /** Takes back what follows `point`, newest first, so that at any moment what is left is a prefix. */
  *truncate(point: Point): Task {
    yield* until(() => !this.#changingLog);
    this.#changingLog = true;
    assert(point.lsn >= this.#committed.lsn, 'a committed record must not be truncated');
    while (!samePoint(this.#log.last, point)) {
      const { position } = this.#log.pop();
      this.#durable = this.#log.last;
      yield* perform(ringWrites(position, [Buffer.alloc(BLOCK_SIZE)], this.#log.ringBlocks));
      yield* perform([{ kind: 'sync', area: 'log' }]);
    }
    this.forgetAfter(point.lsn);
    this.#changingLog = false;
  }

  commit(point: Point): void {
    if (point.lsn > this.#committed.lsn) this.#committed = point;
  }

  /** Whether nothing is changing the log. */
  get isQuiet(): boolean {
    return !this.#changingLog;
  }

  /** Extents change in one way at a time: a checkpoint, a base, a reset. */
  *lockExtents(): Task {
    yield* until(() => !this.#applying);
    this.#applying = true;
  }

  unlockExtents(): void {
    this.#applying = false;
  }

  /** Moves the committed prefix from the log to the extents and frees its room in the ring. */
  *checkpoint(): Task {
    // Never beyond what is committed: what is applied cannot be truncated when a later primary has decided otherwise.
    const target = this.#committed;
    if (this.#applying || target.lsn <= this.#log.base.lsn) return;
    this.#applying = true;
    yield* this.#extents.apply(this.overlay.upTo(target.lsn));
    const geometry = { ringBlocks: this.#log.ringBlocks, blocks: this.#blocksAt(target.lsn) };
    yield* this.saveSuperblock({ checkpoint: target, tail: this.#log.positionAfter(target), geometry });
    const trimmed = this.#log.trim(target);
    this.overlay.dropUpTo(target.lsn);
    // They were appended, or they would not be committed, and what the extents have was copied.
    this.#release(trimmed.flatMap(({ parts }) => parts));
    this.#sizes = this.#sizes.filter(({ lsn }) => lsn > target.lsn);
    this.unlockExtents();
  }

  /** Begins a rebuild: empties the log, which will go on after `point`, where the volume has `blocks` blocks. Extents keep what
   * they hold: the base covers all. False when the disk cannot be read. */
  *reset(point: Point, blocks: number): Task<boolean> {
    this.#usable = false;
    yield* this.lockExtents();
    yield* until(() => !this.#changingLog);
    this.#changingLog = true;
    const done = yield* this.#emptyLog(point, blocks);
    this.unlockExtents();
    this.#changingLog = false;
    return done;
  }

  *#emptyLog(point: Point, blocks: number): Task<boolean> {
    const { ringBlocks } = this.#log;
    // What this replica knew of beyond that may have been made room for by a primary that was overruled.
    const extents = new Extents(this.identity.volume, Math.max(blocks, this.blocks));
    yield* this.grow(Math.max(blocks, this.blocks));
    // Read anew, so that new versions of pages get higher sequences than whatever lies there.
    if (!(yield* extents.load())) return false;
    yield* this.saveSuperblock({ complete: false });
    yield* perform([{ kind: 'discard', area: 'log', offset: 0, length: ringBlocks * BLOCK_SIZE }]);
    yield* perform([{ kind: 'sync', area: 'log' }]);
    yield* this.saveSuperblock({ checkpoint: point, tail: 0, geometry: { ringBlocks, blocks } });
    this.#log = new Log(ringBlocks, point, 0);
    this.#extents = extents;
    this.#intact = true;
    this.overlay.clear();
    this.#sizes = [];
    this.#durable = point;
    this.#committed = point;
    return true;
  }

  /** Ends a rebuild: base and log are here and durable. */
  *complete(): Task {
    yield* this.lockExtents();
    yield* this.#extents.flush();
    yield* this.saveSuperblock({ complete: true });
    this.unlockExtents();
    this.#usable = true;
  }

  /** Gives up on what is here; only a rebuild helps. */
  condemn(): void {
    this.#usable = false;
  }

  /** The blocks' newest content, or only what is committed; undefined when some of it is damaged. */
  *read(lba: number, blocks: number, which: 'newest' | 'committed' = 'newest'): Task<Uint8Array | undefined> {
    const limit = () => (which === 'committed' ? this.#committed.lsn : undefined);
    return yield* readBlocks(this, { start: lba, blocks }, limit);
  }

  /** Whether log and table know of no change there. */
  isUnwritten(lba: number, blocks: number): boolean {
    return this.#unwrittenBlocks(lba, blocks) === blocks;
  }

  #unwrittenBlocks(lba: number, most: number): number {
    return this.overlay.untouched(lba, this.#extents.unwrittenBlocks(lba, most));
  }

  /** How many blocks from `lba` on, at most `most`, were never written: the disk itself agrees, so that a table that has lost
   * a page does not make data look like zeros. */
  *blankBlocks(lba: number, most: number): Task<number> {
    const length = this.#unwrittenBlocks(lba, most) * BLOCK_SIZE;
    if (length === 0) return 0;
    const [outcome] = yield [{ kind: 'hole', area: 'data', offset: lba * BLOCK_SIZE, length }];
    return outcome?.ok ? Math.floor((outcome.holeBytes ?? 0) / BLOCK_SIZE) : 0;
  }

  /** Reads blocks for their own sake and returns those that are damaged. */
  *scrub(lba: number, blocks: number): Task<readonly number[]> {
    const { extents } = this;
    const damaged = yield* findDamage(this, { start: lba, blocks });
    // What a rebuild replaces meanwhile is not looked at.
    if (!this.#usable || extents !== this.#extents) return [];
    if (damaged.length > 0) this.#intact = false;
    return damaged;
  }
}

function superblockWrites(superblock: Superblock): readonly DiskOperation[] {
  const data = encodeSuperblock(superblock);
  return [0, 1].map((slot): DiskOperation => ({ kind: 'write', area: 'superblock', offset: slot * BLOCK_SIZE, data }));
}

function newSuperblock(identity: Identity, state: { readonly complete: boolean }): Superblock {
  return { ...identity, sequence: 0n, promised: toEpoch(0), checkpoint: ORIGIN, tail: 0, complete: state.complete };
}

/** What makes blank areas a replica of a new, empty volume. Never for a replica that has been one before. */
export function formatReplica(identity: Identity): readonly DiskOperation[] {
  return [...superblockWrites(newSuperblock(identity, { complete: true })), { kind: 'sync', area: 'superblock' }];
}
