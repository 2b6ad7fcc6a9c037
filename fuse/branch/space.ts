/**
 * What policies and STATFS are told of each branch's space. Figures are at most REFRESH_MS old: one fstatfs per branch and
 * interval, not per create. Each thread has its own; the arrays are made once and changed in place.
 */

import type { State } from '../inode/state.ts';
import type { BranchFacts } from '../policy/facts.ts';
import * as libc from '../sys/libc.ts';
import type { OpenBranch } from './branches.ts';

const REFRESH_MS = 500;
const ST_RDONLY = 1;

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
  /** Tells equal filesystems: f_fsid. */
  filesystem: string;
  /** Whether the last fstatfs succeeded. */
  answers: boolean;
}

export class Space {
  readonly #branches: readonly OpenBranch[];
  readonly #state: State;
  readonly #buffer: number;
  readonly #rows: SpaceRow[];
  #refreshedAt = Number.NEGATIVE_INFINITY;

  /** `buffer` is a position of 120 free bytes in the state memory. */
  constructor(state: State, branches: readonly OpenBranch[], buffer: number) {
    this.#state = state;
    this.#branches = branches;
    this.#buffer = buffer;
    this.#rows = branches.map(({ index, mode, minFreeSpaceBytes }) => ({
      index,
      mode,
      minFreeSpaceBytes,
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
    }));
  }

  /** One row per branch, in order; fresh enough for choosing. */
  facts(): readonly BranchFacts[] {
    return this.rows();
  }

  rows(): readonly SpaceRow[] {
    const now = performance.now();
    if (now - this.#refreshedAt >= REFRESH_MS) this.refresh(now);
    return this.#rows;
  }

  refresh(now = performance.now()): void {
    this.#refreshedAt = now;
    for (let index = 0; index < this.#rows.length; index++) this.#refreshOne(index);
  }

  #refreshOne(index: number): void {
    const row = this.#rows[index]!;
    row.answers = libc.fstatfs(this.#branches[index]!.root, this.#state.base + this.#buffer) === 0;
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
    row.filesystem = `${u32[at + 14]}:${u32[at + 15]}`;
    row.readOnlyFilesystem = (u32[at + 20]! & ST_RDONLY) !== 0;
  }
}
