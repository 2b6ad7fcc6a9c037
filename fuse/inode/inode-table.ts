/**
 * Inode records: one per file that the kernel knows, shared by all its hard links; the slot is the FUSE node id, and slot 1
 * the root. Record (INODE_BYTES, 16 words):
 *
 *   0 flags and kind   1 generation    2 kernel lookups      3 chain of the link table, or free list
 *   4 first dentry     5 branch        6 lower ino low       7 lower ino high
 *   8 opens            9 writable opens  10 backing id        11 pinned descriptor + 1
 *   12 branches low    13 branches high  14 st_ino low        15 st_ino high
 *
 * For directories 5 counts the threads that are listing it, 6 the subdirectories in the name index, 7 is the record of merged attributes, 8 counts the children that have an inode record (the parent must
 * outlive them), 9 the dentries below it, and 10 is the first of them.
 * For files without a name 12 is their record of kept attributes, if there is one that says so.
 * The link table finds files with several names by (branch, lower ino): only those with more than one link are in it.
 * All methods expect the table lock unless they say otherwise.
 */

import { INODE_BYTES, INODES_AT, LINK_BUCKETS_AT, MAX_INODES, WORD } from './layout.ts';
import { bucketOf, splitBucket } from './linear-hash.ts';
import type { State } from './state.ts';

export const ROOT = 1;

/** Word 0. The low four bits are the kind: a DT_ value. */
export const INODE = {
  kindMask: 15,
  used: 1 << 4,
  /** Directory: every name below it is in the name index. */
  complete: 1 << 5,
  /** No name left; lives until the kernel forgets it. */
  unlinked: 1 << 6,
  /** File: in the link table. */
  linked: 1 << 7,
  /** Mode has set-id bits, or the file may have capabilities: see ops/open.ts. */
  privileged: 1 << 8,
  /** `privileged` is known for capabilities too. */
  capabilitiesKnown: 1 << 9,
  /** Open handles read through the server. */
  proxied: 1 << 10,
  /** File: on its way to another branch; whoever opens it reads through the server. */
  moving: 1 << 14,
  /** Directory: a name was looked up in vain once; the next time the directory is listed. */
  missed: 1 << 11,
  /** File: its backing id was opened for reading alone. */
  backingReadOnly: 1 << 12,
  /** File without a name that has a link under `.union/`: see ops/nameless.ts. */
  kept: 1 << 13,
  /** Directory: a branch that may have a copy could not be asked. What is not found below it may be there. */
  uncertain: 1 << 14,
  /** File: has a place in the ring of those that keep their backing id: see ops/backing.ts. */
  idle: 1 << 15,
} as const;

const FIELDS = INODE_BYTES / 4;
const FIRST = INODES_AT / 4;
const BUCKETS = LINK_BUCKETS_AT / 4;

export const F = {
  flags: 0,
  generation: 1,
  lookups: 2,
  next: 3,
  dentry: 4,
  branch: 5,
  lowerLow: 6,
  lowerHigh: 7,
  opens: 8,
  writers: 9,
  backing: 10,
  pinned: 11,
  maskLow: 12,
  maskHigh: 13,
  keptAttributes: 12,
  inoLow: 14,
  inoHigh: 15,
  listers: 5,
  subdirectories: 6,
  attributes: 7,
  liveChildren: 8,
  children: 9,
  firstChild: 10,
} as const;

export class InodeTable {
  readonly #state: State;
  readonly #u32: Uint32Array;

  constructor(state: State) {
    this.#state = state;
    this.#u32 = state.u32;
  }

  get(slot: number, field: number): number {
    return this.#u32[FIRST + slot * FIELDS + field]!;
  }

  set(slot: number, field: number, value: number): void {
    this.#state.put(FIRST + slot * FIELDS + field, value);
  }

  /** Of a record that was allocated under this hold of the lock: if that is undone, the record is a free one, which needs no note. */
  fill(slot: number, field: number, value: number): void {
    this.#u32[FIRST + slot * FIELDS + field] = value;
  }

  add(slot: number, field: number, value: number): number {
    const at = FIRST + slot * FIELDS + field;
    this.#state.put(at, this.#u32[at]! + value);
    return this.#u32[at]!;
  }

  /** Without the lock: several threads may change flags of one inode. */
  setFlag(slot: number, flag: number): void {
    this.#state.setBits(FIRST + slot * FIELDS, flag);
  }

  clearFlag(slot: number, flag: number): void {
    this.#state.clearBits(FIRST + slot * FIELDS, flag);
  }

  kind(slot: number): number {
    return this.#u32[FIRST + slot * FIELDS]! & INODE.kindMask;
  }

