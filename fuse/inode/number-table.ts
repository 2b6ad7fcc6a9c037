/**
 * Inode numbers that are not what a branch says: a file that moved to another branch keeps its number, and its new lower inode's
 * own number goes to the inode that it left. What is shown stays a bijection, whatever the branches do with
 * inodes that are free again. Here is what the branches' lists (branch/numbers.ts) say; usually nothing.
 * Open addressing; records are never removed. NUMBER_BYTES, 5 words:
 *
 *   0 branch + 1, or 0   1, 2 lower inode number   3, 4 the number that is shown
 */
import { MAX_NUMBERS, NUMBER_BYTES, NUMBERS_AT, WORD } from './layout.ts';
import type { State } from './state.ts';

const FIELDS = NUMBER_BYTES / 4;
const FIRST = NUMBERS_AT / 4;
/** Beyond it searches would take long. */
const LIMIT = (MAX_NUMBERS / 4) * 3;

export interface NumberRecord {
  readonly branch: number;
  readonly low: number;
  readonly high: number;
  readonly shownLow: number;
  readonly shownHigh: number;
}

export class NumberTable {
  readonly #state: State;
  readonly #u32: Uint32Array;

  constructor(state: State) {
    this.#state = state;
    this.#u32 = state.u32;
  }

  /** The record of a lower inode, or 0. A load where no file was ever moved. */
  find(branch: number, low: number, high: number): number {
    if (this.#u32[WORD.numberCount] === 0) return 0;
    const record = this.#place(branch, low, high);
    return this.#u32[record] === 0 ? 0 : record;
  }

  shownLow(record: number): number {
    return this.#u32[record + 3]!;
  }

  shownHigh(record: number): number {
    return this.#u32[record + 4]!;
  }

  /** Whether two more lower inodes can be given numbers. */
  get hasRoom(): boolean {
    return this.#u32[WORD.numberCount]! + 2 <= LIMIT;
  }

  /** From now on the lower inode is shown with this number. False when the table is full. Under the table lock. */
  assign(branch: number, low: number, high: number, shownLow: number, shownHigh: number): boolean {
    const state = this.#state;
    const record = this.#place(branch, low, high);
    const isNew = this.#u32[record] === 0;
    const count = this.#u32[WORD.numberCount]!;
    if (isNew && count >= LIMIT) return false;
    state.put(record + 3, shownLow);
    state.put(record + 4, shownHigh);
    if (!isNew) return true;
    state.put(record + 1, low);
    state.put(record + 2, high);
    // Last: readers take no lock.
    state.put(record, branch + 1);
    state.put(WORD.numberCount, count + 1);
    return true;
  }

  /** All records. Reads the whole table. */
  *records(): Generator<NumberRecord> {
    const u32 = this.#u32;
    if (u32[WORD.numberCount] === 0) return;
    for (let at = FIRST; at < FIRST + MAX_NUMBERS * FIELDS; at += FIELDS) {
      const branch = u32[at]! - 1;
      if (branch < 0) continue;
      const [low, high, shownLow, shownHigh] = [u32[at + 1]!, u32[at + 2]!, u32[at + 3]!, u32[at + 4]!];
      yield { branch, low, high, shownLow, shownHigh };
    }
  }

  /** The word of a lower inode's record, or of the free one where it belongs. */
  #place(branch: number, low: number, high: number): number {
    const u32 = this.#u32;
    for (let at = hash(branch, low, high) % MAX_NUMBERS; ; at = (at + 1) % MAX_NUMBERS) {
      const record = FIRST + at * FIELDS;
      if (u32[record] === 0) return record;
      if (u32[record + 1] === low && u32[record + 2] === high && u32[record] === branch + 1) return record;
    }
  }
}

function hash(branch: number, low: number, high: number): number {
  let hash = Math.imul(low ^ Math.imul(branch + 1, 0x9e3779b1), 0x85ebca6b) ^ Math.imul(high, 0xc2b2ae35);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x2c1b3c6d);
  return (hash ^ (hash >>> 13)) >>> 0;
}
