/** What a struct statx in the scratch says of a file's kind, and the number that the union shows for it. */
import { F } from '../inode/inode-table.ts';
import { STATX } from '../protocol/abi.ts';
import type { Context } from './context.ts';

/** DT_ value of the file whose struct statx is at `stat`. */
export function kindAt(context: Context, stat: number): number {
  return (context.u32[(stat + STATX.mode) >>> 2]! & 0xf000) >>> 12;
}

/** Gives an inode its st_ino: the lower number of the copy whose struct statx is at `stat`, below the tag of its branch. */
export function numberInode(context: Context, slot: number, branch: number, stat: number): void {
  const word = (stat + STATX.ino) >>> 2;
  context.inodes.set(slot, F.inoLow, context.u32[word]!);
  context.inodes.set(slot, F.inoHigh, inoHigh(context, branch, context.u32[word + 1]!));
}

/** The upper word of st_ino. Lower numbers fit in 48 bits on every common filesystem; larger ones are folded. */
export function inoHigh(context: Context, branch: number, lowerHigh: number): number {
  return (((lowerHigh ^ (lowerHigh >>> 16)) & 0xffff) | (context.branches[branch]!.inodeTag << 16)) >>> 0;
}
