/**
 * Learning a branch anew, while readers go on: one that was added with files on it, or one that is back and may have lost some.
 * What the union concluded without it, or from what it was, no longer counts:
 *
 *   1. every known directory is on the branch if it is there under its path, and not otherwise
 *   2. no directory counts as completely known, and the attributes that were kept are forgotten
 *   3. backing ids of closed files of the branch are dropped: it may be another mount of the filesystem now
 *   4. the kernel forgets names and attributes that it was told
 *
 * For a thread that may wait and serves no requests: the kernel answers a notice about a directory when it is not being changed.
 * Under each hold of the table lock only so much is changed as can be undone.
 */
import { F, INODE, ROOT } from '../inode/inode-table.ts';
import { WORD } from '../inode/layout.ts';
import { D, PARTIAL } from '../inode/name-index.ts';
import { NOTIFY_INVAL_ENTRY } from '../protocol/abi.ts';
import { DT_DIR, DT_REG, O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { dropBacking } from './backing.ts';
import { type Context, hasBranch, isAbsent } from './context.ts';
import { LOST, pinAgain } from './nameless.ts';
import { invalidateInode } from './notify.ts';
import { writeText } from './scratch.ts';

/** Records looked at under one hold of the table lock. */
const STEP = 2048;
const RAW_BYTES = 64 * 1024;

/** Answers 0, or the error of a branch that failed meanwhile: it is to be learned again when it is back. */
export function relearnBranch(context: Context, branch: number): number {
  const { state } = context;
  state.dropDescriptors();
  context.gate.begin(false);
  context.directories.begin(false);
  const placed = placeDirectories(context, branch);
  if (placed < 0) return placed;
  forgetNames(context, branch);
  forgetConclusions(context);
  forgetBackings(context, branch);
  pinLost(context);
  return tellKernel(context, branch);
}

/** Slots of known directories; the tree may change while they are walked. */
function* directories({ inodes, u32 }: Context): Generator<number> {
  for (let slot = ROOT; slot < u32[WORD.inodeBump]!; slot++)
    if (inodes.isUsed(slot) && inodes.kind(slot) === DT_DIR && inodes.get(slot, F.pinned) === 0) yield slot;
}

/** Step 1. */
function placeDirectories(context: Context, branch: number): number {
  const { inodes, names, state } = context;
  for (const slot of directories(context)) {
    const descriptor = context.directories.descriptor(slot, branch);
    if (descriptor < 0 && !isAbsent(descriptor) && slot === ROOT) return descriptor;
    state.lock();
    // Freed meanwhile, or without a name: then it is on no path.
    const dentry = inodes.isUsed(slot) && inodes.kind(slot) === DT_DIR ? inodes.get(slot, F.dentry) : 0;
    if (descriptor >= 0 && (slot === ROOT || dentry !== 0)) {
      inodes.addBranch(slot, branch);
      if (dentry !== 0) names.addBranch(dentry, branch);
    } else if (dentry !== 0 && isAbsent(descriptor)) {
      const low = inodes.get(slot, F.maskLow) & ~(branch < 32 ? 1 << branch : 0);
      const high = inodes.get(slot, F.maskHigh) & ~(branch < 32 ? 0 : 1 << (branch - 32));
      // One that is nowhere else was lost; asking for it tells.
      if (low !== 0 || high !== 0) {
        inodes.set(slot, F.maskLow, low);
        inodes.set(slot, F.maskHigh, high);
        names.setBranches(dentry, low, high);
      }
    }
    state.unlock();
  }
  return 0;
}

/** Step 2, for names. Records that are free may be changed as well: they are written anew when they are used. */
function forgetNames(context: Context, branch: number): void {
  const { names, state, u32 } = context;
  for (let from = 1; from < u32[WORD.dentryBump]!; from += STEP) {
    state.lock();
    const end = Math.min(from + STEP, u32[WORD.dentryBump]!);
    for (let dentry = from; dentry < end; dentry++) {
      // Where a directory is, is asked again when it is looked up.
      if (names.kind(dentry) === DT_DIR && names.get(dentry, D.inode) === 0)
        names.set(dentry, D.info, names.get(dentry, D.info) | PARTIAL);
      else if (hasBranch(names.get(dentry, D.maskLow), names.get(dentry, D.maskHigh), branch))
        context.kept.forget(dentry);
    }
    state.unlock();
  }
}

/** Step 2, for directories. Whoever is listing one began without the branch, perhaps, and must not call it complete afterwards. */
function forgetConclusions(context: Context): void {
  const { inodes, state } = context;
  for (const slot of directories(context)) {
    for (;;) {
      state.lock();
      const isListed = inodes.isUsed(slot) && inodes.kind(slot) === DT_DIR && inodes.get(slot, F.listers) !== 0;
      if (!isListed && inodes.isUsed(slot) && inodes.kind(slot) === DT_DIR)
        inodes.clearFlag(slot, INODE.complete | INODE.missed | INODE.uncertain);
      state.unlock();
      if (!isListed) break;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1); // a listing takes its time
    }
    context.attributes.forgetAll(slot);
  }
}

