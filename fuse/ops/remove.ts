/** UNLINK and RMDIR, judged on the merged view. */
import { F, INODE } from '../inode/inode-table.ts';
import { D, hashNameAt } from '../inode/name-index.ts';
import { AT_REMOVEDIR, DT_DIR, ENOENT, ENOTEMPTY, EROFS, O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { dropBacking } from './backing.ts';
import { type Context, firstBranch, hasBranch, nextBranch } from './context.ts';
import { enterCopies } from './copies.ts';
import { forget } from './forget.ts';
import { keepOpen, unpin } from './nameless.ts';
import { setAside } from './parents.ts';
import { findChild } from './tree.ts';

/** A name that is to be changed, with every branch that has it. Filled by `resolve`, reused by each thread. */
export interface Target {
  parent: number;
  position: number;
  length: number;
  /** Slot of its inode, 0 when the name does not exist. */
  slot: number;
  /** All branches that have the name; `first` is the one that shows. */
  low: number;
  high: number;
  first: number;
}

/**
 * Finds a name and all branches that have it. Answers 0 or a negated errno; a missing name is not an error here. The target
 * holds one lookup on the slot, given back with `letGo`.
 */
export function resolve(context: Context, parent: number, position: number, target: Target): number {
  const length = context.lengthAt(position);
  target.parent = parent;
  target.position = position;
  target.length = length;
  target.low = target.high = target.slot = 0;
  target.first = -1;
  if (recall(context, target)) return 0;
  const result = context.exclusive && resolveKnown(context, target) ? 0 : ask(context, target);
  if (result === 0) context.journal.noteTarget(target);
  return result;
}

/** What was found for this request before its server died: since then the name may have gone, by this very request. */
function recall(context: Context, target: Target): boolean {
  if (!context.journal.recallTarget(target)) return false;
  if (target.slot === 0) return true;
  context.state.lock();
  context.hold(target.slot);
  context.state.unlock();
  return true;
}

/** Asks the branches. */
function ask(context: Context, target: Target): number {
  const { parent, position, length } = target;
  const slot = findChild(context, parent, position, length);
  if (slot <= 0) return slot;
  target.slot = slot;
  const known = readName(context, target, false);
  if (known === UNKNOWN || known === ABSENT) return -ENOENT;
  if (known === PARTLY || !context.exclusive) askOthers(context, target);
  target.first = firstBranch(target.low, target.high);
  return 0;
}

/** The common case without a system call: the index knows the inode and every branch that has the name, or that none has. */
function resolveKnown(context: Context, target: Target): boolean {
  const known = readName(context, target, true);
  if (known === ABSENT) return true;
  if (known !== WHOLLY) {
    letGo(context, target);
    target.slot = 0;
    return false;
  }
  target.first = firstBranch(target.low, target.high);
  return target.slot !== 0;
}

/** What the index knows of a name: nothing, some of its branches, all of them, or that it does not exist. */
const [UNKNOWN, PARTLY, WHOLLY, ABSENT] = [0, 1, 2, 3];

/** Puts a name's branches into the target and, with `hold`, its inode with one more lookup. */
function readName(context: Context, target: Target, hold: boolean): number {
  const { inodes, names, state, u8 } = context;
  const hash = hashNameAt(u8, target.parent, target.position, target.length);
  state.lock();
  let known = inodes.has(target.parent, INODE.complete) ? ABSENT : UNKNOWN;
  const dentry = names.find(target.parent, target.position, target.length, hash);
  if (dentry !== 0) {
    target.low = names.get(dentry, D.maskLow);
    target.high = names.get(dentry, D.maskHigh);
    known = names.isPartial(dentry) && known !== ABSENT ? PARTLY : WHOLLY;
    if (hold) target.slot = names.get(dentry, D.inode);
    if (hold && target.slot !== 0) context.hold(target.slot);
  }
  state.unlock();
  return known;
}

function askOthers(context: Context, target: Target): void {
  const { inodes } = context;
  const low = inodes.get(target.parent, F.maskLow);
  const high = inodes.get(target.parent, F.maskHigh);
  for (let branch = firstBranch(low, high); branch >= 0; branch = nextBranch(low, high, branch + 1)) {
    if (hasBranch(target.low, target.high, branch)) continue;
    const directory = context.directories.descriptor(target.parent, branch);
    if (directory < 0 || context.statName(directory, context.base + target.position, context.stat2) < 0) continue;
    if (branch < 32) target.low |= 1 << branch;
    else target.high |= 1 << (branch - 32);
  }
}

export function letGo(context: Context, target: Target): void {
  if (target.slot > 0) forget(context, target.slot, 1);
}

export function newTarget(): Target {
  return { parent: 0, position: 0, length: 0, slot: 0, low: 0, high: 0, first: -1 };
}

/** EROFS when any branch that has the name may not be changed: the name would not be gone. */
export function checkWritable(context: Context, target: Target): number {
  if (context.config.readOnly) return -EROFS;
  for (let branch = target.first; branch >= 0; branch = nextBranch(target.low, target.high, branch + 1))
    if (context.branches[branch]!.mode === 'RO') return -EROFS;
  return 0;
}

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

/**
 * Locks the files of one name or two: from then on they stay on their branches. Where one moved while this waited, its branches
 * are looked up again. Directories need no such lock.
 */
export function holdFiles(context: Context, target: Target, other?: Target): void {
  context.state.lockFiles(fileOf(context, target), other === undefined ? 0 : fileOf(context, other));
  findAgain(context, target);
  if (other !== undefined) findAgain(context, other);
}

export function letFilesGo(context: Context, target: Target, other?: Target): void {
  context.state.unlockFiles(fileOf(context, target), other === undefined ? 0 : fileOf(context, other));
}

function fileOf({ inodes }: Context, { slot }: Target): number {
  return slot !== 0 && inodes.kind(slot) !== DT_DIR ? slot : 0;
}

/** A file's branches, if it has moved. */
export function findAgain(context: Context, target: Target): void {
  if (fileOf(context, target) !== 0 && context.inodes.get(target.slot, F.branch) !== target.first)
    lookAgain(context, target);
}

/** The branches that have a known name. */
export function lookAgain(context: Context, target: Target): void {
  const known = readName(context, target, false);
  if (known === PARTLY || !context.exclusive) askOthers(context, target);
  target.first = firstBranch(target.low, target.high);
}

/** Takes the tree lock: directories are where they are. Meanwhile a branch may have been removed that had a copy of one. */
export function lockDirectories(context: Context, one: Target, other: Target): void {
  context.state.lockTree();
  if (context.journal.resuming) return;
  for (const target of [one, other])
    if (target.slot !== 0 && context.inodes.kind(target.slot) === DT_DIR) lookAgain(context, target);
}

function unlinkFile(context: Context, target: Target): number {
  const { base, state } = context;
  const directory = context.directories.descriptor(target.parent, target.first);
  if (directory < 0) return directory;
  const kept = keepOpen(context, target.slot);
  if (kept < 0) return kept;
  state.changes.begin(target.slot);
  let result = libc.unlinkat(directory, base + target.position, 0);
  if (result === -ENOENT && context.journal.resuming) result = 0;
  context.attributes.markChanged(target.parent, target.first);
  // Before the index says that the name is gone: then the request counts as done.
  if (result === 0) hideOthers(context, target);
  if (result === 0 || result === -ENOENT) removeName(context, target, result);
  state.changes.end();
  if (result < 0) unpin(context, target.slot);
  if (result < 0) return result;
  dropBacking(context, target.slot);
  return 0;
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
  const dentry = names.find(
    target.parent,
    target.position,
    target.length,
    hashNameAt(context.u8, target.parent, target.position, target.length),
  );
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
  const { inodes, state } = context;
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
  const { inodes, names, state, u8 } = context;
  const hash = hashNameAt(u8, target.parent, target.position, target.length);
  state.lock();
  inodes.set(target.slot, F.maskLow, inodes.get(target.slot, F.maskLow) & ~low);
  inodes.set(target.slot, F.maskHigh, inodes.get(target.slot, F.maskHigh) & ~high);
  const dentry = names.find(target.parent, target.position, target.length, hash);
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
