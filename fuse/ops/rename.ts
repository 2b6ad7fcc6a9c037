/**
 * RENAME and RENAME2. A file stays on its branch, a directory is renamed on every branch that has it; the new parent is made
 * where it is missing. Existence and emptiness of the target are judged on the merged view. When a branch refuses, what was done
 * on the others is undone.
 */
import { removeIntent } from '../branch/intent.ts';
import { F, INODE } from '../inode/inode-table.ts';
import { D } from '../inode/name-index.ts';
import { STATX } from '../protocol/abi.ts';
import {
  DT_DIR,
  EACCES,
  EEXIST,
  EINVAL,
  EIO,
  EISDIR,
  ENAMETOOLONG,
  ENOENT,
  ENOTDIR,
  errnoName,
  isNoSpace,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { Aside } from './aside.ts';
import { dropBacking } from './backing.ts';
import { type Context, firstBranch, hasBranch, nextBranch } from './context.ts';
import { enterCopies } from './copies.ts';
import { intendExchange, intendMove, type Mask } from './intent.ts';
import { makeRoom } from './move.ts';
import { keepReplaced, unpin } from './nameless.ts';
import { makeDirectoryLocked, makeDirectoryOn, setAside } from './parents.ts';
import { checkEmpty, hideOthers, removeName } from './remove.ts';
import { NAME_MAX } from './scratch.ts';
import {
  checkWritable,
  findAgain,
  findName,
  holdFiles,
  letFilesGo,
  letGo,
  lockDirectories,
  newTarget,
  resolve,
  type Target,
} from './target.ts';

/** fuse_rename_in: newdir; old name, new name. */
export function rename(context: Context): number {
  return renameNames(context, context.in32(0), 0, context.body + 8);
}

/** fuse_rename2_in: newdir, flags; old name, new name. */
export function rename2(context: Context): number {
  return renameNames(context, context.in32(0), context.in32(8), context.body + 16);
}

function renameNames(context: Context, newParent: number, flags: number, oldName: number): number {
  const { slot: parent } = context;
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0) return -EINVAL;
  const newName = oldName + context.lengthAt(oldName) + 1;
  const newLength = context.lengthAt(newName);
  if (newLength > NAME_MAX) return -ENAMETOOLONG;
  if (context.isReserved(newParent, newName, newLength)) return -EACCES;
  const source = newTarget();
  const target = newTarget();
  let result = resolve(context, parent, oldName, source);
  if (result === 0) result = resolve(context, newParent, newName, target);
  if (result === 0 && !context.journal.passed) result = check(context, source, target, flags);
  if (result === 0) context.journal.pass();
  // Two names of one file: nothing is to be done, says POSIX.
  const isSame = source.slot === target.slot && (flags & RENAME_EXCHANGE) === 0;
  if (result === 0 && !isSame) {
    holdFiles(context, source, target);
    result =
      (flags & RENAME_EXCHANGE) !== 0 ? exchange(context, source, target) : moveOrRelocate(context, source, target);
    letFilesGo(context, source, target);
  }
  letGo(context, source);
  letGo(context, target);
  return result;
}

function check(context: Context, source: Target, target: Target, flags: number): number {
  const { inodes } = context;
  if (source.slot === 0) return -ENOENT;
  const writable = checkWritable(context, source);
  if (writable < 0) return writable;
  for (const { slot } of [source, target])
    if (slot !== 0 && inodes.kind(slot) === DT_DIR && enterCopies(context, slot) < 0) return -EIO;
  if (target.slot === 0) return (flags & RENAME_EXCHANGE) !== 0 ? -ENOENT : 0;
  if ((flags & RENAME_NOREPLACE) !== 0) return -EEXIST;
  const replaceable = checkWritable(context, target);
  if (replaceable < 0) return replaceable;
  if ((flags & RENAME_EXCHANGE) !== 0 || source.slot === target.slot) return 0;
  const targetIsDirectory = inodes.kind(target.slot) === DT_DIR;
  if (inodes.kind(source.slot) !== DT_DIR) return targetIsDirectory ? -EISDIR : 0;
  return targetIsDirectory ? checkEmpty(context, target.slot) : -ENOTDIR;
}

