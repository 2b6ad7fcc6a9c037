/**
 * OPEN, RELEASE, and passthrough. All handles of an inode share one backing id (the kernel allows one backing file per inode at a
 * time), opened for reading and writing where the branch permits. The lower descriptor is closed at once: the kernel has its own. Only that
 * which a file was made with stays with its handle (create.ts).
 *
 * Proxied instead: where the kernel or the branch refuses a backing file, and for writing to files with set-id bits or
 * capabilities, which must be cleared by a write; the kernel leaves that to us and tells us only of proxied writes. Also for
 * writing on a branch below its reserve, so that the file can move to another when this one is full (move.ts), and for all on a
 * branch that is to be removed. As long as one handle goes past the server all new ones do: then a full branch means ENOSPC.
 */
import { H, HANDLE } from '../inode/handle-table.ts';
import { F, INODE } from '../inode/inode-table.ts';
import { FOPEN, INIT2, OPEN_OUT } from '../protocol/abi.ts';
import {
  DT_REG,
  EACCES,
  EBUSY,
  ENFILE,
  EPERM,
  EROFS,
  ETXTBSY,
  O_ACCMODE,
  O_CLOEXEC,
  O_RDONLY,
  O_RDWR,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { dropBacking, keepBacking, registerBacking } from './backing.ts';
import type { Context } from './context.ts';
import { forget } from './forget.ts';
import { openLower } from './lower-file.ts';
import { isShort } from './move.ts';
import { invalidateAttributes } from './notify.ts';
import { statDescriptor, writeText } from './scratch.ts';
import { killPrivileges } from './set-attributes.ts';
import { keepAttributes } from './tree.ts';

export function open(context: Context): number {
  const { slot, state } = context;
  const flags = context.in32(0);
  // Who opens for writing may clear set-id bits, so that the file must not be moving; readers need not wait.
  const writable = (flags & O_ACCMODE) !== O_RDONLY;
  if (writable) state.lockFile(slot);
  state.lockInode(slot);
  const result = openInode(context, slot, writable);
  state.unlockInode(slot);
  if (writable) state.unlockFile(slot);
  return result;
}

function openInode(context: Context, slot: number, writable: boolean): number {
  const { inodes } = context;
  const branch = context.branchOf(slot);
  // What is kept of a file would open it also where its branch is out.
  const closed = context.gate.enter(branch);
  if (closed < 0) return closed;
  const isReadOnly =
    context.branches[branch]!.mode === 'RO' || context.config.readOnly || context.gate.isReadOnly(branch);
  if (writable && isReadOnly) return -EROFS;
  const proxied =
    inodes.has(slot, INODE.proxied | INODE.moving) ||
    (inodes.get(slot, F.opens) === 0 &&
      (context.branches[branch]!.isDraining ||
        (writable && (isShort(context, branch) || needsPrivilegeClearing(context, slot, branch)))));
  // Other handles go past the server and this one must too: its writes will not be told, so they are foreseen.
  if (writable && !proxied && inodes.get(slot, F.opens) !== 0) clearPrivileges(context, slot);
  if (!proxied) {
    const backing = backingOf(context, slot, branch, writable);
    if (backing > 0) return answerOpen(context, slot, { writable, descriptor: -1, backing });
    if (backing < 0) return backing;
  }
  // Page-cached handles need no write-only mode below: the kernel reads what a partial write leaves of a page.
  const descriptor = openLower(context, slot, branch, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (descriptor < 0) return descriptor;
  inodes.setFlag(slot, INODE.proxied);
  return answerOpen(context, slot, { writable, descriptor, backing: 0 });
}

/** Before data changes in a way that the kernel does not ask us to clear set-id bits and capabilities for. */
export function clearPrivileges(context: Context, slot: number): void {
  if (context.uid === 0 || !needsPrivilegeClearing(context, slot, context.branchOf(slot))) return;
  killPrivileges(context, slot);
  invalidateAttributes(context, slot);
}

function needsPrivilegeClearing(context: Context, slot: number, branch: number): boolean {
  const { inodes } = context;
  if (inodes.has(slot, INODE.privileged)) return true;
  if (inodes.has(slot, INODE.capabilitiesKnown)) return false;
  const descriptor = openLower(context, slot, branch, 'path');
  if (descriptor < 0) return false;
  const path = context.base + writeText(context, context.path, `/proc/self/fd/${descriptor}`);
  const name = context.base + writeText(context, context.path + 64, 'security.capability');
  const length = libc.getxattr(path, name, context.base + context.value, 64);
  libc.close(descriptor);
  inodes.setFlag(slot, length > 0 ? INODE.privileged | INODE.capabilitiesKnown : INODE.capabilitiesKnown);
  return length > 0;
}

/** The backing id of an inode, made now if it has none: > 0, 0 where passthrough is not to be had, or a negated errno. */
function backingOf(context: Context, slot: number, branch: number, writable: boolean): number {
  const { inodes } = context;
  const known = inodes.get(slot, F.backing);
  if (known !== 0 && !(writable && inodes.has(slot, INODE.backingReadOnly))) return known;
  // It was opened when the file could not be written to. The kernel keeps to it as long as a handle does.
  if (known !== 0 && inodes.get(slot, F.opens) !== 0) return -EBUSY;
  if (known !== 0) dropBacking(context, slot);
  if (!context.config.passthrough || !context.negotiated2(INIT2.PASSTHROUGH)) return 0;
  let descriptor =
    context.branches[branch]!.mode === 'RO' ? -EROFS : openLower(context, slot, branch, O_RDWR | O_CLOEXEC);
  const refused = descriptor === -EROFS || descriptor === -EACCES || descriptor === -EPERM || descriptor === -ETXTBSY;
  if (refused && !writable) descriptor = openLower(context, slot, branch, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return descriptor;
  const id = registerBacking(context, descriptor);
  libc.close(descriptor);
  if (id <= 0) return 0;
  if (refused) inodes.setFlag(slot, INODE.backingReadOnly);
  else inodes.clearFlag(slot, INODE.backingReadOnly);
  inodes.set(slot, F.backing, id);
  return id;
}

export interface Opened {
  readonly writable: boolean;
  /** Lower descriptor of a proxied handle, else -1. */
  readonly descriptor: number;
  /** Backing id, or 0 when proxied. */
  readonly backing: number;
}

function answerOpen(context: Context, slot: number, opened: Opened): number {
  if (opened.writable && context.inodes.get(slot, F.writers) === 0 && opened.backing !== 0)
    // From now on a mapping may change them without a request.
    invalidateAttributes(context, slot);
  return putOpen(context, context.out, slot, opened);
}

/** fuse_open_out with a new handle. Answers its length or -ENFILE. Under the inode's lock, or for a new inode. */
export function putOpen(context: Context, to: number, slot: number, { writable, descriptor, backing }: Opened): number {
  const { inodes, handles, u32, state } = context;
  const flags = (writable ? HANDLE.writable : 0) | (backing !== 0 ? HANDLE.passthrough : 0);
  state.lock();
  const handle = handles.allocate(slot, descriptor, flags);
  if (handle === 0) {
    state.unlock();
    if (descriptor >= 0) libc.close(descriptor);
    return -ENFILE;
  }
  context.journal.setHandle(handle);
  context.kept.forget(inodes.get(slot, F.dentry));
  inodes.add(slot, F.opens, 1);
  if (writable) inodes.add(slot, F.writers, 1);
  state.unlock();
  const word = to >>> 2;
  u32[word] = handle;
  u32[word + 1] = 0;
  const cached = context.exclusive ? FOPEN.KEEP_CACHE | FOPEN.NOFLUSH : FOPEN.NOFLUSH;
  u32[word + 2] = backing !== 0 ? FOPEN.PASSTHROUGH | FOPEN.NOFLUSH : cached;
  u32[word + 3] = backing;
  return OPEN_OUT.size;
}

export function release(context: Context): number {
  const { handles, journal, slot } = context;
  const handle = context.in32(0);
  if (handles.isUsed(handle) && !journal.hasClosed(handle)) closeOpened(context, handle);
  else if (journal.resuming) finishClose(context, slot);
  return 0;
}

/** What a dead server, which had freed the handle, may not have come to. */
function finishClose(context: Context, slot: number): void {
  context.state.lockInodeAnyhow(slot);
  const isLast = context.inodes.kind(slot) === DT_REG && context.inodes.get(slot, F.opens) === 0;
  if (isLast) dropUse(context, slot);
  context.state.unlockInode(slot);
  if (isLast) forget(context, slot, 0);
}

/** Closes an open file. */
export function closeOpened(context: Context, handle: number): void {
  const slot = context.handles.slot(handle);
  context.state.lockInodeAnyhow(slot);
  const isLast = closeHandle(context, handle, slot);
  context.state.unlockInode(slot);
  if (isLast && context.inodes.get(slot, F.lookups) === 0) forget(context, slot, 0);
}

/** Under the inode's lock. True when it was the inode's last handle. */
function closeHandle(context: Context, handle: number, slot: number): boolean {
  const { handles, inodes, state } = context;
  const descriptor = handles.descriptor(handle);
  const writable = (handles.get(handle, H.flags) & HANDLE.writable) !== 0;
  state.lock();
  handles.free(handle);
  context.journal.dropHandle(handle);
  if (writable) {
    inodes.add(slot, F.writers, -1);
    context.kept.forget(inodes.get(slot, F.dentry));
  }
  const left = inodes.add(slot, F.opens, -1);
  state.unlock();
  if (left === 0 && writable) keepWritten(context, slot, descriptor);
  if (descriptor >= 0) libc.close(descriptor);
  if (left > 0) return false;
  dropUse(context, slot);
  return true;
}

/** Nobody has the file open any more. */
function dropUse(context: Context, slot: number): void {
  context.inodes.clearFlag(slot, INODE.proxied);
  if (context.inodes.get(slot, F.backing) !== 0) keepBacking(context, slot);
}

/**
 * What was written is still in the lower filesystem's memory: its attributes are cheaper now than ever again. After reading it
 * does not pay: most opens are for reading, and few of those files are looked at after the kernel has forgotten them.
 */
function keepWritten(context: Context, slot: number, descriptor: number): void {
  if (!context.exclusive || context.inodes.get(slot, F.dentry) === 0) return;
  const epoch = context.kept.epoch();
  const branch = context.branchOf(slot);
  const isEntered = descriptor >= 0 && context.gate.enter(branch) === 0;
  const result = isEntered
    ? statDescriptor(context, descriptor, context.stat)
    : context.statCopy(slot, branch, context.stat);
  if (result === 0) keepAttributes(context, slot, epoch, false);
}
