/**
 * The tree as the union knows it: finding a child by name, learning what the branches have, and forgetting.
 * A slot that `findChild` answers carries one more kernel lookup; whoever does not pass it on to the kernel gives it back with
 * `forget`.
 */
import { F, INODE } from '../inode/inode-table.ts';
import { WORD } from '../inode/layout.ts';
import { D, hashNameAt, PARTIAL } from '../inode/name-index.ts';
import { STATX } from '../protocol/abi.ts';
import { DT_DIR, EIO, ENOENT, ENOMEM, S_ISGID, S_ISUID } from '../sys/constants.ts';
import { type Context, firstBranch, isAbsent, nextBranch } from './context.ts';
import { firstOpen } from './copies.ts';
import { isMarked } from './copy-mark.ts';
import { evictNames } from './eviction.ts';
import { forget, freeForgotten } from './forget.ts';
import { kindAt, numberInode } from './inode-number.ts';
import { learnDirectory } from './listing.ts';
import { isLater, statInode } from './merged-attributes.ts';
import { revalidate } from './revalidate.ts';
import { countSwitches, isStillOn } from './steady.ts';

/**
 * The child of `parent` with the name of `length` bytes at `position`: its slot, 0 if there is none, or a negated errno.
 * Its attributes, of a directory the merged ones, are in `context.stat`.
 */
export function findChild(context: Context, parent: number, position: number, length: number): number {
  if (context.isReserved(parent, position, length)) return 0;
  for (;;) {
    const result = findOnce(context, parent, position, length);
    if (result !== MOVED) return result;
  }
}

/** What was found is of no use, as a file, perhaps this one, has moved to another branch meanwhile. */
const MOVED = -0x200000;

function findOnce(context: Context, parent: number, position: number, length: number): number {
  const { inodes, names, state } = context;
  const hash = hashNameAt(context.u8, parent, position, length);
  state.lock();
  const dentry = names.find(parent, position, length, hash);
  const slot = dentry === 0 ? 0 : names.get(dentry, D.inode);
  const complete = inodes.has(parent, INODE.complete);
  if (slot !== 0) context.hold(slot);
  const isDirectory = dentry !== 0 && names.kind(dentry) === DT_DIR;
  const isKept = dentry !== 0 && context.kept.recall(dentry, context.stat);
  context.lookedUp.names++;
  if (isKept || (dentry === 0 && complete)) context.lookedUp.remembered++;
  const low = names.get(dentry, D.maskLow);
  const high = names.get(dentry, D.maskHigh);
  const partial = dentry !== 0 && names.isPartial(dentry);
  const switches = countSwitches(context);
  state.unlock();
  if (slot !== 0) {
    if (isKept) return slot;
    const epoch = context.kept.epoch();
    const result = (context.exclusive ? statKnown : revalidate)(context, slot, parent, position);
    if (result === 0) {
      keepAttributes(context, slot, epoch);
      return slot;
    }
    forget(context, slot, 1);
    if (result !== -ENOENT || context.exclusive) return result === -ENOENT ? 0 : result;
    dropDentry(context, parent, position, length, hash);
  } else if (dentry !== 0) {
    const result = openKnown(
      context,
      { parent, position, length, hash, low, high, partial, switches },
      isKept,
      isDirectory,
    );
    if (result !== 0) return result;
  } else if (complete) return 0;
  return probe(context, { parent, position, length, hash, switches });
}

/** Attributes of an inode into `context.stat`, by the name just looked up where that saves the way through the tables. */
function statKnown(context: Context, slot: number, parent: number, position: number): number {
  if (context.inodes.kind(slot) === DT_DIR) return statInode(context, slot);
  const branch = context.inodes.get(slot, F.branch);
  const directory = context.directories.descriptor(parent, branch);
  if (directory < 0) return directory;
  const result = context.statName(directory, context.base + position, context.stat);
  const isElsewhere = result === 0 ? !isStillOn(context, slot, branch) : result === -ENOENT;
  return isElsewhere ? statInode(context, slot) : result;
}

/**
 * The inode for a dentry that has none; its attributes are in `stat` already if they were kept. Answers its slot, 0 if the name
 * has gone, or a negated errno.
 */