/** Step 3. A file that is open keeps its id, as the kernel allows one at a time. */
export function forgetBackings(context: Context, branch: number): void {
  const { inodes, state, u32 } = context;
  for (let slot = ROOT; slot < u32[WORD.inodeBump]!; slot++) {
    if (!inodes.isUsed(slot) || inodes.kind(slot) !== DT_REG || inodes.get(slot, F.branch) !== branch) continue;
    state.lockInodeAnyhow(slot);
    if (inodes.get(slot, F.backing) !== 0) dropBacking(context, slot);
    state.unlockInode(slot);
  }
}

/** Files without a name, of which the descriptors went with the mount that the branch was. */
function pinLost(context: Context): void {
  const { inodes, u32 } = context;
  for (let slot = ROOT; slot < u32[WORD.inodeBump]!; slot++)
    if (inodes.isUsed(slot) && inodes.get(slot, F.pinned) === LOST) pinAgain(context, slot);
}

/** Step 4. */
function tellKernel(context: Context, branch: number): number {
  const { inodes, u32 } = context;
  for (let slot = ROOT; slot < u32[WORD.inodeBump]!; slot++) {
    if (!inodes.isUsed(slot) || inodes.get(slot, F.lookups) === 0) continue;
    const isDirectory = inodes.kind(slot) === DT_DIR;
    if (isDirectory ? !inodes.onBranch(slot, branch) : inodes.get(slot, F.branch) !== branch) continue;
    invalidateInode(context, slot);
    const result = isDirectory ? invalidateNames(context, slot, branch) : 0;
    if (result < 0 && !isAbsent(result)) return result;
  }
  return 0;
}

/** Of the names that the branch has in a directory, the kernel may know that they are not there, or are something else. */
function invalidateNames(context: Context, slot: number, branch: number): number {
  const { base, raw, u8 } = context;
  const directory = context.directories.descriptor(slot, branch);
  if (directory < 0) return directory;
  const dot = base + writeText(context, context.path, '.');
  const descriptor = libc.openat(directory, dot, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
  if (descriptor < 0) return descriptor;
  let bytes = 0;
  do {
    bytes = libc.getdents64(descriptor, base + raw, RAW_BYTES);
    for (let at = raw; at < raw + bytes; at += u8[at + 16]! | (u8[at + 17]! << 8))
      invalidateEntry(context, slot, at + 19);
  } while (bytes > 0);
  libc.close(descriptor);
  return bytes;
}

/** fuse_notify_inval_entry_out: parent, length of the name, flags; then the name. */
function invalidateEntry(context: Context, parent: number, name: number): void {
  const { u8, u32, path, base } = context;
  const length = context.lengthAt(name);
  const word = path >>> 2;
  u32.fill(0, word, word + 8);
  u32[word] = 32 + length + 1;
  u32[word + 1] = NOTIFY_INVAL_ENTRY;
  u32[word + 4] = parent;
  u32[word + 6] = length;
  u8.copyWithin(path + 32, name, name + length);
  u8[path + 32 + length] = 0;
  libc.write(context.device, base + path, 32 + length + 1);
}