  has(slot: number, flag: number): boolean {
    return (this.#u32[FIRST + slot * FIELDS]! & flag) !== 0;
  }

  /** Without the lock: whether the kernel may name this slot. */
  isUsed(slot: number): boolean {
    return slot > 0 && slot < MAX_INODES && this.has(slot, INODE.used);
  }

  onBranch(slot: number, branch: number): boolean {
    const word = this.get(slot, branch < 32 ? F.maskLow : F.maskHigh);
    return ((word >>> (branch & 31)) & 1) === 1;
  }

  addBranch(slot: number, branch: number): void {
    const field = branch < 32 ? F.maskLow : F.maskHigh;
    this.set(slot, field, this.get(slot, field) | (1 << (branch & 31)));
  }

  /** A fresh record of this kind with no lookups, or 0 when the table is full. */
  allocate(kind: number): number {
    const u32 = this.#u32;
    const state = this.#state;
    let slot = u32[WORD.inodeFree]!;
    if (slot !== 0) state.put(WORD.inodeFree, this.get(slot, F.next));
    else {
      slot = u32[WORD.inodeBump]!;
      if (slot >= MAX_INODES) return 0;
      state.put(WORD.inodeBump, slot + 1);
    }
    // What a free record holds beside its place in the list, nobody reads: it needs no note. The place stays, as only the link table has
    // another use for the word.
    const at = FIRST + slot * FIELDS;
    u32.fill(0, at + F.dentry, at + FIELDS);
    u32[at + F.generation]!++;
    u32[at + F.lookups] = 0;
    state.put(at, INODE.used | kind);
    u32[WORD.inodeCount]!++;
    return slot;
  }

  free(slot: number): void {
    if (this.has(slot, INODE.linked)) this.unlinkFromTable(slot);
    this.set(slot, F.flags, 0);
    this.set(slot, F.next, this.#u32[WORD.inodeFree]!);
    this.#state.put(WORD.inodeFree, slot);
    this.#u32[WORD.inodeCount]!--;
  }

  /** The record of a file with several links, or 0. */
  findLinked(branch: number, low: number, high: number): number {
    let slot = this.#u32[BUCKETS + this.#bucket(hashLink(branch, low, high))]!;
    while (
      slot !== 0 &&
      !(
        this.get(slot, F.lowerLow) === low &&
        this.get(slot, F.branch) === branch &&
        this.get(slot, F.lowerHigh) === high
      )
    )
      slot = this.get(slot, F.next);
    return slot;
  }

  /** Puts a file into the link table, once. */
  linkIntoTable(slot: number): void {
    if (this.has(slot, INODE.linked)) return;
    this.setFlag(slot, INODE.linked);
    const bucket = BUCKETS + this.#bucket(this.#hashOf(slot));
    this.set(slot, F.next, this.#u32[bucket]!);
    this.#state.put(bucket, slot);
    this.#state.put(WORD.linkCount, this.#u32[WORD.linkCount]! + 1);
    if (this.#u32[WORD.linkCount]! > this.#u32[WORD.linkBuckets]! + this.#u32[WORD.linkSplit]!)
      splitBucket(this.#state, { base: BUCKETS, size: WORD.linkBuckets, split: WORD.linkSplit }, this.#chain);
  }

  unlinkFromTable(slot: number): void {
    let at = BUCKETS + this.#bucket(this.#hashOf(slot));
    while (this.#u32[at] !== slot) at = FIRST + this.#u32[at]! * FIELDS + F.next;
    this.#state.put(at, this.get(slot, F.next));
    this.clearFlag(slot, INODE.linked);
    this.#state.put(WORD.linkCount, this.#u32[WORD.linkCount]! - 1);
  }

  get count(): number {
    return this.#u32[WORD.inodeCount]!;
  }

  get state(): State {
    return this.#state;
  }

  readonly #chain = {
    hash: (slot: number) => this.#hashOf(slot),
    next: (slot: number) => this.get(slot, F.next),
    setNext: (slot: number, next: number) => this.set(slot, F.next, next),
  };

  #hashOf(slot: number): number {
    return hashLink(this.get(slot, F.branch), this.get(slot, F.lowerLow), this.get(slot, F.lowerHigh));
  }

  #bucket(hash: number): number {
    return bucketOf(hash, this.#u32[WORD.linkBuckets]!, this.#u32[WORD.linkSplit]!);
  }
}

function hashLink(branch: number, low: number, high: number): number {
  let hash = Math.imul(low ^ Math.imul(branch + 1, 0x9e3779b1), 0x85ebca6b) ^ Math.imul(high, 0xc2b2ae35);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x2c1b3c6d);
  return (hash ^ (hash >>> 13)) >>> 0;
}
