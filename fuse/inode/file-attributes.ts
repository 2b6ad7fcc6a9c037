/**
 * Attributes of files that nobody has open, kept by name so that a lookup after the kernel forgot a file costs no system call,
 * and no lower inode has to be read in again. Only where the branches are the union's alone, and for files with one name.
 * A ring of MAX_FILE_ATTRIBUTES records (FILE_BYTES, 36 words): the oldest makes room.
 *
 *   0 the dentry that it belongs to, or 0, or OF_INODE and the inode of a file without a name   1–34 the beginning of struct statx
 *   35 whether they were asked for since: the kernel, if it has not forgotten the file, knows them too
 *
 * A dentry points to its record and the record back: only if both agree is it valid. `epoch` counts whatever makes a record
 * wrong; attributes that were read while it changed are not kept.
 */

import { F, type InodeTable } from './inode-table.ts';
import { FILE_BYTES, FILES_AT, MAX_FILE_ATTRIBUTES, WORD } from './layout.ts';
import { D, type NameIndex } from './name-index.ts';
import type { State } from './state.ts';

const FIELDS = FILE_BYTES / 4;
const FIRST = FILES_AT / 4;
const STAT_WORDS = 34;
const TOLD = 1 + STAT_WORDS;
const OF_INODE = 0x80000000;

export class FileAttributes {
  readonly #u32: Uint32Array;
  readonly #i32: Int32Array;
  readonly #state: State;
  readonly #names: NameIndex;
  readonly #inodes: InodeTable;

  constructor(state: State, names: NameIndex, inodes: InodeTable) {
    this.#state = state;
    this.#u32 = state.u32;
    this.#i32 = state.i32;
    this.#names = names;
    this.#inodes = inodes;
  }

  /** To be read before the attributes are, and given to `remember`. */
  epoch(): number {
    return Atomics.load(this.#i32, WORD.attributeEpoch);
  }

  /**
   * Keeps the struct statx at `stat` for a dentry, if nothing has changed since `epoch`. `isTold`: the kernel gets it as well. Under the
   * table lock.
   */
  remember(dentry: number, stat: number, epoch: number, isTold: boolean): void {
    if (this.epoch() !== epoch) return;
    const u32 = this.#u32;
    let record = this.#names.get(dentry, D.attributes);
    if (record === 0 || u32[FIRST + record * FIELDS] !== dentry) {
      record = 1 + (u32[WORD.attributeHand]! % (MAX_FILE_ATTRIBUTES - 1));
      u32[WORD.attributeHand] = record;
      this.#names.set(dentry, D.attributes, record);
    }
    // Nobody's while it is being written, also for a successor: a plain store, which is not undone.
    const at = FIRST + record * FIELDS;
    u32[at] = 0;
    u32.copyWithin(at + 1, stat >>> 2, (stat >>> 2) + STAT_WORDS);
    u32[at + TOLD] = Number(isTold);
    this.#state.put(at, dentry);
  }

  /** Puts what is kept for a dentry at `stat`, for the kernel. False when nothing is. Under the table lock. */
  recall(dentry: number, stat: number): boolean {
    const record = this.#names.get(dentry, D.attributes);
    if (record === 0) return false;
    const at = FIRST + record * FIELDS;
    if (this.#u32[at] !== dentry) return false;
    this.#u32.copyWithin(stat >>> 2, at + 1, at + 1 + STAT_WORDS);
    this.#u32[at + TOLD] = 1;
    return true;
  }

  /** Whether the kernel was told what a file of this name has now, and nobody has had it open since. Under the table lock. */
  isTold(dentry: number): boolean {
    const at = FIRST + this.#names.get(dentry, D.attributes) * FIELDS;
    return this.#u32[at] === dentry && this.#u32[at + TOLD] === 1;
  }

  /** What is kept for the last name of a file stays with its inode, which nobody has open. Under the table lock. */
  bequeath(dentry: number, slot: number): void {
    const record = this.#names.get(dentry, D.attributes);
    if (record === 0 || this.#u32[FIRST + record * FIELDS] !== dentry) return;
    this.#state.put(FIRST + record * FIELDS, ownerOf(slot));
    this.#inodes.set(slot, F.keptAttributes, record);
  }

  /** Puts what is kept for a file without a name at `stat`. False when nothing is. Under the table lock. */
  recallNameless(slot: number, stat: number): boolean {
    const record = this.#inodes.get(slot, F.keptAttributes);
    if (record === 0 || record >= MAX_FILE_ATTRIBUTES) return false;
    const at = FIRST + record * FIELDS;
    if (this.#u32[at] !== ownerOf(slot)) return false;
    this.#u32.copyWithin(stat >>> 2, at + 1, at + 1 + STAT_WORDS);
    return true;
  }

  /** A file has changed or is going to. Under the table lock. */
  forget(dentry: number): void {
    Atomics.add(this.#i32, WORD.attributeEpoch, 1);
    if (dentry !== 0) this.#names.set(dentry, D.attributes, 0);
  }
}

function ownerOf(slot: number): number {
  return (OF_INODE | slot) >>> 0;
}
