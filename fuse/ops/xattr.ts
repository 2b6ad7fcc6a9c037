/**
 * SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR. The lower calls take paths: `/proc/self/fd/DIRECTORY/NAME` in the forms that do not
 * follow links reaches a name by descriptor, as the other operations do.
 * `user.union.branch` tells on which branch a file is; it is ours and cannot be set.
 */
import { F, INODE } from '../inode/inode-table.ts';
import { INIT, SETXATTR_ACL_KILL_SGID, SETXATTR_IN, STATX } from '../protocol/abi.ts';
import { AT_EMPTY_PATH, DT_DIR, EPERM, ERANGE, EROFS, S_ISGID } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { changeMode } from './attributes.ts';
import { type Context, firstBranch, nextBranch } from './context.ts';
import { writeText } from './scratch.ts';

const BRANCH_ATTRIBUTE = 'user.union.branch';

/** Address of a path to an inode's copy, or a negated errno; `follows` tells which family of calls it is for. */
function pathOf(context: Context, slot: number, branch: number): number {
  const located = context.locate(slot, branch);
  if (located < 0) return located;
  const { u8, path, base } = context;
  const prefix = `/proc/self/fd/${context.atDescriptor}`;
  writeText(context, path, prefix);
  if (context.atFlags === AT_EMPTY_PATH) return base + path;
  u8[path + prefix.length] = 0x2f;
  const length = context.lengthAt(context.name);
  u8.copyWithin(path + prefix.length + 1, context.name, context.name + length + 1);
  return base + path;
}

function isBranchAttribute(context: Context, position: number): boolean {
  const { u8 } = context;
  if (context.lengthAt(position) !== BRANCH_ATTRIBUTE.length) return false;
  for (let i = 0; i < BRANCH_ATTRIBUTE.length; i++)
    if (u8[position + i] !== BRANCH_ATTRIBUTE.charCodeAt(i)) return false;
  return true;
}

export function setxattr(context: Context): number {
  const { slot, inodes } = context;
  const extended = context.negotiated(INIT.SETXATTR_EXT);
  const size = context.in32(SETXATTR_IN.size);
  const flags = context.in32(SETXATTR_IN.flags);
  const name = context.body + (extended ? SETXATTR_IN.name : 8);
  if (isBranchAttribute(context, name)) return -EPERM;
  const value = context.base + name + context.lengthAt(name) + 1;
  const result = onEveryCopy(context, slot, (path, isLink) =>
    isLink
      ? libc.lsetxattr(path, context.base + name, value, size, flags)
      : libc.setxattr(path, context.base + name, value, size, flags),
  );
  if (result < 0) return result;
  // A capability may have come: writers must be watched from the next open on.
  if (inodes.kind(slot) !== DT_DIR) inodes.clearFlag(slot, INODE.capabilitiesKnown);
  return extended && (context.in32(SETXATTR_IN.extFlags) & SETXATTR_ACL_KILL_SGID) !== 0
    ? clearSetgid(context, slot)
    : 0;
}

/** The caller is not of the file's group: an ACL it sets must not leave the set-group-id bit. */
function clearSetgid(context: Context, slot: number): number {
  const branch = context.branchOf(slot);
  const result = context.statCopy(slot, branch, context.stat2);
  if (result < 0) return result;
  return changeMode(context, slot, branch, context.u32[(context.stat2 + STATX.mode) >>> 2]! & 0o7777 & ~S_ISGID);
}

export function removexattr(context: Context): number {
  const name = context.body;
  if (isBranchAttribute(context, name)) return -EPERM;
  return onEveryCopy(context, context.slot, (path, isLink) =>
    isLink ? libc.lremovexattr(path, context.base + name) : libc.removexattr(path, context.base + name),
  );
}

/** Files have one copy, directories one on each of their branches. */
function onEveryCopy(context: Context, slot: number, change: (path: number, isLink: boolean) => number): number {
  const { inodes } = context;
  if (context.config.readOnly) return -EROFS;
  const isMerged = inodes.kind(slot) === DT_DIR && inodes.get(slot, F.pinned) === 0;
  const first = context.branchOf(slot);
  const low = isMerged ? inodes.get(slot, F.maskLow) : 0;
  const high = isMerged ? inodes.get(slot, F.maskHigh) : 0;
  for (
    let branch = isMerged ? firstBranch(low, high) : first;
    branch >= 0;
    branch = nextBranch(low, high, branch + 1)
  ) {
    if (context.branches[branch]!.mode === 'RO') {
      if (branch === first) return -EROFS;
      continue;
    }
    const path = pathOf(context, slot, branch);
    if (path < 0) return path;
    const result = change(path, context.atFlags !== AT_EMPTY_PATH);
    if (result < 0) return result;
  }
  return 0;
}

export function getxattr(context: Context): number {
  const { slot, base, out } = context;
  const size = context.in32(0);
  const name = context.body + 8;
  const branch = context.branchOf(slot);
  if (isBranchAttribute(context, name)) return answerText(context, context.branches[branch]!.path, size);
  const path = pathOf(context, slot, branch);
  if (path < 0) return path;
  const length =
    context.atFlags === AT_EMPTY_PATH
      ? libc.getxattr(path, base + name, size === 0 ? 0 : base + out, size)
      : libc.lgetxattr(path, base + name, size === 0 ? 0 : base + out, size);
  return answerLength(context, length, size);
}

export function listxattr(context: Context): number {
  const { slot, base, out } = context;
  const size = context.in32(0);
  const path = pathOf(context, slot, context.branchOf(slot));
  if (path < 0) return path;
  const target = size === 0 ? 0 : base + out;
  const length =
    context.atFlags === AT_EMPTY_PATH ? libc.listxattr(path, target, size) : libc.llistxattr(path, target, size);
  return answerLength(context, length, size);
}

/** A question for the size is answered by fuse_getxattr_out, any other by the bytes. */
function answerLength(context: Context, length: number, size: number): number {
  if (length < 0 || size !== 0) return length;
  context.out32(0, length);
  context.out32(4, 0);
  return 8;
}

function answerText(context: Context, text: string, size: number): number {
  const bytes = Buffer.from(text);
  if (size === 0) return answerLength(context, bytes.length, 0);
  if (bytes.length > size) return -ERANGE;
  context.u8.set(bytes, context.out);
  return bytes.length;
}
