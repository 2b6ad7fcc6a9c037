/** UNLINK and RMDIR, judged on the merged view. */
import { F, INODE } from '../inode/inode-table.ts';
import { WORD } from '../inode/layout.ts';
import { D } from '../inode/name-index.ts';
import { AT_REMOVEDIR, DT_DIR, ENOENT, ENOTEMPTY, O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { dropBacking } from './backing.ts';
import { type Context, firstBranch, hasBranch, nextBranch } from './context.ts';
import { enterCopies } from './copies.ts';
import { keepOpen, unpin } from './nameless.ts';
import { lockTree, setAside } from './parents.ts';
import { checkWritable, findName, holdFiles, letFilesGo, letGo, newTarget, resolve, type Target } from './target.ts';

export function unlink(context: Context): number {
  const target = newTarget();
  const resolved = resolve(context, context.slot, context.body, target);
  if (resolved < 0) return resolved;
  if (target.slot === 0) return -ENOENT;
  let result = checkWritable(context, target);
  if (result === 0) result = removeFile(context, target);
  letGo(context, target);
  return result;
}

/** Removes the visible file of a name and sets aside what it hides. */
function removeFile(context: Context, target: Target): number {
  holdFiles(context, target);
  // Who opens the file meanwhile must find it open or gone, not between.
  context.state.lockInode(target.slot);
  const result = unlinkFile(context, target);
  context.state.unlockInode(target.slot);
  letFilesGo(context, target);
  return result;
}

function unlinkFile(context: Context, target: Target): number {
  const { base, state } = context;
  const directory = context.directories.descriptor(target.parent, target.first);
  if (directory < 0) return directory;
  const kept = keepOpen(context, target.slot);
  if (kept < 0) return kept;
  // First: a file that an id still holds is not gone with its name, but some time after, which costs more.
  dropBacking(context, target.slot);
  state.changes.begin(target.slot);
  let result = libc.unlinkat(directory, base + target.position, 0);
  if (result === -ENOENT && context.journal.resuming) result = 0;
  context.attributes.markChanged(target.parent, target.first);
  // Before the index says that the name is gone: then the request counts as done.
  if (result === 0) hideOthers(context, target);
  if (result === 0 || result === -ENOENT) removeName(context, target, result);
  state.changes.end();
  if (result < 0) unpin(context, target.slot);
  return result;
}

export function hideOthers(context: Context, target: Target): void {
  for (
    let branch = nextBranch(target.low, target.high, target.first + 1);
    branch >= 0;
    branch = nextBranch(target.low, target.high, branch + 1)
  )
    setAside(context, target.parent, context.base + target.position, branch);
}

/**
 * Takes a name out of the index; its inode is unlinked when it was the last that is known. With a result, that is the request's:
 * the rest can be left undone.
 */
export function removeName(context: Context, target: Target, result?: number): void {
  const { inodes, names, state } = context;
  state.lock();
  if (result !== undefined) context.journal.commit(result);
  const dentry = findName(context, target);
  if (dentry !== 0) {
    const slot = names.get(dentry, D.inode);
    if (slot !== 0) {
      names.detach(dentry);
      if (inodes.get(slot, F.dentry) === 0) forgetLinks(context, slot, dentry);
    }
    names.remove(dentry);
  }
  state.unlock();
}

/**
 * The inode's last known name has gone. If nobody has the file open it leaves the link table: another name of it makes a new
 * inode, and another file may get its number.
 */
function forgetLinks({ inodes, kept }: Context, slot: number, dentry: number): void {
  if (inodes.has(slot, INODE.linked)) {
    if (inodes.get(slot, F.opens) !== 0) return;
    inodes.unlinkFromTable(slot);
  }
  inodes.setFlag(slot, INODE.unlinked);
  if (inodes.kind(slot) !== DT_DIR && inodes.get(slot, F.opens) === 0) kept.bequeath(dentry, slot);
}

export function rmdir(context: Context): number {
  const target = newTarget();
  const resolved = resolve(context, context.slot, context.body, target);
  if (resolved < 0) return resolved;
  if (target.slot === 0) return -ENOENT;
  let result = checkWritable(context, target);
  if (result === 0) result = removeDirectory(context, target);
  letGo(context, target);
  return result;
}

/** Removes all copies of a directory, or none. */
export function removeDirectory(context: Context, target: Target): number {
  const { inodes, state, u32 } = context;
  if (u32[WORD.makingSlot] === target.slot) {
    // On one more branch, by a dead server: known from here on.
    lockTree(context);
    state.unlockTree();
  }
  const low = inodes.get(target.slot, F.maskLow);
  const high = inodes.get(target.slot, F.maskHigh);
  const closed = enterCopies(context, target.slot);
  if (closed < 0) return closed;
  const hasCopies = nextBranch(low, high, firstBranch(low, high) + 1) >= 0;
  const empty = hasCopies && !context.journal.passed ? checkEmpty(context, target.slot) : 0;
  if (empty < 0) return empty;
  context.journal.pass();
  const kept = keepOpen(context, target.slot);
  if (kept < 0) return kept;
  state.changes.begin(target.slot);
  const result = removeCopies(context, target, low, high);
  if (result === 0) removeName(context, target, 0);
  state.changes.end();
  if (result < 0) unpin(context, target.slot);
  return result;
}

/** From the last to the first, so that what is left after a failure is still the directory that showed. */
function removeCopies(context: Context, target: Target, low: number, high: number): number {
  const { base } = context;
  let removedLow = 0;
  let removedHigh = 0;
  for (let branch = 63; branch >= 0; branch--) {
    if (!hasBranch(low, high, branch)) continue;
    const directory = context.directories.descriptor(target.parent, branch);
    const result = directory < 0 ? directory : libc.unlinkat(directory, base + target.position, AT_REMOVEDIR);
    context.attributes.markChanged(target.parent, branch);
    if (result < 0 && result !== -ENOENT) {
      forgetCopies(context, target, removedLow, removedHigh);
      return result;
    }
    if (branch < 32) removedLow |= 1 << branch;
    else removedHigh |= 1 << (branch - 32);
  }
  for (let branch = target.first; branch >= 0; branch = nextBranch(target.low, target.high, branch + 1))
    if (!hasBranch(low, high, branch)) setAside(context, target.parent, base + target.position, branch);
  return 0;
}

/** The directory stays, without these copies: where one is needed, it is made again. */
function forgetCopies(context: Context, target: Target, low: number, high: number): void {
  const { inodes, names, state } = context;
  state.lock();
  inodes.set(target.slot, F.maskLow, inodes.get(target.slot, F.maskLow) & ~low);
  inodes.set(target.slot, F.maskHigh, inodes.get(target.slot, F.maskHigh) & ~high);
  const dentry = findName(context, target);
  if (dentry !== 0) names.setBranches(dentry, target.low & ~low, target.high & ~high);
  state.unlock();
  state.dropDescriptors();
}

/** 0 when no copy of a directory has a name in it, else -ENOTEMPTY. */
export function checkEmpty(context: Context, slot: number): number {
  const { inodes } = context;
  if (inodes.has(slot, INODE.complete)) return inodes.get(slot, F.children) === 0 ? 0 : -ENOTEMPTY;
  const low = inodes.get(slot, F.maskLow);
  const high = inodes.get(slot, F.maskHigh);
  for (let branch = firstBranch(low, high); branch >= 0; branch = nextBranch(low, high, branch + 1)) {
    const result = isCopyEmpty(context, slot, branch);
    if (result < 0) return result;
  }
  return 0;
}

function isCopyEmpty(context: Context, slot: number, branch: number): number {
  const { base, u8, path, raw } = context;
  const directory = context.directories.descriptor(slot, branch);
  if (directory < 0) return directory;
  u8[path] = 0x2e;
  u8[path + 1] = 0;
  const descriptor = libc.openat(directory, base + path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (descriptor < 0) return descriptor;
  // `.` and `..` take 24 bytes each: anything more is a name.
  const first = libc.getdents64(descriptor, base + raw, 64 * 1024);
  const more = first >= 0 && first <= 48 ? libc.getdents64(descriptor, base + raw, 64 * 1024) : 0;
  libc.close(descriptor);
  if (first < 0) return first;
  return first > 48 || more > 0 ? -ENOTEMPTY : 0;
}
