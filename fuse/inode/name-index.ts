/**
 * The name index: dentries, found by (parent, name). A dentry says on which branches the name is and, if the kernel knows the
 * file, its inode. Where a directory's INODE.complete is set, a name without dentry does not exist.
 * Record (DENTRY_BYTES, 12 words):
 *
 *   0 parent slot      1 hash           2 chain of the table, or free list   3 inode slot, or 0
 *   4 name position    5 name length | kind << 8 | flags << 16               6 branches low   7 branches high
 *   8 next name of the same inode       9 next and 10 previous below the parent
 *   11 record of kept attributes (file-attributes.ts)
 *
 * All methods expect the table lock.
 */
import { DT_DIR } from '../sys/constants.ts';
import { F, type InodeTable } from './inode-table.ts';
import { DENTRIES_AT, DENTRY_BYTES, MAX_DENTRIES, NAME_BUCKETS_AT, NAMES_END, WORD } from './layout.ts';
import { bucketOf, splitBucket } from './linear-hash.ts';
import type { State } from './state.ts';

const FIELDS = DENTRY_BYTES / 4;
const FIRST = DENTRIES_AT / 4;
const BUCKETS = NAME_BUCKETS_AT / 4;
const NAME_GRAIN = 16;

export const D = {
  parent: 0,
  hash: 1,
  next: 2,
  inode: 3,
  name: 4,
  info: 5,
  maskLow: 6,
  maskHigh: 7,
  alias: 8,
  nextSibling: 9,
  previousSibling: 10,
  attributes: 11,
} as const;

/** Flags within word 5: other branches may have the name too, nobody looked. */
export const PARTIAL = 1 << 16;

/** Hash of a parent and a name of `length` bytes at `position`. */
export function hashNameAt(u8: Uint8Array, parent: number, position: number, length: number): number {
  let hash = Math.imul(parent, 0x9e3779b1) ^ length;
  const end = position + length;
  for (let i = position; i < end; i++) hash = Math.imul(hash ^ u8[i]!, 0x01000193);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x2c1b3c6d);
  return (hash ^ (hash >>> 13)) >>> 0;
}

export class NameIndex {
  readonly #state: State;
  readonly #u8: Uint8Array;
  readonly #u32: Uint32Array;
  readonly #inodes: InodeTable;

  constructor(state: State, inodes: InodeTable) {
    this.#state = state;
    this.#u8 = state.u8;
    this.#u32 = state.u32;
    this.#inodes = inodes;
  }

  get(dentry: number, field: number): number {
    return this.#u32[FIRST + dentry * FIELDS + field]!;
  }

  set(dentry: number, field: number, value: number): void {
    this.#state.put(FIRST + dentry * FIELDS + field, value);
  }

  kind(dentry: number): number {
    return (this.get(dentry, D.info) >>> 8) & 15;
  }

  setKind(dentry: number, kind: number): void {
    const change = Number(kind === DT_DIR) - Number(this.kind(dentry) === DT_DIR);
    if (change !== 0) this.#inodes.add(this.get(dentry, D.parent), F.subdirectories, change);
    this.set(dentry, D.info, (this.get(dentry, D.info) & ~0xf00) | (kind << 8));
  }

  nameLength(dentry: number): number {
    return this.get(dentry, D.info) & 255;
  }

  isPartial(dentry: number): boolean {
    return (this.get(dentry, D.info) & PARTIAL) !== 0;
  }

  addBranch(dentry: number, branch: number): void {
    const field = branch < 32 ? D.maskLow : D.maskHigh;
    this.set(dentry, field, this.get(dentry, field) | (1 << (branch & 31)));
  }

  /** Exactly these branches have the name. */
  setBranches(dentry: number, low: number, high: number): void {
    this.set(dentry, D.maskLow, low);
    this.set(dentry, D.maskHigh, high);
    this.set(dentry, D.info, this.get(dentry, D.info) & ~PARTIAL);
  }