/** Branches on which the visible file or directory of a target is. */
function copiesOf(context: Context, target: Target): { low: number; high: number } {
  const { inodes } = context;
  if (target.slot !== 0 && inodes.kind(target.slot) === DT_DIR)
    return { low: inodes.get(target.slot, F.maskLow), high: inodes.get(target.slot, F.maskHigh) };
  if (target.first < 0) return { low: 0, high: 0 };
  return target.first < 32 ? { low: 1 << target.first, high: 0 } : { low: 0, high: 1 << (target.first - 32) };
}

/** Where a file's branch has no room for the new name or its directory, the file goes to another first. Under the files' locks. */
function moveOrRelocate(context: Context, source: Target, target: Target): number {
  const result = move(context, source, target);
  if (!isNoSpace(result) || makeRoom(context, source.slot, 0) < 0) return result;
  findAgain(context, source);
  return move(context, source, target);
}

/** A directory keeps its place on every branch while it is made on one, and its branches while it moves. */
function move(context: Context, source: Target, target: Target): number {
  const { inodes, state } = context;
  const isDirectory = inodes.kind(source.slot) === DT_DIR;
  if (isDirectory) lockDirectories(context, source, target);
  const from = copiesOf(context, source);
  let result = isDirectory
    ? makeParents(context, target.parent, from)
    : makeDirectoryOn(context, target.parent, source.first);
  if (result === 0 && target.slot === 0) result = moveTo(context, source, target, from);
  else if (result === 0) {
    // Who opens the target meanwhile must find it open or gone, not between.
    state.lockInode(target.slot);
    result = moveTo(context, source, target, from);
    state.unlockInode(target.slot);
  }
  if (isDirectory) state.unlockTree();
  return result;
}

function makeParents(context: Context, parent: number, { low, high }: Mask): number {
  for (let branch = firstBranch(low, high); branch >= 0; branch = nextBranch(low, high, branch + 1)) {
    const made = makeDirectoryLocked(context, parent, branch);
    if (made < 0) return made;
  }
  return 0;
}

function moveTo(context: Context, source: Target, target: Target, from: Mask): number {
  const { state } = context;
  const replaced = copiesOf(context, target);
  const kept = target.slot === 0 ? 0 : keepReplaced(context, target.slot);
  if (kept < 0) return kept;
  hideCopies(context, target, replaced);
  let result = openDirectories(context, source, target, from);
  const intent = result === 0 ? intendMove(context, source, target, from, replaced) : undefined;
  if (intent === '') result = -EIO;
  if (result === 0) {
    state.changes.begin(source.slot, target.slot);
    result = moveAndReplace(context, source, target, from, replaced);
    if (intent !== undefined) removeIntent(intent);
    forgetTimes(context, source.slot);
    if (result === 0) {
      // Before the index says that the name has moved: then the request counts as done.
      hideCopies(context, source, from);
      if (target.slot !== 0) removeName(context, target);
      moveName(context, source, target, from);
    }
    state.changes.end();
  }
  if (result < 0 && target.slot !== 0) unpin(context, target.slot);
  if (result === 0 && target.slot !== 0 && context.inodes.kind(target.slot) !== DT_DIR)
    dropBacking(context, target.slot);
  return result;
}

/**
 * Renames on every branch of the source and takes away what the target is on others: all or nothing. A file is replaced before
 * the old one is removed, so that one of the two is always there. Empty directories are moved out of the way first where
 * there are several, as a rename over one could not be undone.
 */
function moveAndReplace(context: Context, source: Target, target: Target, from: Mask, replaced: Mask): number {
  const only = firstBranch(from.low, from.high);
  const isAlone = nextBranch(from.low, from.high, only + 1) < 0;
  const isWithin = (replaced.low & ~from.low) === 0 && (replaced.high & ~from.high) === 0;
  const wasMoved = context.journal.resuming && isMoved(context, source, target, from);
  if (target.slot === 0 || (isAlone && isWithin)) return wasMoved ? 0 : moveCopies(context, source, target, from);
  if (context.inodes.kind(target.slot) === DT_DIR) {
    const aside = new Aside(context, target.parent, context.base + target.position);
    if (wasMoved) {
      aside.removeLeft(replaced);
      return 0;
    }
    let result = aside.take(replaced);
    if (result === 0) result = moveCopies(context, source, target, from);
    if (result === 0) aside.remove();
    else aside.putBack();
    return result;
  }
  const moved = wasMoved ? 0 : moveCopies(context, source, target, from);
  if (moved < 0) return moved;
  const branch = firstBranch(replaced.low, replaced.high);
  const directory = context.directories.descriptor(target.parent, branch);
  const removed = directory < 0 ? directory : libc.unlinkat(directory, context.base + target.position, 0);
  context.attributes.markChanged(target.parent, branch);
  if (removed >= 0 || (removed === -ENOENT && context.journal.resuming)) return 0;
  undo(context, renameOn(context, only, target, source, 0), only);
  return removed;
}

