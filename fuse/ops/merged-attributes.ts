/** Attributes of an inode; of a directory those of all its copies together. */
import { F, INODE } from '../inode/inode-table.ts';
import { STATX } from '../protocol/abi.ts';
import { DT_DIR, DT_REG, ESTALE } from '../sys/constants.ts';
import { type Context, firstBranch, nextBranch } from './context.ts';
import { learnDirectory } from './listing.ts';

/** Size of the largest copy of a directory that is read for a question after its links: some thousand names. */
const QUICKLY_READ_BYTES = 256 * 1024;

/** Attributes of an inode into `context.stat`. Answers 0 or a negated errno. */
export function statInode(context: Context, slot: number): number {
  const { inodes } = context;
  if (inodes.kind(slot) !== DT_DIR || inodes.get(slot, F.pinned) !== 0) return statOnly(context, slot);
  // Only of a complete directory are the links known without a look at each copy.
  if (!context.exclusive || !inodes.has(slot, INODE.complete)) return statCopies(context, slot);
  // Who has the record for longer than a moment waits for a branch, which others need not.
  if (!context.state.lockInodeSoon(slot)) return statCopies(context, slot);
  const result = statRemembered(context, slot);
  context.state.unlockInode(slot);
  if (result === 0) context.u32[(context.stat + STATX.nlink) >>> 2] = 2 + inodes.get(slot, F.subdirectories);
  return result;
}

/** Of what has one copy. A file that lost its last name while nobody had it open is not found any more; who holds it by O_PATH asks. */
function statOnly(context: Context, slot: number): number {
  if (isRemembered(context, slot)) return 0;
  const result = context.statCopy(slot, context.branchOf(slot), context.stat);
  if (result !== -ESTALE || !context.inodes.has(slot, INODE.unlinked)) return result;
  context.state.lock();
  const isKept = context.kept.recallNameless(slot, context.stat);
  context.state.unlock();
  if (!isKept) return result;
  context.u32[(context.stat + STATX.nlink) >>> 2] = 0;
  return 0;
}

/**
 * Puts the attributes of a file that nobody has had open since they were looked at into `stat`, where they are kept. Those of a link
 * may have changed: reading it moves its access time.
 */
function isRemembered({ inodes, kept, stat, state }: Context, slot: number): boolean {
  if (inodes.kind(slot) !== DT_REG || inodes.get(slot, F.opens) !== 0) return false;
  state.lock();
  const dentry = inodes.get(slot, F.dentry);
  const isKept = dentry !== 0 && kept.recall(dentry, stat);
  state.unlock();
  return isKept;
}

/** By the record of the directory's attributes, brought up to date. Under the inode's lock. */
function statRemembered(context: Context, slot: number): number {
  const { attributes, inodes, stat } = context;
  const position = attributes.position(slot);
  if (position === 0 || !attributes.take(slot)) return statAnew(context, slot);
  const low = attributes.changedLow & inodes.get(slot, F.maskLow);
  const high = attributes.changedHigh & inodes.get(slot, F.maskHigh);
  attributes.copyOut(position, stat);
  if (low === 0 && high === 0) return 0;
  for (let branch = firstBranch(low, high); branch >= 0; branch = nextBranch(low, high, branch + 1)) {
    // A copy that cannot be asked is asked the next time; what is known of it does for now.
    if (!context.gate.answers(branch) || context.statCopy(slot, branch, context.stat2) < 0) {
      attributes.forgetAll(slot);
      continue;
    }
    // A time in the future was set, and perhaps on this copy only: it is past now.
    if (isLater(context.u32, (stat + STATX.mtime) >>> 2, (context.stat2 + STATX.mtime) >>> 2))
      return statAnew(context, slot);
    mergeTimes(context);
  }
  attributes.copyIn(position, stat);
  return 0;
}

