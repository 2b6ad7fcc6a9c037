/**
 * Merged attributes of directories, kept so that asking for them does not cost a system call per branch. A change below a
 * directory marks the one copy that it touched; the next question looks at that copy alone and takes over its times. Records
 * (DIRECTORY_BYTES, 48 words):
 *
 *   0–39 the beginning of the merged struct statx   40, 41 branches that changed since   42 the generation of servers
 *   for which 0–39 are valid: a dead one may have left them half-written
 *   43 free list   44 the handle that may use the kernel's listing, if it is still open   45 whether the kernel may have one
 *
 * A directory's inode holds the number of its record. `markChanged` and `forgetAll` need no lock: they only ever cause one look
 * too many.
 */
import { F, type InodeTable } from './inode-table.ts';
import { DIRECTORIES_AT, DIRECTORY_BYTES, MAX_DIRECTORIES, WORD } from './layout.ts';
import type { State } from './state.ts';

const FIELDS = DIRECTORY_BYTES / 4;
const FIRST = DIRECTORIES_AT / 4;
const STAT_WORDS = 40;
const [CHANGED_LOW, CHANGED_HIGH, VALID, NEXT, CACHED_BY, CACHED] = [40, 41, 42, 43, 44, 45] as const;

export class DirectoryAttributes {
  readonly #u32: Uint32Array;
  readonly #i32: Int32Array;
  readonly #state: State;
  readonly #inodes: InodeTable;
  /** Branches that `take` answered. */
  changedLow = 0;
  changedHigh = 0;

  constructor(state: State, inodes: InodeTable) {
    this.#state = state;
    this.#u32 = state.u32;
    this.#i32 = state.i32;
    this.#inodes = inodes;
  }

  /** The copy of a directory on `branch` has changed. */
  markChanged(slot: number, branch: number): void {
    const record = this.#inodes.get(slot, F.attributes);
    if (record === 0) return;
    const word = FIRST + record * FIELDS + (branch < 32 ? CHANGED_LOW : CHANGED_HIGH);
    const bit = 1 << (branch & 31);
    // Who takes a mark that is there looks at the branch afterwards.
    if ((this.#i32[word]! & bit) === 0) Atomics.or(this.#i32, word, bit);
  }

  /** The handle that was last allowed to use the kernel's listing of a directory with a record, or 0. It may have been closed. */
  cachedBy(slot: number): number {
    return this.#u32[FIRST + this.#inodes.get(slot, F.attributes) * FIELDS + CACHED_BY]!;
  }

  /** Of a directory with a record, under the table lock. */
  setCachedBy(slot: number, handle: number): void {
    this.#state.put(FIRST + this.#inodes.get(slot, F.attributes) * FIELDS + CACHED_BY, handle);
  }

  /** Whether the kernel may have the whole listing of a directory; false of one without a record. */
  isCached(slot: number): boolean {
    const record = this.#inodes.get(slot, F.attributes);
    return record !== 0 && this.#u32[FIRST + record * FIELDS + CACHED] === 1;
  }

  /** Of a directory with a record. */
  setCached(slot: number, isCached: boolean): void {
    this.#state.put(FIRST + this.#inodes.get(slot, F.attributes) * FIELDS + CACHED, Number(isCached));
  }

  /** Owner, mode or times of the directory were set: every copy is to be looked at again. */
  forgetAll(slot: number): void {
    const record = this.#inodes.get(slot, F.attributes);
    if (record !== 0) Atomics.store(this.#i32, FIRST + record * FIELDS + VALID, 0);
  }

  /**
   * True if the record is valid but for the branches put into changedLow and changedHigh, which count as looked at from now
   * on: who comes later marks them again. False when all copies must be looked at; the answer is then `put`.
   */
  take(slot: number): boolean {
    const record = this.#inodes.get(slot, F.attributes);
    if (record === 0) return false;
    const at = FIRST + record * FIELDS;
    this.changedLow = this.#takeMarks(at + CHANGED_LOW);
    this.changedHigh = this.#takeMarks(at + CHANGED_HIGH);
    const generation = this.#u32[WORD.generation]!;
    return this.#u32[at + VALID] === generation || Atomics.exchange(this.#i32, at + VALID, generation) === generation;
  }

  #takeMarks(word: number): number {
    return this.#i32[word] === 0 ? 0 : Atomics.exchange(this.#i32, word, 0);
  }

  /** Position in bytes of the merged struct statx, or 0 when the directory has no record and none is to be had. */
  position(slot: number): number {
    let record = this.#inodes.get(slot, F.attributes);
    if (record === 0) record = this.#allocate(slot);
    return record === 0 ? 0 : (FIRST + record * FIELDS) * 4;
  }

  /** Copies the record's struct statx to a position, or from there. */
  copyOut(position: number, to: number): void {
    this.#u32.copyWithin(to >>> 2, position >>> 2, (position >>> 2) + STAT_WORDS);
  }

  copyIn(position: number, from: number): void {
    this.#u32.copyWithin(position >>> 2, from >>> 2, (from >>> 2) + STAT_WORDS);
  }

  /** Frees a directory's record. Under the table lock. */
  release(slot: number): void {
    const record = this.#inodes.get(slot, F.attributes);
    if (record === 0) return;
    this.#state.put(FIRST + record * FIELDS + NEXT, this.#u32[WORD.directoryFree]!);
    this.#state.put(WORD.directoryFree, record);
    this.#inodes.set(slot, F.attributes, 0);
  }

  #allocate(slot: number): number {
    const u32 = this.#u32;
    this.#state.lock();
    let record = u32[WORD.directoryFree]!;
    if (record !== 0) this.#state.put(WORD.directoryFree, u32[FIRST + record * FIELDS + NEXT]!);
    else if (u32[WORD.directoryBump]! < MAX_DIRECTORIES) {
      record = u32[WORD.directoryBump]!;
      this.#state.put(WORD.directoryBump, record + 1);
    }
    if (record !== 0) {
      const at = FIRST + record * FIELDS;
      u32.fill(0, at, at + NEXT); // of a free record only its place in the list is read
      this.#inodes.set(slot, F.attributes, record);
    }
    this.#state.unlock();
    return record;
  }
}