  find(parent: number, position: number, length: number, hash: number): number {
    const u32 = this.#u32;
    let dentry = u32[BUCKETS + bucketOf(hash, u32[WORD.nameBuckets]!, u32[WORD.nameSplit]!)]!;
    while (dentry !== 0) {
      const at = FIRST + dentry * FIELDS;
      if (
        u32[at + D.hash] === hash &&
        u32[at + D.parent] === parent &&
        (u32[at + D.info]! & 255) === length &&
        this.#sameBytes(u32[at + D.name]!, position, length)
      )
        return dentry;
      dentry = u32[at + D.next]!;
    }
    return 0;
  }

  /** A new dentry without branches and inode; the name must not be there yet. 0 when memory's maximum is reached. */
  insert(parent: number, position: number, length: number, hash: number, kind: number): number {
    const name = this.#storeName(position, length);
    if (name === 0) return 0;
    const dentry = this.#allocate();
    if (dentry === 0) {
      this.#dropName(name, length);
      return 0;
    }
    const at = FIRST + dentry * FIELDS;
    // Of a free record only its place in the list is read: the rest needs no note. So what is freed under a hold of the lock
    // must not be given out again under the same one.
    this.#u32.fill(0, at + D.inode, at + FIELDS);
    this.#u32[at + D.parent] = parent;
    this.#u32[at + D.hash] = hash;
    this.#u32[at + D.name] = name;
    this.#u32[at + D.info] = length | (kind << 8);
    this.#chainUp(dentry, hash);
    this.#joinParent(dentry, parent);
    return dentry;
  }

  /** Takes the dentry out of the index and frees it. It must have no inode. */
  remove(dentry: number): void {
    this.#unchain(dentry);
    this.#leaveParent(dentry);
    this.#dropName(this.get(dentry, D.name), this.nameLength(dentry));
    this.set(dentry, D.next, this.#u32[WORD.dentryFree]!);
    this.#state.put(WORD.dentryFree, dentry);
    this.#state.put(WORD.dentryCount, this.#u32[WORD.dentryCount]! - 1);
  }

  /** Gives a dentry another parent and name. False, and nothing changed, when there is no memory for the name. */
  move(dentry: number, parent: number, position: number, length: number, hash: number): boolean {
    const name = this.#storeName(position, length);
    if (name === 0) return false;
    const isElsewhere = this.get(dentry, D.parent) !== parent;
    this.#unchain(dentry);
    if (isElsewhere) this.#leaveParent(dentry);
    this.#dropName(this.get(dentry, D.name), this.nameLength(dentry));
    this.set(dentry, D.name, name);
    this.set(dentry, D.info, (this.get(dentry, D.info) & ~255) | length);
    this.#chainUp(dentry, hash);
    if (isElsewhere) this.#joinParent(dentry, parent);
    return true;
  }

  /** Makes `slot` the inode of a dentry. */
  attach(dentry: number, slot: number): void {
    this.set(dentry, D.inode, slot);
    this.set(dentry, D.alias, this.#inodes.get(slot, F.dentry));
    this.#inodes.set(slot, F.dentry, dentry);
    this.#inodes.add(this.get(dentry, D.parent), F.liveChildren, 1);
  }

  detach(dentry: number): void {
    const slot = this.get(dentry, D.inode);
    let previous = 0;
    for (let at = this.#inodes.get(slot, F.dentry); at !== dentry; at = this.get(at, D.alias)) previous = at;
    const next = this.get(dentry, D.alias);
    if (previous === 0) this.#inodes.set(slot, F.dentry, next);
    else this.set(previous, D.alias, next);
    this.set(dentry, D.inode, 0);
    this.set(dentry, D.alias, 0);
    this.#inodes.add(this.get(dentry, D.parent), F.liveChildren, -1);
  }

  #allocate(): number {
    const u32 = this.#u32;
    const state = this.#state;
    let dentry = u32[WORD.dentryFree]!;
    if (dentry !== 0) state.put(WORD.dentryFree, this.get(dentry, D.next));
    else {
      dentry = u32[WORD.dentryBump]!;
      if (dentry >= MAX_DENTRIES) return 0;
      state.put(WORD.dentryBump, dentry + 1);
    }
    state.put(WORD.dentryCount, u32[WORD.dentryCount]! + 1);
    return dentry;
  }

  /** Into the table. */
  #chainUp(dentry: number, hash: number): void {
    const u32 = this.#u32;
    this.set(dentry, D.hash, hash);
    const bucket = BUCKETS + bucketOf(hash, u32[WORD.nameBuckets]!, u32[WORD.nameSplit]!);
    this.set(dentry, D.next, u32[bucket]!);
    this.#state.put(bucket, dentry);
    if (u32[WORD.dentryCount]! > u32[WORD.nameBuckets]! + u32[WORD.nameSplit]!)
      splitBucket(this.#state, { base: BUCKETS, size: WORD.nameBuckets, split: WORD.nameSplit }, this.#chain);
  }

  #unchain(dentry: number): void {
    const u32 = this.#u32;
    let at = BUCKETS + bucketOf(this.get(dentry, D.hash), u32[WORD.nameBuckets]!, u32[WORD.nameSplit]!);
    while (u32[at] !== dentry) at = FIRST + u32[at]! * FIELDS + D.next;
    this.#state.put(at, this.get(dentry, D.next));
  }

  #joinParent(dentry: number, parent: number): void {
    this.set(dentry, D.parent, parent);
    const first = this.#inodes.get(parent, F.firstChild);
    this.set(dentry, D.nextSibling, first);
    this.set(dentry, D.previousSibling, 0);
    if (first !== 0) this.set(first, D.previousSibling, dentry);
    this.#inodes.set(parent, F.firstChild, dentry);
    this.#inodes.add(parent, F.children, 1);
    if (this.kind(dentry) === DT_DIR) this.#inodes.add(parent, F.subdirectories, 1);
    if (this.get(dentry, D.inode) !== 0) this.#inodes.add(parent, F.liveChildren, 1);
  }

