/** MKNOD, MKDIR, SYMLINK, LINK: new names without a handle. */
import { F, INODE } from '../inode/inode-table.ts';
import { D, hashNameAt } from '../inode/name-index.ts';
import { isForEvery } from '../policy/create.ts';
import { ENTRY, STATX } from '../protocol/abi.ts';
import {
  AT_EMPTY_PATH,
  EACCES,
  EEXIST,
  EINVAL,
  ENAMETOOLONG,
  ENOMEM,
  EROFS,
  errnoName,
  isNoSpace,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { CreateFunction } from './choice.ts';
import type { Context } from './context.ts';
import { forget } from './forget.ts';
import { putEntry } from './lookup.ts';
import { statInode } from './merged-attributes.ts';
import { makeRoom } from './move.ts';
import { unpin } from './nameless.ts';
import { makeDirectoryOn } from './parents.ts';
import { NAME_MAX } from './scratch.ts';
import { enterNew, findChild } from './tree.ts';

/** fuse_mknod_in: mode, rdev, umask; name. */
export function mknod(context: Context): number {
  const mode = context.in32(0);
  const device = context.in32(4);
  const name = context.body + 16;
  const slot = make(context, 'mknod', name, context.in32(8), (directory) =>
    libc.mknodat(directory, context.base + name, mode, device),
  );
  return answerEntry(context, slot);
}

/** fuse_mkdir_in: mode, umask; name. */
export function mkdir(context: Context): number {
  const mode = context.in32(0) & 0o7777;
  const name = context.body + 8;
  const slot = make(context, 'mkdir', name, context.in32(4), (directory) =>
    libc.mkdirat(directory, context.base + name, mode),
  );
  if (slot > 0 && isForEvery(context.config.policies.mkdir)) makeOnOthers(context, slot);
  return answerEntry(context, slot);
}

/** Name, target. */
export function symlink(context: Context): number {
  const target = context.base + context.body + context.lengthAt(context.body) + 1;
  const name = context.base + context.body;
  const slot = make(context, 'symlink', context.body, 0, (directory) => libc.symlinkat(target, directory, name));
  return answerEntry(context, slot);
}

/** Makes a name where the policy says. Answers the slot of the new inode, its attributes in `stat`, or a negated errno. */
function make(
  context: Context,
  policy: CreateFunction,
  name: number,
  umask: number,
  call: (directory: number) => number,
): number {
  if (context.config.readOnly) return -EROFS;
  const { base, choice, slot: parent } = context;
  const length = context.lengthAt(name);
  if (length > NAME_MAX) return -ENAMETOOLONG;
  if (context.isReserved(parent, name, length)) return -EACCES;
  choice.begin(parent, policy);
  for (;;) {
    const branch = choice.next();
    if (branch < 0) return branch;
    context.journal.chose(branch);
    const directory = context.directories.descriptor(parent, branch);
    if (directory < 0) return directory;
    context.actAsCaller(umask);
    let result = call(directory);
    if (choice.wasMade(branch, result)) result = 0;
    if (result >= 0) {
      context.attributes.markChanged(parent, branch);
      const found = context.statName(directory, base + name, context.stat);
      choice.leaveOut(branch);
      return found < 0 ? found : enterNew(context, parent, name, length, branch);
    }
    if (!choice.failed(branch, result)) return result;
  }
}

/** The directory just made is made on the other branches of its policy too: as many as will take it. */
function makeOnOthers(context: Context, slot: number): void {
  const { choice } = context;
  for (let branch = choice.next(); branch >= 0; branch = choice.next()) {
    const made = makeDirectoryOn(context, slot, branch);
    if (made < 0)
      context.log.warn('directory_not_made', { branch: context.branches[branch]!.path, error: errnoName(-made) });
    choice.leaveOut(branch);
  }
  statInode(context, slot);
}

function answerEntry(context: Context, slot: number): number {
  if (slot < 0) return slot;
  putEntry(context, context.out, slot);
  return ENTRY.size;
}

/** fuse_link_in: oldnodeid; new name. The link is made on the file's branch, where the parent is made if need be. */
export function link(context: Context): number {
  if (context.config.readOnly) return -EROFS;
  const { inodes, slot: parent } = context;
  const slot = context.in32(0);
  const name = context.body + 8;
  const length = context.lengthAt(name);
  if (length > NAME_MAX) return -ENAMETOOLONG;
  if (!inodes.isUsed(slot)) return -EINVAL;
  if (context.isReserved(parent, name, length)) return -EACCES;
  context.state.lockFile(slot);
  let result = linkOn(context, slot, parent, name);
  if (isNoSpace(result) && makeRoom(context, slot, 0) === 0) result = linkOn(context, slot, parent, name);
  const branch = context.branchOf(slot);
  if (result === 0) result = enterLink(context, { slot, parent, name, length, branch });
  context.state.unlockFile(slot);
  return result;
}

/** The lower link, on the branch where the file is. Under the file's lock. */
function linkOn(context: Context, slot: number, parent: number, name: number): number {
  const branch = context.branchOf(slot);
  if (context.branches[branch]!.mode === 'RO') return -EROFS;
  const made = makeDirectoryOn(context, parent, branch);
  if (made < 0) return made;
  const target = context.directories.descriptor(parent, branch);
  if (target < 0) return target;
  const located = context.locate(slot, branch);
  if (located < 0) return located;
  context.branchTable.noteRename(branch);
  const flags = context.atFlags === AT_EMPTY_PATH ? AT_EMPTY_PATH : 0;
  const result = libc.linkat(context.atDescriptor, context.atName, target, context.base + name, flags);
  const wasMade = result === -EEXIST && context.journal.resuming && isFile(context, slot, target, context.base + name);
  if (result < 0 && !wasMade) return result;
  context.attributes.markChanged(parent, branch);
  return 0;
}

/** Whether a name is an inode's lower file. */
function isFile(context: Context, slot: number, directory: number, name: number): boolean {
  const { inodes, stat2, u32 } = context;
  if (context.statName(directory, name, stat2) < 0) return false;
  const word = (stat2 + STATX.ino) >>> 2;
  return u32[word] === inodes.get(slot, F.lowerLow) && u32[word + 1] === inodes.get(slot, F.lowerHigh);
}

function enterLink(
  context: Context,
  link: { slot: number; parent: number; name: number; length: number; branch: number },
): number {
  const { inodes, names, state } = context;
  const { slot, parent, name, length, branch } = link;
  const hash = hashNameAt(context.u8, parent, name, length);
  state.lock();
  let dentry = names.find(parent, name, length, hash);
  if (dentry !== 0 && names.get(dentry, D.inode) !== 0) names.detach(dentry);
  if (dentry === 0) dentry = names.insert(parent, name, length, hash, inodes.kind(slot));
  if (dentry !== 0) {
    names.set(dentry, D.maskLow, 0);
    names.set(dentry, D.maskHigh, 0);
    names.addBranch(dentry, branch);
    context.kept.forget(inodes.get(slot, F.dentry));
    names.attach(dentry, slot);
    inodes.clearFlag(slot, INODE.unlinked);
    inodes.linkIntoTable(slot);
    context.hold(slot);
  }
  state.unlock();
  if (dentry === 0) return findAgain(context, parent, name, length);
  const result = statInode(context, slot);
  if (result < 0) {
    forget(context, slot, 1);
    return result;
  }
  if (inodes.get(slot, F.pinned) !== 0) unpin(context, slot);
  return answerEntry(context, slot);
}

/** The index is full: the link exists, and a lookup finds it on its branch. */
function findAgain(context: Context, parent: number, name: number, length: number): number {
  const slot = findChild(context, parent, name, length);
  return slot === 0 ? -ENOMEM : answerEntry(context, slot);
}
