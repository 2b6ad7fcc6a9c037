/**
 * SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR. The lower calls take paths: `/proc/self/fd/DIRECTORY/NAME` in the forms that do not
 * follow links reaches a name by descriptor, as the other operations do.
 * `user.union.branch` tells on which branch a file is, or the first of a directory's; `user.union.branches` tells all of them, with
 * NULs between. They are ours and cannot be set. As `trusted.union.…` root can ask them of links and special files too, for
 * which the kernel knows no user attributes. What root can set is `trusted.union.branch` of a file: that moves it to the branch.
 */
import { F, INODE } from '../inode/inode-table.ts';
import { INIT, SETXATTR_ACL_KILL_SGID, SETXATTR_IN, STATX } from '../protocol/abi.ts';
import {
  AT_EMPTY_PATH,
  DT_DIR,
  EEXIST,
  EINVAL,
  ENODATA,
  EPERM,
  ERANGE,
  EROFS,
  S_ISGID,
  XATTR_CREATE,
  XATTR_REPLACE,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { type Context, firstBranch, nextBranch } from './context.ts';
import { enterCopies } from './copies.ts';
import { OWN_PREFIX } from './copy-mark.ts';
import { moveTo } from './move.ts';
import { startsWith, writeText } from './scratch.ts';
import { changeMode } from './set-attributes.ts';
import { forgetAttributes } from './tree.ts';

/** As long as the kernel lets a list or value be. */
const VALUE_BYTES = 64 * 1024;
const BRANCH_ATTRIBUTES = ['user.union.branch', 'trusted.union.branch'];
/** Only who has CAP_SYS_ADMIN may set trusted attributes, the kernel sees to that. */
const MOVING_ATTRIBUTE = ['trusted.union.branch'];
const ALL_BRANCHES_ATTRIBUTES = ['user.union.branches', 'trusted.union.branches'];

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

function isOneOf(context: Context, position: number, names: readonly string[]): boolean {
  const length = context.lengthAt(position);
  for (const name of names) if (context.isText(position, length, name)) return true;
  return false;
}

function isOwn(context: Context, position: number): boolean {
  if (startsWith(context, position, OWN_PREFIX)) return true;
  return isOneOf(context, position, BRANCH_ATTRIBUTES) || isOneOf(context, position, ALL_BRANCHES_ATTRIBUTES);
}

/** The kernel asks for capabilities before the first write to every file: of most files we know that there are none. */
function isKnownAbsent(context: Context, slot: number, position: number): boolean {
  const { inodes } = context;
  if (!inodes.has(slot, INODE.capabilitiesKnown) || inodes.has(slot, INODE.privileged)) return false;
  return context.isText(position, context.lengthAt(position), 'security.capability');
}

export function setxattr(context: Context): number {
  const { slot, inodes } = context;
  const extended = context.negotiated(INIT.SETXATTR_EXT);
  const size = context.in32(SETXATTR_IN.size);
  const name = context.body + (extended ? SETXATTR_IN.name : 8);
  if (isOneOf(context, name, MOVING_ATTRIBUTE)) return moveToNamed(context, name, size);
  if (isOwn(context, name)) return -EPERM;
  const value = context.base + name + context.lengthAt(name) + 1;
  // Whether the attribute must or must not exist is settled before: a successor finds it made by this very request.
  const allowed = mayChange(context, slot, context.base + name, context.in32(SETXATTR_IN.flags));
  if (allowed < 0) return allowed;
  const result = onEveryCopy(context, slot, (path, isLink) =>
    isLink
      ? libc.lsetxattr(path, context.base + name, value, size, 0)
      : libc.setxattr(path, context.base + name, value, size, 0),
  );
  if (result < 0) return result;
  // A capability may have come: writers must be watched from the next open on.
  if (inodes.kind(slot) !== DT_DIR) inodes.clearFlag(slot, INODE.capabilitiesKnown);
  return extended && (context.in32(SETXATTR_IN.extFlags) & SETXATTR_ACL_KILL_SGID) !== 0
    ? clearSetgid(context, slot)
    : 0;
}

/** The value is the path of a branch. */
function moveToNamed(context: Context, name: number, size: number): number {
  const value = name + context.lengthAt(name) + 1;
  const path = Buffer.from(context.u8.subarray(value, value + size)).toString();
  const branch = context.branchTable.list().find((known) => known.path === path);
  if (branch === undefined) return -EINVAL;
  const result = moveTo(context, context.slot, branch.index);
  forgetAttributes(context, context.slot);
  return result;
}

/** The caller is not of the file's group: an ACL it sets must not leave the set-group-id bit. */
function clearSetgid(context: Context, slot: number): number {
  const branch = context.shown.branch(slot, 'getattr');
  const result = context.statCopy(slot, branch, context.stat2);
  if (result < 0) return result;
  return changeMode(context, slot, branch, context.u32[(context.stat2 + STATX.mode) >>> 2]! & 0o7777 & ~S_ISGID);
}

export function removexattr(context: Context): number {
  const name = context.body;
  if (isOwn(context, name)) return -EPERM;
  const allowed = mayChange(context, context.slot, context.base + name, XATTR_REPLACE);
  if (allowed < 0) return allowed;
  return onEveryCopy(context, context.slot, (path, isLink) => {
    const result = isLink ? libc.lremovexattr(path, context.base + name) : libc.removexattr(path, context.base + name);
    return result === -ENODATA ? 0 : result;
  });
}

/** What XATTR_CREATE and XATTR_REPLACE demand, looked at once for a request. Answers 0 or a negated errno. */
function mayChange(context: Context, slot: number, name: number, flags: number): number {
  if (flags === 0 || context.journal.passed) return 0;
  const found = readSteadily(context, slot, context.shown.branch(slot, 'getxattr'), (path, isLink) =>
    (isLink ? libc.lgetxattr : libc.getxattr)(path, name, 0, 0),
  );
  if (flags === XATTR_REPLACE && found < 0) return found;
  if (flags === XATTR_CREATE && found >= 0) return -EEXIST;
  context.journal.pass();
  return 0;
}

type Change = (path: number, isLink: boolean) => number;

/** Files have one copy, directories one on each of their branches. The one that shows goes first and tells what there is. */
function onEveryCopy(context: Context, slot: number, change: Change): number {
  const { inodes } = context;
  if (context.config.readOnly) return -EROFS;
  const isFile = inodes.kind(slot) !== DT_DIR || inodes.get(slot, F.pinned) !== 0;
  const low = isFile ? 0 : inodes.get(slot, F.maskLow);
  const high = isFile ? 0 : inodes.get(slot, F.maskHigh);
  const closed = isFile ? 0 : enterCopies(context, slot);
  if (closed < 0) return closed;
  if (isFile) context.state.lockFile(slot);
  const shown = context.shown.branch(slot, 'getxattr');
  let result = changeCopy(context, slot, shown, change);
  if (isFile) {
    context.state.unlockFile(slot);
    forgetAttributes(context, slot);
    return result;
  }
  for (let branch = firstBranch(low, high); branch >= 0 && result === 0; branch = nextBranch(low, high, branch + 1))
    if (branch !== shown && context.branches[branch]!.mode !== 'RO') result = changeCopy(context, slot, branch, change);
  context.attributes.forgetAll(slot);
  return result;
}

function changeCopy(context: Context, slot: number, branch: number, change: Change): number {
  if (context.branches[branch]!.mode === 'RO') return -EROFS;
  const path = pathOf(context, slot, branch);
  return path < 0 ? path : change(path, context.atFlags !== AT_EMPTY_PATH);
}

export function getxattr(context: Context): number {
  const { slot, base, out } = context;
  const size = context.in32(0);
  const name = context.body + 8;
  if (isKnownAbsent(context, slot, name)) return -ENODATA;
  const branch = context.shown.branch(slot, 'getxattr');
  if (isOneOf(context, name, BRANCH_ATTRIBUTES)) return answerText(context, context.branches[branch]!.path, size);
  if (isOneOf(context, name, ALL_BRANCHES_ATTRIBUTES)) return answerText(context, pathsOfBranches(context), size);
  if (isOwn(context, name)) return -ENODATA;
  const length = readSteadily(context, slot, branch, (path, isLink) =>
    (isLink ? libc.lgetxattr : libc.getxattr)(path, base + name, size === 0 ? 0 : base + out, size),
  );
  return answerLength(context, length, size);
}

/** Reads by path, which another file may have a moment later. */
function readSteadily(
  context: Context,
  slot: number,
  branch: number,
  read: (path: number, isLink: boolean) => number,
): number {
  for (let attempt = 0; ; attempt++) {
    const stamp = context.state.changes.stamp(slot);
    const path = pathOf(context, slot, branch);
    const result = path < 0 ? path : read(path, context.atFlags !== AT_EMPTY_PATH);
    if (context.state.changes.isUnchanged(stamp) || !context.state.changes.wait(attempt)) return result;
  }
}

function pathsOfBranches(context: Context): string {
  const { slot, inodes, branches } = context;
  if (inodes.kind(slot) !== DT_DIR) return branches[context.branchOf(slot)]!.path;
  const low = inodes.get(slot, F.maskLow);
  const high = inodes.get(slot, F.maskHigh);
  const paths: string[] = [];
  for (let branch = firstBranch(low, high); branch >= 0; branch = nextBranch(low, high, branch + 1))
    paths.push(branches[branch]!.path);
  return paths.join('\0');
}

export function listxattr(context: Context): number {
  const { slot, base, out } = context;
  const size = context.in32(0);
  const branch = context.shown.branch(slot, 'listxattr');
  const length = readSteadily(context, slot, branch, (path, isLink) =>
    (isLink ? libc.llistxattr : libc.listxattr)(path, base + context.value, VALUE_BYTES),
  );
  if (length < 0) return length;
  const shown = dropOwnNames(context, length);
  if (size === 0) return answerLength(context, shown, 0);
  if (shown > size) return -ERANGE;
  context.u8.copyWithin(out, context.value, context.value + shown);
  return shown;
}

/** Takes the union's own names out of the list in `value`. Answers what is left of its length. */
function dropOwnNames(context: Context, length: number): number {
  const { u8, value } = context;
  let to = value;
  for (let at = value; at < value + length; ) {
    const bytes = context.lengthAt(at) + 1;
    if (!startsWith(context, at, OWN_PREFIX)) {
      u8.copyWithin(to, at, at + bytes);
      to += bytes;
    }
    at += bytes;
  }
  return to - value;
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
