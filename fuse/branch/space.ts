/**
 * What policies and STATFS are told of each branch's space. The figures are in the branches' records, for all threads. Who
 * chooses a branch asks none but the one that it chose, and that the sooner the closer it is to its reserve: as often as
 * the fastest writer could use up what is left. The others are asked every REFRESH_MS while somebody chooses, by a reader that
 * has replied: a branch that hangs holds up that one alone, and no create on others.
 */
import { performance } from 'node:perf_hooks';
import type { State } from '../inode/state.ts';
import type { BranchFacts } from '../policy/facts.ts';
import { STATX } from '../protocol/abi.ts';
import { AT_EMPTY_PATH, AT_STATX_DONT_SYNC } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Gate } from './gate.ts';
import { type BranchTable, figuresOf } from './table.ts';

export const REFRESH_MS = 500;
/** As fast as writes into page cache are taken for: 8 GiB/s. */
const FASTEST_FILL_BYTES_PER_MS = 8 * 1024 ** 2;
/** Nobody else asks a branch that has not answered for less than this; by then it is avoided (branch/health.ts). */
const ANSWER_LIMIT_MS = 5_000;
const ST_RDONLY = 1;
const DEVICE_ONLY = 0;
/** For struct statfs, or struct statx. */
export const SPACE_BYTES = STATX.bytes;

/** The figures of a record, by place; the first tells when they were asked for. */
const FIGURE = { askedAt: 0, available: 1, total: 2, free: 3, files: 4, freeFiles: 5, readOnly: 6, device: 7 } as const;

export interface SpaceRow {
  index: number;
  mode: 'RW' | 'RO' | 'NC';
  readOnlyFilesystem: boolean;
  availableBytes: number;
  usedBytes: number;
  totalBytes: number;
  minFreeSpaceBytes: number;
  freeBytes: number;
  files: number;
  freeFiles: number;
  /** Tells equal filesystems: the device number. */
  device: number;
  /** When the figures were asked for, by `clock`. */
  askedAt: number;
}

/** Each thread has its own; rows are made once and changed in place. */
export class Space {
  readonly #table: BranchTable;
  readonly #state: State;
  readonly #gate: Gate;
  readonly #buffer: number;
  /** By index, those of branches that there are. */
  readonly #rows: SpaceRow[] = [];
  /** The same in order, without holes where branches were removed. */
  #listed: SpaceRow[] = [];
  #version = -1;
  #hasOld = false;

  /** `buffer` is a position of SPACE_BYTES free bytes in the state memory. */
  constructor(state: State, table: BranchTable, gate: Gate, buffer: number) {
    this.#state = state;
    this.#table = table;
    this.#gate = gate;
    this.#buffer = buffer;
  }

