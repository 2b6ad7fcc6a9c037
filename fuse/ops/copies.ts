/** The copies of a directory, where some of its branches may not be asked. */
import { F, INODE } from '../inode/inode-table.ts';
import { EIO } from '../sys/constants.ts';
import { type Context, firstBranch, nextBranch } from './context.ts';

/** The first branch of a mask that answers, or may be asked at least; the first of all when there is none. */
export function firstOpen({ gate }: Context, low: number, high: number): number {
  const first = firstBranch(low, high);
  let open = -1;
  for (let branch = first; branch >= 0; branch = nextBranch(low, high, branch + 1)) {
    if (gate.answers(branch)) return branch;
    if (open < 0 && gate.isOpen(branch)) open = branch;
  }
  return open < 0 ? first : open;
}

/** 0 when every copy of a directory is known and may be asked, else -EIO: what changes all of them is not begun. */
export function enterCopies({ gate, inodes }: Context, slot: number): number {
  if (inodes.has(slot, INODE.uncertain)) return -EIO;
  const low = inodes.get(slot, F.maskLow);
  const high = inodes.get(slot, F.maskHigh);
  for (let branch = firstBranch(low, high); branch >= 0; branch = nextBranch(low, high, branch + 1))
    if (gate.enter(branch) < 0) return -EIO;
  return 0;
}
