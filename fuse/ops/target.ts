/**
 * A name that UNLINK, RMDIR or RENAME is to change: which inode it shows, which branches have it, and the locks under which these
 * stay as they were found.
 */
import { F, INODE } from '../inode/inode-table.ts';
import { D, hashNameAt } from '../inode/name-index.ts';
import { DT_DIR, ENOENT, EROFS } from '../sys/constants.ts';
import { type Context, firstBranch, hasBranch, nextBranch } from './context.ts';
import { forget } from './forget.ts';
import { lockTree } from './parents.ts';
import { findChild } from './tree.ts';

/** A name that is to be changed, with every branch that has it. Filled by `resolve`, reused by each thread. */
export interface Target {
  parent: number;
  position: number;
  length: number;
  /** Of parent and name. */
  hash: number;
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
  setName(context, target, { parent, position, length: context.lengthAt(position) });
  target.low = target.high = target.slot = 0;
  target.first = -1;
  if (recall(context, target)) return 0;
  const result = context.exclusive && resolveKnown(context, target) ? 0 : ask(context, target);
  if (result === 0) context.journal.noteTarget(target);
  return result;
}

/** Which name a target is. */
export function setName(
  { u8 }: Context,
  target: Target,
  { parent, position, length }: Pick<Target, 'parent' | 'position' | 'length'>,
): void {
  target.parent = parent;
  target.position = position;
  target.length = length;
  target.hash = hashNameAt(u8, parent, position, length);
}

/** The dentry of a target's name, or 0. Under the table lock. */
export function findName({ names }: Context, { parent, position, length, hash }: Target): number {
  return names.find(parent, position, length, hash);
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
  const { inodes, names, state } = context;
  state.lock();
  let known = inodes.has(target.parent, INODE.complete) ? ABSENT : UNKNOWN;
  const dentry = findName(context, target);
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
  return { parent: 0, position: 0, length: 0, hash: 0, slot: 0, low: 0, high: 0, first: -1 };
}

/** EROFS when any branch that has the name may not be changed: the name would not be gone. */
export function checkWritable(context: Context, target: Target): number {
  if (context.config.readOnly) return -EROFS;
  for (let branch = target.first; branch >= 0; branch = nextBranch(target.low, target.high, branch + 1))
    if (context.branches[branch]!.mode === 'RO') return -EROFS;
  return 0;
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
  lockTree(context);
  if (context.journal.resuming) return;
  for (const target of [one, other])
    if (target.slot !== 0 && context.inodes.kind(target.slot) === DT_DIR) lookAgain(context, target);
}