  /** One row per branch, in order, to choose from. Asks no branch but a new one, and that only if it answers. */
  facts(): readonly BranchFacts[] {
    const oldest = oldestOf(clock());
    for (const row of this.rows()) {
      if (row.askedAt === 0 && !this.#gate.isAvoided(row.index)) this.#ask(row);
      else if (row.askedAt < oldest) this.#hasOld = true;
    }
    return this.#listed;
  }

  /** Asks those that this thread has chosen by though their figures were old. To be called when nobody waits for the thread. */
  renew(): void {
    if (!this.#hasOld) return;
    this.#hasOld = false;
    for (const row of this.rows()) {
      const now = clock();
      if (row.askedAt >= oldestOf(now) || this.#gate.isAvoided(row.index)) continue;
      this.#state.f64[figuresOf(row.index) + FIGURE.askedAt] = now + ANSWER_LIMIT_MS;
      if (this.#ask(row) < 0) this.#gate.suspect();
    }
  }

  /** Asks a branch whose figures may be out of date. Answers whether it did: who chose by them chooses again. */
  freshen(index: number): boolean {
    const row = this.row(index);
    const age = clock() - row.askedAt;
    if (age >= 0 && age < timeToReserve(row)) return false;
    this.#ask(row);
    return true;
  }

  /** Whether a branch has no more than its reserve at this moment. */
  isFull(index: number): boolean {
    this.freshen(index);
    const row = this.#rows[index]!;
    return row.availableBytes < row.minFreeSpaceBytes;
  }

  /** As they were when somebody last asked; one row per branch, in order. */
  rows(): readonly SpaceRow[] {
    if (this.#version !== this.#table.version) this.#takeOver();
    for (const row of this.#listed) if (this.#figure(row, FIGURE.askedAt) !== row.askedAt) this.#load(row);
    return this.#listed;
  }

  /** That of one branch. */
  row(index: number): SpaceRow {
    this.rows();
    return this.#rows[index]!;
  }

  /** Figures of this moment, of every branch that answers. */
  freshRows(): readonly SpaceRow[] {
    for (const row of this.rows()) if (!this.#gate.isAvoided(row.index)) this.#ask(row);
    return this.#listed;
  }

  /** Asks one branch. Answers 0 or a negated errno; the figures then stay. */
  refresh(index: number): number {
    return this.#ask(this.row(index));
  }

  /** Branches were added or removed, or have new rules. */
  #takeOver(): void {
    this.#version = this.#table.version;
    this.#listed = this.#table.list().map(({ index, mode, minFreeSpaceBytes }) => {
      const row = this.#rows[index] ?? emptyRow(index);
      row.mode = mode;
      row.minFreeSpaceBytes = minFreeSpaceBytes;
      this.#rows[index] = row;
      return row;
    });
  }

  #figure(row: SpaceRow, figure: number): number {
    return this.#state.f64[figuresOf(row.index) + figure]!;
  }

  #load(row: SpaceRow): void {
    row.askedAt = this.#figure(row, FIGURE.askedAt);
    row.availableBytes = this.#figure(row, FIGURE.available);
    row.totalBytes = this.#figure(row, FIGURE.total);
    row.freeBytes = this.#figure(row, FIGURE.free);
    row.usedBytes = row.totalBytes - row.freeBytes;
    row.files = this.#figure(row, FIGURE.files);
    row.freeFiles = this.#figure(row, FIGURE.freeFiles);
    row.readOnlyFilesystem = this.#figure(row, FIGURE.readOnly) !== 0;
    row.device = this.#figure(row, FIGURE.device);
  }

  #ask(row: SpaceRow): number {
    const closed = this.#gate.enter(row.index);
    if (closed < 0) return closed;
    const { root } = this.#table.entries[row.index]!;
    const { base, f64, u32 } = this.#state;
    const address = base + this.#buffer;
    const at = this.#buffer >>> 2;
    this.#state.u8[this.#buffer] = 0; // the empty name, until the answer takes its place
    const failed = libc.statx(root, address, AT_EMPTY_PATH | AT_STATX_DONT_SYNC, DEVICE_ONLY, address);
    const device = u32[at + STATX.devMajor / 4]! * 0x100000 + u32[at + STATX.devMinor / 4]!;
    const result = failed < 0 ? failed : libc.fstatfs(root, address);
    if (result < 0) return result;
    const word64 = (word: number) => u32[at + word]! + u32[at + word + 1]! * 0x100000000;
    const unit = word64(18) || word64(2);
    const to = figuresOf(row.index);
    f64[to + FIGURE.total] = word64(4) * unit;
    f64[to + FIGURE.free] = word64(6) * unit;
    f64[to + FIGURE.available] = word64(8) * unit;
    f64[to + FIGURE.files] = word64(10);
    f64[to + FIGURE.freeFiles] = word64(12);
    f64[to + FIGURE.readOnly] = u32[at + 20]! & ST_RDONLY;
    f64[to + FIGURE.device] = device;
    f64[to + FIGURE.askedAt] = clock();
    this.#load(row);
    return 0;
  }
}

/** Asked for each time it would cost as much as looking at the clock. */
const { timeOrigin } = performance;

/** Milliseconds, the same for all threads. */
function clock(): number {
  return timeOrigin + performance.now();
}

function oldestOf(now: number): number {
  return now - REFRESH_MS * 0.8;
}

/** Milliseconds until a branch can have reached its reserve. One that is below it takes nothing: no hurry. */
function timeToReserve({ mode, availableBytes, minFreeSpaceBytes }: SpaceRow): number {
  const slack = availableBytes - minFreeSpaceBytes;
  if (slack < 0 || mode !== 'RW') return REFRESH_MS;
  return Math.min(REFRESH_MS, slack / FASTEST_FILL_BYTES_PER_MS);
}

function emptyRow(index: number): SpaceRow {
  return {
    index,
    mode: 'RO',
    minFreeSpaceBytes: 0,
    readOnlyFilesystem: false,
    availableBytes: 0,
    usedBytes: 0,
    totalBytes: 0,
    freeBytes: 0,
    files: 0,
    freeFiles: 0,
    device: 0,
    askedAt: 0,
  };
}