function openKnown(context: Context, found: Found, isKept: boolean, isDirectory: boolean): number {
  const { parent, position, low, high } = found;
  if (isKept) return adopt(context, found);
  if ((isDirectory && found.partial) || firstBranch(low, high) < 0) return dropIdle(context, found);
  // Of a directory any copy will do.
  const branch = isDirectory ? firstOpen(context, low, high) : firstBranch(low, high);
  const directory = context.directories.descriptor(parent, branch);
  if (directory < 0) return directory;
  const epoch = context.kept.epoch();
  const result = context.statName(directory, context.base + position, context.stat);
  if (result === -ENOENT) return dropIdle(context, found);
  if (result < 0) return result;
  const slot = adopt(context, found);
  if (slot > 0) keepAttributes(context, slot, epoch);
  return slot;
}

/** Forgets what was known of a name, unless another thread has just found it again, or its file has moved. Answers 0 or MOVED. */
function dropIdle(context: Context, { parent, position, length, hash, switches }: Found): number {
  const { names, state } = context;
  state.lock();
  const isSteady = switches === countSwitches(context);
  const dentry = isSteady ? names.find(parent, position, length, hash) : 0;
  if (dentry !== 0 && names.get(dentry, D.inode) === 0) names.remove(dentry);
  state.unlock();
  return isSteady ? 0 : MOVED;
}

/** Keeps the attributes in `stat`, read at `epoch`, of a file that nobody has open. `isTold`: they go to the kernel too. */
export function keepAttributes(context: Context, slot: number, epoch: number, isTold = true): void {
  const { inodes, state } = context;
  if (!context.exclusive || inodes.kind(slot) === DT_DIR || context.statLinks !== 1) return;
  state.lock();
  const dentry = inodes.get(slot, F.dentry);
  if (dentry !== 0 && inodes.get(slot, F.opens) === 0) context.kept.remember(dentry, context.stat, epoch, isTold);
  state.unlock();
}

/** A file's attributes have changed. */
export function forgetAttributes(context: Context, slot: number): void {
  context.state.lock();
  context.kept.forget(context.inodes.kind(slot) === DT_DIR ? 0 : context.inodes.get(slot, F.dentry));
  context.state.unlock();
}

/** Asks the branches, in order, that have the parent. */
function probe(context: Context, sought: Sought): number {
  const { inodes, base } = context;
  const { parent, position, switches } = sought;
  context.lookedUp.unknown++;
  const parentLow = inodes.get(parent, F.maskLow);
  const parentHigh = inodes.get(parent, F.maskHigh);
  let low = 0;
  let high = 0;
  let failure = 0;
  let isDirectory = false;
  const epoch = context.kept.epoch();
  for (
    let branch = firstBranch(parentLow, parentHigh);
    branch >= 0;
    branch = nextBranch(parentLow, parentHigh, branch + 1)
  ) {
    const directory = context.directories.descriptor(parent, branch);
    const found = low !== 0 || high !== 0;
    const result =
      directory < 0 ? directory : context.statName(directory, base + position, found ? context.stat2 : context.stat);
    if (isAbsent(result)) continue;
    if (result < 0) {
      failure ||= result;
      continue;
    }
    if (!found) isDirectory = kindAt(context, context.stat) === DT_DIR;
    if (branch < 32) low |= 1 << branch;
    else high |= 1 << (branch - 32);
    if (!isDirectory) break;
  }
  // A branch that fails may have the name: only if another has it too is the answer certain enough.
  if (inodes.has(parent, INODE.uncertain)) failure ||= -EIO;
  if (low === 0 && high === 0 && countSwitches(context) !== switches) return MOVED;
  if (low === 0 && high === 0) return failure !== 0 ? failure : missed(context, parent);
  const slot = adopt(context, { ...sought, low, high, partial: !isDirectory });
  if (slot > 0 && isDirectory && failure !== 0) inodes.setFlag(slot, INODE.uncertain);
  if (slot > 0) keepAttributes(context, slot, epoch);
  return slot;
}

