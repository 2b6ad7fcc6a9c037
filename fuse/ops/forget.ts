/** Forgetting inodes: when the kernel does, with what hangs on them. */
import { F, INODE, ROOT } from '../inode/inode-table.ts';
import { D } from '../inode/name-index.ts';
import { DEV_IOC_BACKING_CLOSE } from '../protocol/abi.ts';
import { DT_DIR } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';

/** Takes back `count` lookups of an inode; frees it when none is left, with what hangs on it. */
export function forget(context: Context, slot: number, count: number): void {
  const { inodes, state } = context;
  if (slot === ROOT || !inodes.isUsed(slot)) return;
  state.lock();
  const left = Math.max(0, inodes.get(slot, F.lookups) - count);
  inodes.set(slot, F.lookups, left);
  let backing = 0;
  let pinned = 0;
  if (left === 0 && isFreeable(context, slot) && !isWorthKeeping(context, slot)) {
    backing = inodes.kind(slot) === DT_DIR ? 0 : inodes.get(slot, F.backing);
    pinned = inodes.get(slot, F.pinned);
    freeInode(context, slot);
  }
  state.unlock();
  if (backing !== 0) closeBacking(context, backing);
  if (pinned !== 0) libc.close(pinned - 1);
}

export function isFreeable(context: Context, slot: number): boolean {
  const { inodes } = context;
  // Word 8 counts opens of a file and known children of a directory: neither may lose its inode.
  return slot !== ROOT && inodes.get(slot, F.lookups) === 0 && inodes.get(slot, F.opens) === 0;
}

/** A directory of which all names are known; eviction.ts bounds how many. */
function isWorthKeeping({ inodes, exclusive }: Context, slot: number): boolean {
  return exclusive && inodes.has(slot, INODE.complete) && !inodes.has(slot, INODE.unlinked);
}

/** Under the table lock. A parent that was kept only for this child goes too. */
export function freeInode(context: Context, slot: number): void {
  const { inodes, names } = context;
  if (inodes.kind(slot) === DT_DIR)
    for (let child = inodes.get(slot, F.firstChild); child !== 0; child = inodes.get(slot, F.firstChild))
      names.remove(child);
  for (let dentry = inodes.get(slot, F.dentry); dentry !== 0; dentry = inodes.get(slot, F.dentry)) {
    const parent = names.get(dentry, D.parent);
    names.detach(dentry);
    // Whoever lists the parent has seen the name and will call the directory complete.
    if (!inodes.has(parent, INODE.complete) && inodes.get(parent, F.listers) === 0) names.remove(dentry);
    freeOrphan(context, parent);
  }
  if (inodes.kind(slot) === DT_DIR) context.attributes.release(slot);
  inodes.free(slot);
}

/** A directory that was kept only for the child that it has just lost. */
function freeOrphan(context: Context, slot: number): void {
  if (!isFreeable(context, slot) || isWorthKeeping(context, slot)) return;
  if (context.inodes.get(slot, F.pinned) === 0 && context.inodes.get(slot, F.listers) === 0) freeInode(context, slot);
}

export function closeBacking(context: Context, id: number): void {
  context.u32[context.argument >>> 2] = id;
  libc.ioctl(context.device, DEV_IOC_BACKING_CLOSE, context.base + context.argument);
}