  #leaveParent(dentry: number): void {
    const parent = this.get(dentry, D.parent);
    const next = this.get(dentry, D.nextSibling);
    const previous = this.get(dentry, D.previousSibling);
    if (previous === 0) this.#inodes.set(parent, F.firstChild, next);
    else this.set(previous, D.nextSibling, next);
    if (next !== 0) this.set(next, D.previousSibling, previous);
    this.#inodes.add(parent, F.children, -1);
    if (this.kind(dentry) === DT_DIR) this.#inodes.add(parent, F.subdirectories, -1);
    if (this.get(dentry, D.inode) !== 0) this.#inodes.add(parent, F.liveChildren, -1);
  }

  readonly #chain = {
    hash: (dentry: number) => this.get(dentry, D.hash),
    next: (dentry: number) => this.get(dentry, D.next),
    setNext: (dentry: number, next: number) => this.set(dentry, D.next, next),
  };

  #sameBytes(a: number, b: number, length: number): boolean {
    const u8 = this.#u8;
    for (let i = 0; i < length; i++) if (u8[a + i] !== u8[b + i]) return false;
    return true;
  }

  #storeName(position: number, length: number): number {
    const u32 = this.#u32;
    const state = this.#state;
    const grains = (length + NAME_GRAIN) >>> 4;
    let name = u32[WORD.nameFree + grains]!;
    if (name !== 0) {
      state.put(WORD.nameFree + grains, u32[name / 4]!);
      state.put(name / 4, 0); // for the note: the name is about to cover the list's link
    } else {
      name = u32[WORD.nameBump]!;
      if (name + grains * NAME_GRAIN > NAMES_END) return 0;
      state.put(WORD.nameBump, name + grains * NAME_GRAIN);
    }
    this.#u8.copyWithin(name, position, position + length);
    this.#u8[name + length] = 0;
    return name;
  }

  #dropName(name: number, length: number): void {
    const grains = (length + NAME_GRAIN) >>> 4;
    this.#state.put(name / 4, this.#u32[WORD.nameFree + grains]!);
    this.#state.put(WORD.nameFree + grains, name);
  }
}
