/** Forgetting inodes: when the kernel does, with what hangs on them. */
import { F, INODE, ROOT } from '../inode/inode-table.ts';
import { D } from '../inode/name-index.ts';
import { DEV_IOC_BACKING_CLOSE } from '../protocol/abi.ts';
import { DT_DIR } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { unlinkOpen } from './nameless.ts';

/** Takes back `count` lookups of an inode; frees it when none is left, with what hangs on it. */
export function forget(context: Context, slot: number, count: number): void {
  const { inodes, journal, state } = context;
  state.lock();
  journal.letGo(slot);
  if (slot === ROOT || !inodes.isUsed(slot)) state.unlock();
  else takeLookups(context, slot, count);
}

/** The kernel's own forgetting, which must happen once: it is never asked for again. */
export function forgetForKernel(context: Context, slot: number, count: number): void {
  const { inodes, journal, state } = context;
  state.lock();
  journal.countForgotten();
  if (slot === ROOT || !inodes.isUsed(slot)) state.unlock();
  else takeLookups(context, slot, count);
}

/** Under the table lock, which it gives up. */
function takeLookups(context: Context, slot: number, count: number): void {
  const { inodes, state } = context;
  const left = Math.max(0, inodes.get(slot, F.lookups) - count);
  if (left !== 0 || inodes.get(slot, F.opens) !== 0 || isWorthKeeping(context, slot)) {
    inodes.set(slot, F.lookups, left);
    state.unlock();
    return;
  }
  freeWholly(context, slot);
}

/** Frees an inode with what hangs on it. Under the table lock, which it gives up. */
function freeWholly(context: Context, slot: number): void {
  const { inodes, state, journal } = context;
  const backing = inodes.kind(slot) === DT_DIR ? 0 : inodes.get(slot, F.backing);
  const pinned = inodes.get(slot, F.pinned);
  const isKept = inodes.has(slot, INODE.kept);
  const generation = inodes.get(slot, F.generation);
  const branch = isKept ? inodes.get(slot, F.branch) : 0;
  journal.setClosing(backing);
  freeInode(context, slot);
  state.unlock();
  if (backing !== 0) closeBacking(context, backing);
  if (pinned !== 0) libc.close(pinned - 1);
  if (isKept) unlinkOpen(context, slot, generation, branch);
}

export function isFreeable(context: Context, slot: number): boolean {
  const { inodes } = context;
  // Word 8 counts opens of a file and known children of a directory: neither may lose its inode.
  return slot !== ROOT && inodes.get(slot, F.lookups) === 0 && inodes.get(slot, F.opens) === 0;
}

/** A directory of which all names are known, or a file with a backing id: eviction.ts and backing.ts bound how many. */
function isWorthKeeping({ inodes, exclusive }: Context, slot: number): boolean {
  if (!exclusive || inodes.has(slot, INODE.unlinked)) return false;
  if (inodes.kind(slot) === DT_DIR) return inodes.has(slot, INODE.complete);
  return inodes.has(slot, INODE.idle) && inodes.get(slot, F.backing) !== 0 && inodes.get(slot, F.dentry) !== 0;
}

/** Under the table lock. A parent that was kept only for this child goes too. */
export function freeInode(context: Context, slot: number): void {
  const { inodes, names } = context;
  // First, as the hold of the lock may be settled on the way: then it is a directory of which not all names are known.
  inodes.clearFlag(slot, INODE.complete);
  if (inodes.kind(slot) === DT_DIR)
    for (let child = inodes.get(slot, F.firstChild); child !== 0; child = inodes.get(slot, F.firstChild)) {
      names.remove(child);
      context.state.settleIfLong();
    }
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

/**
 * Frees an inode that the kernel has forgotten, and that was only kept for what was known of it or its backing id, if it has no name
 * any more. Under the table lock, which it gives up.
 */
export function freeForgotten(context: Context, slot: number): void {
  const { inodes, state } = context;
  const isListed = inodes.kind(slot) === DT_DIR && inodes.get(slot, F.listers) !== 0;
  if (inodes.get(slot, F.dentry) !== 0 || !isFreeable(context, slot) || inodes.get(slot, F.pinned) !== 0 || isListed)
    state.unlock();
  else freeWholly(context, slot);
}

/** A directory that was kept only for the child that it has just lost. */
function freeOrphan(context: Context, slot: number): void {
  if (!isFreeable(context, slot) || isWorthKeeping(context, slot)) return;
  if (context.inodes.get(slot, F.pinned) === 0 && context.inodes.get(slot, F.listers) === 0) freeInode(context, slot);
}

/** Closes an id that the journal names. */
export function closeBacking(context: Context, id: number): void {
  context.u32[context.argument >>> 2] = id;
  libc.ioctl(context.device, DEV_IOC_BACKING_CLOSE, context.base + context.argument);
  context.journal.setClosing(0);
}
