/** What a struct statx in the scratch says of a file's kind, and the number that the union shows for it. */
import { F } from '../inode/inode-table.ts';
import { STATX } from '../protocol/abi.ts';
import type { Context } from './context.ts';

/** DT_ value of the file whose struct statx is at `stat`. */
export function kindAt(context: Context, stat: number): number {
  return (context.u32[(stat + STATX.mode) >>> 2]! & 0xf000) >>> 12;
}

/** Gives an inode that was allocated under this hold of the table lock its st_ino, from the copy whose struct statx is at `stat`. */
export function numberInode(context: Context, slot: number, branch: number, stat: number): void {
  const word = (stat + STATX.ino) >>> 2;
  const { inodes, u32 } = context;
  inodes.fill(slot, F.inoLow, shownLow(context, branch, u32[word]!, u32[word + 1]!));
  inodes.fill(slot, F.inoHigh, shownHigh(context, branch, u32[word]!, u32[word + 1]!));
}

/** st_ino of a lower inode: its number below the tag of its branch, or the one that it was given when a file moved. */
export function shownLow({ numbers }: Context, branch: number, low: number, high: number): number {
  const record = numbers.find(branch, low, high);
  return record === 0 ? low : numbers.shownLow(record);
}

export function shownHigh(context: Context, branch: number, low: number, high: number): number {
  const record = context.numbers.find(branch, low, high);
  return record === 0 ? taggedHigh(context, branch, high) : context.numbers.shownHigh(record);
}

/** Lower numbers fit in 48 bits on every common filesystem; larger ones are folded. */
function taggedHigh(context: Context, branch: number, lowerHigh: number): number {
  return (((lowerHigh ^ (lowerHigh >>> 16)) & 0xffff) | (context.branches[branch]!.inodeTag << 16)) >>> 0;
}