/** After the second name that a directory does not have, its listing is cheaper than asking again. */
function missed(context: Context, parent: number): number {
  if (!context.exclusive) return 0;
  if (context.inodes.has(parent, INODE.missed)) learnDirectory(context, parent);
  else {
    context.state.lock();
    context.inodes.setFlag(parent, INODE.missed);
    context.state.unlock();
  }
  return 0;
}

interface Sought {
  readonly parent: number;
  readonly position: number;
  readonly length: number;
  readonly hash: number;
  /** `countSwitches` when nobody knew its inode; undefined for what was just made, which nobody can have moved. */
  readonly switches: number | undefined;
}

interface Found extends Sought {
  /** Branches that have the name. */
  readonly low: number;
  readonly high: number;
  /** Later branches were not asked. */
  readonly partial: boolean;
}

/**
 * Enters the file whose attributes are in `stat` under its name: a dentry, and an inode with one lookup, unless another
 * thread was faster. Answers the slot, -ENOMEM or MOVED. Directory attributes are merged into `stat` when there are several copies.
 */
function adopt(context: Context, found: Found): number {
  const { inodes, names, state } = context;
  const kind = kindAt(context, context.stat);
  const first = firstBranch(found.low, found.high);
  const isMerged = kind === DT_DIR && nextBranch(found.low, found.high, first + 1) >= 0;
  context.maskLow = found.low;
  context.maskHigh = found.high;
  if (isMerged) keepDirectories(context, found);
  const numbered = isMerged ? oldestCopy(context, found) : first;
  state.lock();
  if (found.switches !== undefined && found.switches !== countSwitches(context)) {
    state.unlock();
    return MOVED;
  }
  let dentry = names.find(found.parent, found.position, found.length, found.hash);
  if (dentry === 0) dentry = names.insert(found.parent, found.position, found.length, found.hash, kind);
  if (dentry === 0) {
    state.unlock();
    return -ENOMEM;
  }
  let slot = names.get(dentry, D.inode);
  if (slot === 0) {
    names.set(dentry, D.maskLow, found.low);
    names.set(dentry, D.maskHigh, found.high);
    const info = names.get(dentry, D.info);
    names.set(dentry, D.info, found.partial ? info | PARTIAL : info & ~PARTIAL);
    slot = obtainInode(context, kind, first);
    if (slot !== 0) {
      if (inodes.get(slot, F.lookups) === 0 && inodes.get(slot, F.inoLow) === 0) {
        inodes.fill(slot, F.maskLow, context.maskLow);
        inodes.fill(slot, F.maskHigh, context.maskHigh);
        numberInode(context, slot, numbered, isMerged ? context.stat2 : context.stat);
      }
      names.attach(dentry, slot);
    }
  }
  if (slot !== 0) context.hold(slot);
  state.unlock();
  if (slot === 0) return -ENOMEM;
  evictNames(context);
  if (isMerged) statInode(context, slot);
  return slot;
}

/**
 * Enters a file or directory that was just made on `branch`, with its attributes in `stat`. Answers its slot with one lookup,
 * or -ENOMEM. A new directory is known to be empty, so it is complete from the start.
 */
export function enterNew(context: Context, parent: number, position: number, length: number, branch: number): number {
  const hash = hashNameAt(context.u8, parent, position, length);
  // What the index still knows under this name was removed behind our back.
  dropDentry(context, parent, position, length, hash);
  const low = branch < 32 ? (1 << branch) >>> 0 : 0;
  const high = branch < 32 ? 0 : (1 << (branch - 32)) >>> 0;
  const slot = adopt(context, { parent, position, length, hash, low, high, partial: false, switches: undefined });
  if (slot > 0 && context.exclusive && context.inodes.kind(slot) === DT_DIR) {
    context.state.lock();
    context.inodes.setFlag(slot, INODE.complete);
    context.state.unlock();
  }
  return slot;
}

