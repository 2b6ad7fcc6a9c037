/**
 * A name that is known, looked up again where others change the branches too (cache=shared): what was learned of it counts only
 * as far as the branches still say the same.
 */
import { F, INODE } from '../inode/inode-table.ts';
import { hashNameAt } from '../inode/name-index.ts';
import { DT_DIR, ENOENT } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { type Context, firstBranch, isAbsent, nextBranch } from './context.ts';
import { kindAt } from './inode-number.ts';
import { statInode } from './merged-attributes.ts';
import { isAt, isShifting, isStillOn } from './steady.ts';

const RETRIES = 16;

/** Attributes of `slot` into `stat` if the name still shows it. -ENOENT when it shows something else, or nothing. */
export function revalidate(context: Context, slot: number, parent: number, position: number): number {
  if (context.inodes.kind(slot) === DT_DIR) return revalidateDirectory(context, slot, parent, position);
  for (let attempt = 1; ; attempt++) {
    const stamp = context.state.switchStamp();
    const branch = context.inodes.get(slot, F.branch);
    const result = revalidateFile(context, slot, parent, position);
    if (stamp >= 0 && stamp === context.state.switchStamp()) return result;
    if (result === 0 && isStillOn(context, slot, branch)) return 0;
    // On its way to another branch it may have the name on neither, and not all of its links.
    if (attempt === RETRIES) return isShifting(context, slot) ? statInode(context, slot) : result;
    libc.schedYield();
  }
}

function revalidateFile(context: Context, slot: number, parent: number, position: number): number {
  const { inodes, stat } = context;
  const low = inodes.get(parent, F.maskLow);
  const high = inodes.get(parent, F.maskHigh);
  for (let branch = firstBranch(low, high); branch >= 0; branch = nextBranch(low, high, branch + 1)) {
    const directory = context.directories.descriptor(parent, branch);
    const result = directory < 0 ? directory : context.statName(directory, context.base + position, stat);
    if (isAbsent(result)) continue;
    // What is on a branch that cannot be asked is as it was known; what may be on one is not looked for.
    if (result < 0 && branch === inodes.get(slot, F.branch)) return result;
    if (result < 0) continue;
    return kindAt(context, stat) === inodes.kind(slot) && isAt(context, slot, branch, stat) ? 0 : -ENOENT;
  }
  return -ENOENT;
}

/** A directory stays the same one while its copies come and go. */
function revalidateDirectory(context: Context, slot: number, parent: number, position: number): number {
  const { inodes, names, state, stat2 } = context;
  const parentLow = inodes.get(parent, F.maskLow);
  const parentHigh = inodes.get(parent, F.maskHigh);
  let [low, high] = [0, 0];
  let isCertain = !inodes.has(parent, INODE.uncertain);
  for (
    let branch = firstBranch(parentLow, parentHigh);
    branch >= 0;
    branch = nextBranch(parentLow, parentHigh, branch + 1)
  ) {
    const directory = context.directories.descriptor(parent, branch);
    const result = directory < 0 ? directory : context.statName(directory, context.base + position, stat2);
    if (result < 0 && !isAbsent(result)) isCertain = false;
    if (isAbsent(result) || (result < 0 && !inodes.onBranch(slot, branch))) continue;
    const isDirectory = result < 0 || kindAt(context, stat2) === DT_DIR;
    if (!isDirectory && low === 0 && high === 0) return -ENOENT;
    if (!isDirectory) continue;
    if (branch < 32) low |= 1 << branch;
    else high |= 1 << (branch - 32);
  }
  if (low === 0 && high === 0) return -ENOENT;
  if (isCertain) inodes.clearFlag(slot, INODE.uncertain);
  else inodes.setFlag(slot, INODE.uncertain);
  if (low >>> 0 !== inodes.get(slot, F.maskLow) || high >>> 0 !== inodes.get(slot, F.maskHigh)) {
    const length = context.lengthAt(position);
    state.lock();
    inodes.set(slot, F.maskLow, low);
    inodes.set(slot, F.maskHigh, high);
    const dentry = names.find(parent, position, length, hashNameAt(context.u8, parent, position, length));
    if (dentry !== 0) names.setBranches(dentry, low, high);
    state.unlock();
    context.attributes.forgetAll(slot);
  }
  return statInode(context, slot);
}