/** Whether a dead server, or the intent log after it, has renamed every copy. */
function isMoved(context: Context, source: Target, target: Target, { low, high }: Mask): boolean {
  const { base, directories, stat2 } = context;
  for (let branch = firstBranch(low, high); branch >= 0; branch = nextBranch(low, high, branch + 1)) {
    const from = directories.descriptor(source.parent, branch);
    if (from < 0 || context.statName(from, base + source.position, stat2) !== -ENOENT) return false;
    const to = directories.descriptor(target.parent, branch);
    if (to < 0 || context.statName(to, base + target.position, stat2) < 0) return false;
  }
  return true;
}

/** Sets aside what a name hides on branches where the visible file or directory is not. */
function hideCopies(context: Context, target: Target, visible: Mask): void {
  if (target.first < 0) return;
  if (context.inodes.kind(target.slot) !== DT_DIR) {
    hideOthers(context, target);
    return;
  }
  for (let branch = target.first; branch >= 0; branch = nextBranch(target.low, target.high, branch + 1))
    if (!hasBranch(visible.low, visible.high, branch))
      setAside(context, target.parent, context.base + target.position, branch);
}

/** Brings the descriptors of both parents into the cache before names are in motion: opening them waits for that. */
function openDirectories(context: Context, source: Target, target: Target, on: Mask): number {
  for (let branch = firstBranch(on.low, on.high); branch >= 0; branch = nextBranch(on.low, on.high, branch + 1)) {
    const from = context.directories.descriptor(source.parent, branch);
    const to = from < 0 ? from : context.directories.descriptor(target.parent, branch);
    if (to < 0) return to;
  }
  return 0;
}

function moveCopies(context: Context, source: Target, target: Target, from: Mask): number {
  for (
    let branch = firstBranch(from.low, from.high);
    branch >= 0;
    branch = nextBranch(from.low, from.high, branch + 1)
  ) {
    const result = renameOn(context, branch, source, target, 0);
    if (result < 0) {
      for (let done = firstBranch(from.low, from.high); done < branch; done = nextBranch(from.low, from.high, done + 1))
        undo(context, renameOn(context, done, target, source, 0), done);
      return result;
    }
  }
  return 0;
}

/** A directory's own change time moves when it is renamed. */
function forgetTimes(context: Context, slot: number): void {
  if (context.inodes.kind(slot) === DT_DIR) context.attributes.forgetAll(slot);
}

function renameOn(context: Context, branch: number, from: Target, to: Target, flags: number): number {
  const { base, directories } = context;
  const source = directories.descriptor(from.parent, branch);
  if (source < 0) return source;
  const target = directories.descriptor(to.parent, branch);
  if (target < 0) return target;
  context.branchTable.noteRename(branch);
  let result = libc.renameat2(source, base + from.position, target, base + to.position, flags);
  if (result === -ENOENT && context.journal.resuming && (flags & RENAME_EXCHANGE) === 0)
    result = context.statName(target, base + to.position, context.stat2); // done by a dead server, if it is there
  context.attributes.markChanged(from.parent, branch);
  context.attributes.markChanged(to.parent, branch);
  return result;
}

function undo(context: Context, result: number, branch: number): void {
  if (result < 0)
    context.log.error('rename_not_undone', { branch: context.branches[branch]!.path, error: errnoName(-result) });
}

function moveName(context: Context, source: Target, target: Target, on: Mask): void {
  const { inodes, names, state } = context;
  state.lock();
  context.journal.commit(0);
  const dentry = findName(context, source);
  if (dentry !== 0) {
    if (names.move(dentry, target.parent, target.position, target.length, target.hash)) {
      names.setBranches(dentry, on.low, on.high);
      context.kept.forget(dentry);
    } else {
      // No memory for the name: the next lookup finds it on the branches.
      inodes.clearFlag(target.parent, INODE.complete);
      names.detach(dentry);
      names.remove(dentry);
    }
  }
  state.unlock();
}