/** The record of a file with several links, if another of its names is known, or a new one. Under the table lock. */
function obtainInode(context: Context, kind: number, branch: number): number {
  const { inodes, u32, stat } = context;
  const low = u32[(stat + STATX.ino) >>> 2]!;
  const high = u32[((stat + STATX.ino) >>> 2) + 1]!;
  const isLinked = kind !== DT_DIR && context.statLinks > 1;
  // Also with one link left: whoever opened the file by a name that has gone shares the inode.
  if (isLinked || (kind !== DT_DIR && context.exclusive && u32[WORD.linkCount] !== 0)) {
    const known = inodes.findLinked(branch, low, high);
    if (known !== 0) return known;
  }
  const slot = inodes.allocate(kind);
  if (slot === 0) return 0;
  if (kind !== DT_DIR) {
    inodes.fill(slot, F.branch, branch);
    inodes.fill(slot, F.lowerLow, low);
    inodes.fill(slot, F.lowerHigh, high);
    if ((context.statMode & (S_ISUID | S_ISGID)) !== 0) inodes.setFlag(slot, INODE.privileged);
    if (isLinked) inodes.linkIntoTable(slot);
  }
  return slot;
}

/** Keeps in maskLow and maskHigh those of the found branches that have a directory of this name. */
function keepDirectories(context: Context, found: Found): void {
  context.maskLow = context.maskHigh = 0;
  for (
    let branch = firstBranch(found.low, found.high);
    branch >= 0;
    branch = nextBranch(found.low, found.high, branch + 1)
  ) {
    const directory = context.gate.answers(branch) ? context.directories.descriptor(found.parent, branch) : -EIO;
    const result =
      directory < 0 ? directory : context.statName(directory, context.base + found.position, context.stat2);
    // One that cannot be asked still has what it was known to have.
    if (isAbsent(result) || (result === 0 && kindAt(context, context.stat2) !== DT_DIR)) continue;
    if (branch < 32) context.maskLow |= 1 << branch;
    else context.maskHigh |= 1 << (branch - 32);
  }
}

/**
 * The branch in maskLow and maskHigh whose copy of a directory is the oldest by birth time, its attributes in `stat2`. Copies are made later than
 * their original and keep their birth time for ever, so a directory's number is found again after any remount.
 */
export function oldestCopy(context: Context, found: Pick<Found, 'parent' | 'position'>): number {
  const { stat2, path, maskLow: low, maskHigh: high } = context;
  let oldest = -1;
  for (let branch = firstBranch(low, high); branch >= 0; branch = nextBranch(low, high, branch + 1)) {
    const directory = context.gate.answers(branch) ? context.directories.descriptor(found.parent, branch) : -EIO;
    if (directory < 0 || context.statName(directory, context.base + found.position, path) < 0) continue;
    if (oldest >= 0 && !isOlder(context, found, branch, oldest)) continue;
    oldest = branch;
    context.u8.copyWithin(stat2, path, path + STATX.bytes);
  }
  return oldest < 0 ? firstBranch(low, high) : oldest;
}

/** Whether the copy on `branch`, its attributes at `path`, was there before that on `other`, whose attributes are in `stat2`. */
function isOlder(
  context: Context,
  { parent, position }: Pick<Found, 'parent' | 'position'>,
  branch: number,
  other: number,
): boolean {
  const { base, u32, stat2, path } = context;
  if (isLater(u32, (stat2 + STATX.btime) >>> 2, (path + STATX.btime) >>> 2)) return true;
  if (isLater(u32, (path + STATX.btime) >>> 2, (stat2 + STATX.btime) >>> 2)) return false;
  const directory = context.directories.descriptor(parent, branch);
  const otherDirectory = context.directories.descriptor(parent, other);
  if (directory < 0 || otherDirectory < 0) return false;
  return isMarked(context, otherDirectory, base + position) && !isMarked(context, directory, base + position);
}

function dropDentry(context: Context, parent: number, position: number, length: number, hash: number): void {
  const { names, state } = context;
  state.lock();
  const dentry = names.find(parent, position, length, hash);
  const slot = dentry === 0 ? 0 : names.get(dentry, D.inode);
  if (slot !== 0) names.detach(dentry);
  if (dentry !== 0) names.remove(dentry);
  if (slot === 0) state.unlock();
  else freeForgotten(context, slot);
}