/** By all of its copies, and remembers it where there is a record. */
function statAnew(context: Context, slot: number): number {
  const { attributes, stat } = context;
  const position = attributes.position(slot);
  const result = statCopies(context, slot);
  if (result < 0) attributes.forgetAll(slot);
  else if (position !== 0) attributes.copyIn(position, stat);
  return result;
}

function statCopies(context: Context, slot: number): number {
  const { u32, stat, stat2 } = context;
  const low = context.inodes.get(slot, F.maskLow);
  const high = context.inodes.get(slot, F.maskHigh);
  const shown = context.shown.branch(slot, 'getattr');
  let result = context.statCopy(slot, shown, stat);
  let parents = result === 0 && u32[(stat + STATX.nlink) >>> 2]! > 2 ? 1 : 0;
  for (let branch = firstBranch(low, high); branch >= 0; branch = nextBranch(low, high, branch + 1)) {
    // One that does not answer is not waited for.
    if (branch === shown || (result === 0 && !context.gate.answers(branch))) continue;
    // Copies are alike: one that answers tells what the directory is.
    const to = result === 0 ? stat2 : stat;
    if (context.statCopy(slot, branch, to) < 0) continue;
    if (u32[(to + STATX.nlink) >>> 2]! > 2) parents++;
    if (result === 0) mergeCopy(context);
    result = 0;
  }
  if (result === 0 && parents > 1) u32[(stat + STATX.nlink) >>> 2] = countLinks(context, slot);
  return result;
}

/**
 * Links of a directory whose copies have subdirectories on several branches, of the same names perhaps: only its names tell how
 * many there are. 1, which programs take for unknown, where reading them would take long or is not possible.
 */
function countLinks(context: Context, slot: number): number {
  const { inodes, u32, stat } = context;
  if (!context.exclusive || u32[(stat + STATX.size) >>> 2]! > QUICKLY_READ_BYTES) return 1;
  if (!inodes.has(slot, INODE.complete)) learnDirectory(context, slot);
  return inodes.has(slot, INODE.complete) ? 2 + inodes.get(slot, F.subdirectories) : 1;
}

/** Adds the directory copy in `stat2` to the merged attributes in `stat`: links and blocks summed, the latest times. */
function mergeCopy(context: Context): void {
  const { u32, stat, stat2 } = context;
  const a = stat >>> 2;
  const b = stat2 >>> 2;
  u32[a + STATX.nlink / 4]! += u32[b + STATX.nlink / 4]! - 2;
  u32[a + STATX.blocks / 4]! += u32[b + STATX.blocks / 4]!;
  if (isLater(u32, a + STATX.btime / 4, b + STATX.btime / 4))
    u32.copyWithin(a + STATX.btime / 4, b + STATX.btime / 4, b + STATX.btime / 4 + 3);
  mergeTimes(context);
}

/** What a change below the copy in `stat2` moves: times forward, and the size that the largest copy has. */
function mergeTimes({ u32, stat, stat2 }: Context): void {
  const a = stat >>> 2;
  const b = stat2 >>> 2;
  if (u32[b + STATX.size / 4]! > u32[a + STATX.size / 4]!) u32[a + STATX.size / 4] = u32[b + STATX.size / 4]!;
  takeLater(u32, a + STATX.atime / 4, b + STATX.atime / 4);
  takeLater(u32, a + STATX.ctime / 4, b + STATX.ctime / 4);
  takeLater(u32, a + STATX.mtime / 4, b + STATX.mtime / 4);
}

function takeLater(u32: Uint32Array, to: number, from: number): void {
  if (isLater(u32, from, to)) u32.copyWithin(to, from, from + 3);
}

/** Compares two statx timestamps: seconds as a signed 64-bit number, then nanoseconds. */
export function isLater(u32: Uint32Array, a: number, b: number): boolean {
  const seconds = u32[a]! + (u32[a + 1]! | 0) * 0x100000000 - (u32[b]! + (u32[b + 1]! | 0) * 0x100000000);
  return seconds > 0 || (seconds === 0 && u32[a + 2]! > u32[b + 2]!);
}
