/**
 * Whether what was just read of a file by one of its names counts. The name may have become another file's meanwhile. And the file
 * may have moved to another branch (switch-branch.ts), where it gets its names one after the other, before it loses them one after
 * the other where it was: in between it has fewer links than it should, or is not found, or will be elsewhere the next moment.
 */
import { F, INODE } from '../inode/inode-table.ts';
import { WORD } from '../inode/layout.ts';
import { STATX } from '../protocol/abi.ts';
import { DT_DIR } from '../sys/constants.ts';
import type { Context } from './context.ts';

/** Whether a file is where it was read just now, on `branch`, and was there with all of its links. */
export function isStillOn(context: Context, slot: number, branch: number): boolean {
  // In this order: who ends a move has put the file into its new place before.
  return !isShifting(context, slot) && context.inodes.get(slot, F.branch) === branch;
}

/** Whether the names of a file, or its link in `.union`, may be changing without anybody having asked for that. */
export function isShifting({ inodes }: Context, slot: number): boolean {
  return inodes.kind(slot) !== DT_DIR && inodes.has(slot, INODE.moving | INODE.kept);
}

/** Whether the struct statx at `stat`, read on `branch`, is a file's. */
export function isAt({ inodes, u32 }: Context, slot: number, branch: number, stat: number): boolean {
  const word = (stat + STATX.ino) >>> 2;
  return (
    inodes.get(slot, F.branch) === branch &&
    u32[word] === inodes.get(slot, F.lowerLow) &&
    u32[word + 1] === inodes.get(slot, F.lowerHigh)
  );
}

/** How many files have begun to be on two branches: if none has since, a name that had no inode then is where it was. */
export function countSwitches({ i32 }: Context): number {
  return Atomics.load(i32, WORD.switchesStarted);
}
