/**
 * What policies and STATFS are told of each branch's space. A branch far above its reserve is asked every REFRESH_MS, one
 * close to it as often as the fastest writer could use up what is left: figures are fresh where they decide, and a create
 * costs no fstatfs elsewhere. Each thread has its own; rows are made once and changed in place.
 */
import type { State } from '../inode/state.ts';
import type { BranchFacts } from '../policy/facts.ts';
import { STATX } from '../protocol/abi.ts';
import { AT_EMPTY_PATH } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { BranchTable } from './table.ts';

const REFRESH_MS = 500;
/** As fast as writes into page cache are taken for: 2 GiB/s. */
const FASTEST_FILL_BYTES_PER_MS = 2 * 1024 ** 2;
const ST_RDONLY = 1;
/** For struct statfs, or a name and struct statx. */
export const SPACE_BYTES = 8 + STATX.bytes;

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
  blockSize: number;
  fragmentSize: number;
  /** Tells equal filesystems: st_dev. Known to those who ask for fresh rows. */
  filesystem: string;
  /** Whether the last fstatfs succeeded. */
  answers: boolean;
}

export class Space {
  readonly #table: BranchTable;
  readonly #state: State;
  readonly #buffer: number;
  readonly #rows: SpaceRow[] = [];
  /** For each row, when it is to be asked again; and the earliest of them. */
  readonly #dueAt: number[] = [];
  #nextDueAt = Number.NEGATIVE_INFINITY;
  #version = -1;

  /** `buffer` is a position of SPACE_BYTES free bytes in the state memory. */
  constructor(state: State, table: BranchTable, buffer: number) {
    this.#state = state;
    this.#table = table;
    this.#buffer = buffer;
  }

  /** One row per branch, in order; fresh enough for choosing. */
  facts(): readonly BranchFacts[] {
    return this.rows();
  }

  rows(): readonly SpaceRow[] {
    if (this.#version !== this.#table.version) this.#takeOver();
    const now = performance.now();
    if (now >= this.#nextDueAt) this.#refresh(now, false);
    return this.#rows;
  }

  /** Figures of this moment, of every branch. */
  freshRows(): readonly SpaceRow[] {
    if (this.#version !== this.#table.version) this.#takeOver();
    this.#refresh(performance.now(), true);
    for (const row of this.#rows) row.filesystem = this.#deviceOf(row.index);
    return this.#rows;
  }

  /** f_fsid would not do: it is zero on many filesystems. */
  #deviceOf(index: number): string {
    const { base, u32 } = this.#state;
    const { root } = this.#table.entries[index]!;
    u32[this.#buffer >>> 2] = 0; // no name
    const stat = this.#buffer + 8;
    if (libc.statx(root, base + this.#buffer, AT_EMPTY_PATH, 0, base + stat) < 0) return `branch ${index}`;
    return `${u32[(stat + STATX.devMajor) >>> 2]}:${u32[(stat + STATX.devMinor) >>> 2]}`;
  }

  /** Branches were added or have new rules. */
  #takeOver(): void {
    this.#version = this.#table.version;
    for (const { index, mode, minFreeSpaceBytes } of this.#table.list()) {
      this.#rows[index] ??= emptyRow(index);
      this.#rows[index].mode = mode;
      this.#rows[index].minFreeSpaceBytes = minFreeSpaceBytes;
      this.#dueAt[index] = Number.NEGATIVE_INFINITY;
    }
    this.#nextDueAt = Number.NEGATIVE_INFINITY;
  }

  #refresh(now: number, all: boolean): void {
    this.#nextDueAt = Number.POSITIVE_INFINITY;
    for (let index = 0; index < this.#rows.length; index++) {
      const row = this.#rows[index]!;
      if (all || now >= this.#dueAt[index]!) {
        this.#ask(row);
        this.#dueAt[index] = now + timeToReserve(row);
      }
      this.#nextDueAt = Math.min(this.#nextDueAt, this.#dueAt[index]!);
    }
  }

  #ask(row: SpaceRow): void {
    row.answers = libc.fstatfs(this.#table.entries[row.index]!.root, this.#state.base + this.#buffer) === 0;
    if (!row.answers) {
      row.availableBytes = 0;
      return;
    }
    const { u32 } = this.#state;
    const at = this.#buffer >>> 2;
    const word64 = (word: number) => u32[at + word]! + u32[at + word + 1]! * 0x100000000;
    row.blockSize = word64(2);
    row.fragmentSize = word64(18) || row.blockSize;
    row.totalBytes = word64(4) * row.fragmentSize;
    row.freeBytes = word64(6) * row.fragmentSize;
    row.availableBytes = word64(8) * row.fragmentSize;
    row.usedBytes = row.totalBytes - row.freeBytes;
    row.files = word64(10);
    row.freeFiles = word64(12);
    row.readOnlyFilesystem = (u32[at + 20]! & ST_RDONLY) !== 0;
  }
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
    blockSize: 4096,
    fragmentSize: 4096,
    filesystem: '',
    answers: false,
  };
}