/** RENAME_EXCHANGE: on each branch whatever of the two is there changes its name. */
function exchange(context: Context, one: Target, other: Target): number {
  lockDirectories(context, one, other);
  const a = copiesOf(context, one);
  const b = copiesOf(context, other);
  const all = { low: a.low | b.low, high: a.high | b.high };
  let result = makeParents(context, one.parent, all);
  if (result === 0) result = makeParents(context, other.parent, all);
  if (result === 0) result = exchangeOnBranches(context, one, other, a, b);
  context.state.unlockTree();
  return result;
}

function exchangeOnBranches(context: Context, one: Target, other: Target, a: Mask, b: Mask): number {
  const { state } = context;
  const all = { low: a.low | b.low, high: a.high | b.high };
  hideCopies(context, one, a);
  hideCopies(context, other, b);
  const opened = openDirectories(context, one, other, all);
  if (opened < 0) return opened;
  // Noted before the intent is: once that is written, a successor completes it before it comes here.
  const isDone = wasExchanged(context, one, firstBranch(a.low, a.high));
  const intent = isDone ? undefined : intendExchange(context, one, other, a, b);
  if (intent === '') return -EIO;
  state.changes.begin(one.slot, other.slot);
  const result = isDone ? 0 : exchangeCopies(context, one, other, a, b);
  if (intent !== undefined) removeIntent(intent);
  forgetTimes(context, one.slot);
  forgetTimes(context, other.slot);
  if (result === 0) exchangeNames(context, one, other, a, b);
  state.changes.end();
  return result;
}

function exchangeCopies(context: Context, one: Target, other: Target, a: Mask, b: Mask): number {
  for (let branch = 0; branch < context.branchTable.count; branch++) {
    const result = exchangeOn(context, branch, one, other, a, b);
    if (result < 0) {
      for (let done = 0; done < branch; done++) undo(context, exchangeOn(context, done, other, one, a, b), done);
      return result;
    }
  }
  return 0;
}

/**
 * Whether a dead server did it already, on all branches: what was begun on several of them was completed by the intent log.
 * Told by the number of the file that has the first name.
 */
function wasExchanged(context: Context, one: Target, branch: number): boolean {
  const { base, directories, journal, stat2, u32 } = context;
  const directory = directories.descriptor(one.parent, branch);
  const found = directory >= 0 && context.statName(directory, base + one.position, stat2) === 0;
  const number = found ? u32[(stat2 + STATX.ino) >>> 2]! : 0;
  if (journal.resuming && journal.number !== 0) return number !== journal.number;
  journal.setNumber(number);
  return false;
}

/** `one` and `other` are the names; the file of mask `a` goes from the first to the second, that of `b` back. */
function exchangeOn(context: Context, branch: number, one: Target, other: Target, a: Mask, b: Mask): number {
  const hasA = hasBranch(a.low, a.high, branch);
  const hasB = hasBranch(b.low, b.high, branch);
  if (hasA && hasB) return renameOn(context, branch, one, other, RENAME_EXCHANGE);
  if (hasA) return renameOn(context, branch, one, other, RENAME_NOREPLACE);
  return hasB ? renameOn(context, branch, other, one, RENAME_NOREPLACE) : 0;
}

function exchangeNames(context: Context, one: Target, other: Target, a: Mask, b: Mask): void {
  context.state.lock();
  context.journal.commit(0);
  const { names } = context;
  const first = findName(context, one);
  const second = findName(context, other);
  for (const dentry of [first, second]) if (dentry !== 0 && names.get(dentry, D.inode) !== 0) names.detach(dentry);
  show(context, one, first, other.slot, b);
  show(context, other, second, one.slot, a);
  context.state.unlock();
}

/** Makes a dentry that has no inode show one. */
function show({ inodes, kept, names }: Context, { parent }: Target, dentry: number, slot: number, on: Mask): void {
  if (dentry === 0) {
    inodes.clearFlag(parent, INODE.complete); // the index was full: a lookup finds it on the branches
    return;
  }
  kept.forget(dentry);
  names.setKind(dentry, inodes.kind(slot));
  names.setBranches(dentry, on.low, on.high);
  names.attach(dentry, slot);
}
