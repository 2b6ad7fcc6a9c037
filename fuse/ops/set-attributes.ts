/**
 * SETATTR. A file that is open, and whose lower descriptor is at hand, is changed by that: who has made a file sets its times, owner
 * and mode next, and to look up its name for each of these costs more than the rest of the call.
 */
import { H, HANDLE } from '../inode/handle-table.ts';
import { F, INODE } from '../inode/inode-table.ts';
import { FATTR, SETATTR_IN, STATX } from '../protocol/abi.ts';
import {
  DT_DIR,
  ENOSYS,
  EROFS,
  isNoSpace,
  O_CLOEXEC,
  O_WRONLY,
  S_ISGID,
  S_ISUID,
  S_IXGRP,
  UTIME_NOW,
  UTIME_OMIT,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { answerAttributes, putAttributes } from './attributes.ts';
import { type Context, firstBranch, nextBranch } from './context.ts';
import { enterCopies } from './copies.ts';
import { openLower } from './lower-file.ts';
import { makeRoom } from './move.ts';
import { statDescriptor, writeText } from './scratch.ts';
import { forgetAttributes } from './tree.ts';

const OWNER = FATTR.UID | FATTR.GID;
const TIMES = FATTR.ATIME | FATTR.MTIME;

export function setattr(context: Context): number {
  const { slot, inodes } = context;
  const valid = context.in32(SETATTR_IN.valid);
  if (inodes.kind(slot) !== DT_DIR || inodes.get(slot, F.pinned) !== 0) {
    context.state.lockFile(slot);
    let result = setOpened(context, slot, valid);
    const isKnown = result !== NOT_AT_HAND;
    if (!isKnown) result = setOn(context, slot, context.branchOf(slot), valid);
    context.state.unlockFile(slot);
    forgetAttributes(context, slot);
    if (result < 0) return result;
    return isKnown ? putAttributes(context, slot) : answerAttributes(context, slot);
  }
  const low = inodes.get(slot, F.maskLow);
  const high = inodes.get(slot, F.maskHigh);
  const closed = enterCopies(context, slot);
  if (closed < 0) return closed;
  // The copy that shows goes first: if it refuses, nothing has changed.
  const shown = context.shown.branch(slot, 'getattr');
  let result = setOn(context, slot, shown, valid);
  for (let branch = firstBranch(low, high); branch >= 0 && result === 0; branch = nextBranch(low, high, branch + 1))
    if (branch !== shown && context.branches[branch]!.mode !== 'RO') result = setOn(context, slot, branch, valid);
  context.attributes.forgetAll(slot);
  if (result < 0) return result;
  return answerAttributes(context, slot);
}

const NOT_AT_HAND = 1;

/** By an open file's descriptor. Answers 0, with its attributes in `stat`, a negated errno, or NOT_AT_HAND when nothing was done. */
function setOpened(context: Context, slot: number, valid: number): number {
  const { handles, inodes, state } = context;
  if ((valid & FATTR.SIZE) !== 0 || inodes.get(slot, F.dentry) === 0) return NOT_AT_HAND;
  if (losesPrivileges(context, slot, valid) && !isUnprivileged(context, slot)) return NOT_AT_HAND;
  // Nobody closes the file meanwhile.
  if (!state.lockInodeSoon(slot)) return NOT_AT_HAND;
  const descriptor = handles.recentDescriptor(slot);
  const mayChange = descriptor >= 0 && mayBeChanged(context, context.branchOf(slot));
  const result = mayChange ? setOnDescriptor(context, slot, descriptor, valid) : NOT_AT_HAND;
  state.unlockInode(slot);
  return result;
}

function mayBeChanged(context: Context, branch: number): boolean {
  if (context.branches[branch]!.mode === 'RO' || context.config.readOnly) return false;
  return context.gate.enter(branch) === 0;
}

function setOnDescriptor(context: Context, slot: number, descriptor: number, valid: number): number {
  let result = 0;
  if ((valid & OWNER) !== 0) result = libc.fchown(descriptor, uidOf(context, valid), gidOf(context, valid));
  if (result === 0 && (valid & FATTR.MODE) !== 0) {
    result = libc.fchmod(descriptor, modeOf(context));
    if (result === 0) noteMode(context, slot, modeOf(context));
  }
  if (result === 0 && (valid & TIMES) !== 0) result = libc.futimens(descriptor, putTimes(context, valid));
  return result === 0 ? statDescriptor(context, descriptor, context.stat) : result;
}

function setOn(context: Context, slot: number, branch: number, valid: number): number {
  if (context.branches[branch]!.mode === 'RO' || context.config.readOnly) return -EROFS;
  let result = 0;
  if ((valid & FATTR.SIZE) !== 0) result = truncate(context, slot);
  if (result === 0 && (valid & OWNER) !== 0) result = changeOwner(context, slot, branch, valid);
  if (result === 0 && (valid & FATTR.MODE) !== 0) result = changeMode(context, slot, branch, modeOf(context));
  else if (result === 0 && losesPrivileges(context, slot, valid)) result = killPrivileges(context, slot);
  if (result === 0 && (valid & TIMES) !== 0) result = changeTimes(context, slot, branch, valid);
  return result;
}

/**
 * Whether a change takes set-id bits with it. One that changes nothing is the kernel's way to say that somebody without privilege
 * is going to write to a file with such bits, past us too.
 */
function losesPrivileges(context: Context, slot: number, valid: number): boolean {
  if ((valid & FATTR.KILL_SUIDGID) !== 0) return true;
  return (valid & (OWNER | TIMES | FATTR.SIZE | FATTR.MODE)) === 0 && context.inodes.kind(slot) !== DT_DIR;
}

/** Under the file's lock. A longer file can need room too. */
function truncate(context: Context, slot: number): number {
  for (;;) {
    const result = truncateOn(context, slot, context.branchOf(slot));
    if (!isNoSpace(result) || makeRoom(context, slot, 0) < 0) return result;
  }
}

function truncateOn(context: Context, slot: number, branch: number): number {
  const size = context.in64(SETATTR_IN.size);
  const handle = (context.in32(SETATTR_IN.valid) & FATTR.FH) !== 0 ? context.in32(SETATTR_IN.handle) : 0;
  if (
    handle !== 0 &&
    context.handles.isUsed(handle) &&
    (context.handles.get(handle, H.flags) & HANDLE.writable) !== 0
  ) {
    const open = context.handles.descriptor(handle);
    if (open >= 0) return context.gate.enter(branch) || libc.ftruncate(open, size);
  }
  const descriptor = openLower(context, slot, branch, O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) return descriptor;
  const result = libc.ftruncate(descriptor, size);
  libc.close(descriptor);
  return result;
}

function changeOwner(context: Context, slot: number, branch: number, valid: number): number {
  const located = context.locate(slot, branch);
  if (located < 0) return located;
  const { atDescriptor, atName, atFlags } = context;
  return libc.fchownat(atDescriptor, atName, uidOf(context, valid), gidOf(context, valid), atFlags);
}

/** What the request sets; -1 leaves it. */
function uidOf(context: Context, valid: number): number {
  return (valid & FATTR.UID) !== 0 ? context.in32(SETATTR_IN.uid) : 0xffffffff;
}

function gidOf(context: Context, valid: number): number {
  return (valid & FATTR.GID) !== 0 ? context.in32(SETATTR_IN.gid) : 0xffffffff;
}

function modeOf(context: Context): number {
  return context.in32(SETATTR_IN.mode) & 0o7777;
}

/** chmod of a name without following links. Under the file's lock: the name stays this file's. */
export function changeMode(context: Context, slot: number, branch: number, mode: number): number {
  let result = context.locate(slot, branch);
  if (result === 0) result = libc.fchmodat2(context.atDescriptor, context.atName, mode, context.atFlags);
  if (result === -ENOSYS) result = changeModeByPath(context, slot, branch, mode);
  if (result === 0 && context.inodes.kind(slot) !== DT_DIR) noteMode(context, slot, mode);
  return result;
}

/** A file has this mode now. */
function noteMode({ inodes }: Context, slot: number, mode: number): void {
  if ((mode & (S_ISUID | S_ISGID)) !== 0) inodes.setFlag(slot, INODE.privileged);
}

/** For kernels whose chmod has no flag for links. */
function changeModeByPath(context: Context, slot: number, branch: number, mode: number): number {
  const descriptor = openLower(context, slot, branch, 'path');
  if (descriptor < 0) return descriptor;
  const path = writeText(context, context.path, `/proc/self/fd/${descriptor}`);
  const result = libc.chmod(context.base + path, mode);
  libc.close(descriptor);
  return result;
}

function changeTimes(context: Context, slot: number, branch: number, valid: number): number {
  const located = context.locate(slot, branch);
  if (located < 0) return located;
  return libc.utimensat(context.atDescriptor, context.atName, putTimes(context, valid), context.atFlags);
}

/** The request's times as two struct timespec. Answers their address. */
function putTimes(context: Context, valid: number): number {
  const { u32, argument } = context;
  putTime(context, argument, {
    set: valid & FATTR.ATIME,
    now: valid & FATTR.ATIME_NOW,
    at: SETATTR_IN.atime,
    ns: SETATTR_IN.atimeNs,
  });
  putTime(context, argument + 16, {
    set: valid & FATTR.MTIME,
    now: valid & FATTR.MTIME_NOW,
    at: SETATTR_IN.mtime,
    ns: SETATTR_IN.mtimeNs,
  });
  u32[(argument + 12) >>> 2] = u32[(argument + 28) >>> 2] = 0;
  return context.base + argument;
}

/** struct timespec at `to`. */
function putTime(context: Context, to: number, time: { set: number; now: number; at: number; ns: number }): void {
  const { u32 } = context;
  u32[to >>> 2] = context.in32(time.at);
  u32[(to >>> 2) + 1] = context.in32(time.at + 4);
  u32[(to >>> 2) + 2] = time.set === 0 ? UTIME_OMIT : time.now !== 0 ? UTIME_NOW : context.in32(time.ns);
}

/** Of most files it is known that there is nothing to clear. */
function isUnprivileged({ exclusive, inodes }: Context, slot: number): boolean {
  return exclusive && inodes.has(slot, INODE.capabilitiesKnown) && !inodes.has(slot, INODE.privileged);
}

/** Clears set-id bits and capabilities, as the kernel does when somebody without privilege writes to a file. */
export function killPrivileges(context: Context, slot: number): number {
  const { inodes } = context;
  if (isUnprivileged(context, slot)) return 0;
  const branch = context.branchOf(slot);
  let result = context.statCopy(slot, branch, context.stat2);
  if (result < 0) return result;
  const mode = context.u32[(context.stat2 + STATX.mode) >>> 2]! & 0o7777;
  // The set-group-id bit without group execution means mandatory locking, not privilege.
  const cleared = mode & ~S_ISUID & ~((mode & S_IXGRP) !== 0 ? S_ISGID : 0);
  if (cleared !== mode) result = changeMode(context, slot, branch, cleared);
  if (result < 0) return result;
  removeCapabilities(context, slot, branch);
  inodes.clearFlag(slot, INODE.privileged);
  return 0;
}

function removeCapabilities(context: Context, slot: number, branch: number): void {
  const descriptor = openLower(context, slot, branch, 'path');
  if (descriptor < 0) return;
  const path = context.base + writeText(context, context.path, `/proc/self/fd/${descriptor}`);
  libc.removexattr(path, context.base + writeText(context, context.path + 64, 'security.capability'));
  libc.close(descriptor);
}
