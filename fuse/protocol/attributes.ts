/**
 * Copies a `struct statx` into the shapes of replies. Positions are bytes, 4-aligned, in the state memory; `u32` is its view.
 * The inode number is the union's, given as two words.
 */
import { ATTR_OUT, ENTRY, STATX, STATX_OUT } from './abi.ts';

/** fuse_attr at `to` from statx at `from`. */
export function writeAttr(u32: Uint32Array, to: number, from: number, inoLow: number, inoHigh: number): void {
  const o = to >>> 2;
  const s = from >>> 2;
  u32[o] = inoLow;
  u32[o + 1] = inoHigh;
  u32[o + 2] = u32[s + 10]!; // size
  u32[o + 3] = u32[s + 11]!;
  u32[o + 4] = u32[s + 12]!; // blocks
  u32[o + 5] = u32[s + 13]!;
  u32[o + 6] = u32[s + 16]!; // atime
  u32[o + 7] = u32[s + 17]!;
  u32[o + 8] = u32[s + 28]!; // mtime
  u32[o + 9] = u32[s + 29]!;
  u32[o + 10] = u32[s + 24]!; // ctime
  u32[o + 11] = u32[s + 25]!;
  u32[o + 12] = u32[s + 18]!; // nanoseconds, same order
  u32[o + 13] = u32[s + 30]!;
  u32[o + 14] = u32[s + 26]!;
  u32[o + 15] = u32[s + 7]! & 0xffff; // mode
  u32[o + 16] = u32[s + 4]!; // nlink
  u32[o + 17] = u32[s + 5]!; // uid
  u32[o + 18] = u32[s + 6]!; // gid
  u32[o + 19] = deviceNumber(u32[s + STATX.rdevMajor / 4]!, u32[s + STATX.rdevMinor / 4]!);
  u32[o + 20] = u32[s + 1]!; // blksize
  u32[o + 21] = 0;
}

/** fuse_attr_out. `ttl` in whole seconds. */
export function writeAttrOut(
  u32: Uint32Array,
  to: number,
  from: number,
  inoLow: number,
  inoHigh: number,
  ttl: number,
): void {
  const o = to >>> 2;
  u32[o] = ttl;
  u32[o + 1] = u32[o + 2] = u32[o + 3] = 0;
  writeAttr(u32, to + ATTR_OUT.attr, from, inoLow, inoHigh);
}

export interface EntryFields {
  node: number;
  generation: number;
  inoLow: number;
  inoHigh: number;
  entryTtl: number;
  attrTtl: number;
}

/** fuse_entry_out from `entry`, which the caller reuses. */
export function writeEntry(u32: Uint32Array, to: number, from: number, entry: EntryFields): void {
  const o = to >>> 2;
  u32[o] = entry.node;
  u32[o + 1] = 0;
  u32[o + 2] = entry.generation;
  u32[o + 3] = 0;
  u32[o + 4] = entry.entryTtl;
  u32[o + 5] = 0;
  u32[o + 6] = entry.attrTtl;
  u32[o + 7] = u32[o + 8] = u32[o + 9] = 0;
  writeAttr(u32, to + ENTRY.attr, from, entry.inoLow, entry.inoHigh);
}

/** fuse_entry_out that says: no such name, for `ttl` seconds. */
export function writeNegativeEntry(u32: Uint32Array, to: number, ttl: number): void {
  const o = to >>> 2;
  u32.fill(0, o, o + ENTRY.size / 4);
  u32[o + ENTRY.entryValid / 4] = ttl;
}

/** fuse_statx_out: the kernel's struct statx as it is, with our inode number. */
export function writeStatxOut(
  u32: Uint32Array,
  to: number,
  from: number,
  inoLow: number,
  inoHigh: number,
  ttl: number,
): void {
  const o = to >>> 2;
  u32.fill(0, o, o + STATX_OUT.stat / 4);
  u32[o] = ttl;
  u32.copyWithin(o + STATX_OUT.stat / 4, from >>> 2, (from + STATX.bytes) >>> 2);
  u32[o + (STATX_OUT.stat + STATX.ino) / 4] = inoLow;
  u32[o + (STATX_OUT.stat + STATX.ino) / 4 + 1] = inoHigh;
}

/** The kernel's 32-bit encoding of a device number (new_encode_dev). */
function deviceNumber(major: number, minor: number): number {
  return (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
}
