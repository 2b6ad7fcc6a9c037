/** READ, WRITE, FSYNC, FALLOCATE, LSEEK, COPY_FILE_RANGE, FLUSH: data of files, where the kernel does not go past us. */
import { H, HANDLE } from '../inode/handle-table.ts';
import { F, INODE, ROOT } from '../inode/inode-table.ts';
import { REPLY_BYTES } from '../inode/layout.ts';
import { WRITE_KILL_SUIDGID } from '../protocol/abi.ts';
import { DT_REG, EBADF, EINVAL, ENOSYS, isNoSpace, O_CLOEXEC, O_RDONLY, O_RDWR } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { openLower } from './lower-file.ts';
import { makeRoom } from './move.ts';
import { clearPrivileges } from './open.ts';
import { killPrivileges } from './set-attributes.ts';

/** A write request's data follows fuse_write_in. */
const WRITE_DATA = 40;
const MAX_COPY_BYTES = 1 << 30;
/** The room that is looked for when a copy of unknown size finds its branch full. */
const COPY_ROOM_BYTES = 1 << 20;

/**
 * The lower descriptor of a handle. Passthrough handles have none: one is opened for this operation alone, remembered in
 * `context.temporary`, and closed by `done`. Nor do handles that a dead server opened: theirs is opened again.
 */
function descriptorOf(context: Context, handle: number): number {
  context.temporary = -1;
  const { handles } = context;
  if (!handles.isUsed(handle)) return -EBADF;
  const slot = handles.slot(handle);
  const closed = context.gate.enter(context.branchOf(slot));
  if (closed < 0) return closed;
  const open = handles.descriptor(handle);
  if (open >= 0) return open;
  if (context.inodes.kind(slot) !== DT_REG) return -EINVAL;
  const writable = (handles.get(handle, H.flags) & HANDLE.writable) !== 0;
  const descriptor = openLower(context, slot, context.branchOf(slot), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (descriptor < 0) return descriptor;
  // That of a proxied handle was a dead server's: the new one stays, if no other thread was faster.
  const isProxied = (handles.get(handle, H.flags) & HANDLE.passthrough) === 0;
  if (!isProxied || !handles.setDescriptor(handle, descriptor)) context.temporary = descriptor;
  return descriptor;
}

function done(context: Context, result: number): number {
  if (context.temporary >= 0) libc.close(context.temporary);
  context.temporary = -1;
  return result;
}

export function read(context: Context): number {
  const descriptor = descriptorOf(context, context.in32(0));
  if (descriptor < 0) return descriptor;
  const size = Math.min(context.in32(16), REPLY_BYTES - 4096);
  return done(context, libc.pread(descriptor, context.base + context.out, size, context.in64(8)));
}

export function write(context: Context): number {
  const handle = context.in32(0);
  if (!context.handles.isUsed(handle)) return -EBADF;
  const slot = context.handles.slot(handle);
  context.state.lockFile(slot);
  const written = writeLocked(context, handle, slot);
  context.state.unlockFile(slot);
  if (written < 0) return written;
  context.out32(0, written);
  context.out32(4, 0);
  return 8;
}

/** Under the file's lock. Answers how much was written, or a negated errno. */
function writeLocked(context: Context, handle: number, slot: number): number {
  const descriptor = descriptorOf(context, handle);
  if (descriptor < 0) return descriptor;
  if ((context.in32(20) & WRITE_KILL_SUIDGID) !== 0 && context.inodes.has(slot, INODE.privileged))
    killPrivileges(context, slot);
  const size = context.in32(16);
  const data = context.base + context.body + WRITE_DATA;
  let written = 0;
  for (;;) {
    const result = libc.pwrite(descriptor, data + written, size - written, context.in64(8) + written);
    if (result > 0) written += result;
    // The kernel takes a part of a mapped page for all of it, so that the rest is tried until the branch says why not.
    if (written >= size || result === 0) break;
    // The descriptor stays the handle's when the file moves.
    if (result > 0 || (isNoSpace(result) && makeRoom(context, slot, size - written) === 0)) continue;
    return done(context, written > 0 ? written : result);
  }
  return done(context, written);
}

/** Nothing is held back here, so nothing is flushed: the kernel does not ask again. */
export function flush(): number {
  return -ENOSYS;
}

/** fuse_fsync_in: fh, flags; bit 0 means data only. */
export function fsync(context: Context): number {
  const descriptor = descriptorOf(context, context.in32(0));
  if (descriptor < 0) return descriptor;
  return done(context, (context.in32(8) & 1) !== 0 ? libc.fdatasync(descriptor) : libc.fsync(descriptor));
}

/** fuse_fallocate_in: fh, offset, length, mode. */
export function fallocate(context: Context): number {
  const { slot, state } = context;
  state.lockFile(slot);
  const result = fallocateLocked(context, slot);
  state.unlockFile(slot);
  return result;
}

function fallocateLocked(context: Context, slot: number): number {
  const descriptor = descriptorOf(context, context.in32(0));
  if (descriptor < 0) return descriptor;
  clearPrivileges(context, slot);
  const length = context.inSigned64(16);
  for (;;) {
    const result = libc.fallocate(descriptor, context.in32(24), context.inSigned64(8), length);
    if (isNoSpace(result) && makeRoom(context, slot, length) === 0) continue;
    return done(context, result);
  }
}

/** fuse_lseek_in: fh, offset, whence: SEEK_DATA and SEEK_HOLE only. */
export function lseek(context: Context): number {
  const descriptor = descriptorOf(context, context.in32(0));
  if (descriptor < 0) return descriptor;
  const offset = libc.lseek(descriptor, context.inSigned64(8), context.in32(16));
  if (offset < 0) return done(context, offset);
  context.out64(0, offset);
  return done(context, 8);
}

/** fuse_copy_file_range_in: fh_in, off_in, nodeid_out, fh_out, off_out, len, flags. */
export function copyFileRange(context: Context): number {
  const { handles, state } = context;
  const handle = context.in32(24);
  if (!handles.isUsed(handle)) return -EBADF;
  const source = descriptorOf(context, context.in32(0));
  if (source < 0) return source;
  const opened = context.temporary;
  const slot = handles.slot(handle);
  state.lockFile(slot);
  const target = descriptorOf(context, handle);
  const copied = target < 0 ? target : copyLocked(context, source, target, slot);
  state.unlockFile(slot);
  if (opened >= 0) libc.close(opened);
  if (copied < 0) return done(context, copied);
  context.out32(0, copied);
  context.out32(4, 0);
  return done(context, 8);
}

function copyLocked(context: Context, source: number, target: number, slot: number): number {
  const { argument, base, u32 } = context;
  clearPrivileges(context, slot);
  const length = Math.min(context.in64(40), MAX_COPY_BYTES);
  for (;;) {
    u32.copyWithin(argument >>> 2, (context.body + 8) >>> 2, (context.body + 16) >>> 2);
    u32.copyWithin((argument >>> 2) + 2, (context.body + 32) >>> 2, (context.body + 40) >>> 2);
    const copied = libc.copyFileRange(source, base + argument, target, base + argument + 8, length, 0);
    // More than there is to copy may have been asked for; less is found to be too little soon enough.
    if (isNoSpace(copied) && makeRoom(context, slot, Math.min(length, COPY_ROOM_BYTES)) === 0) continue;
    return copied;
  }
}

/** Every directory copy, then the branches' own logs with it. */
export function fsyncDirectory(context: Context): number {
  const { slot, inodes, branches } = context;
  for (const branch of branches) {
    if (!inodes.onBranch(slot, branch.index) || inodes.get(slot, F.pinned) !== 0) continue;
    const descriptor = openLower(context, slot, branch.index, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return descriptor;
    const result = libc.fsync(descriptor);
    libc.close(descriptor);
    if (result < 0) return result;
  }
  return 0;
}

/** Every branch, also when another one fails. Answers the first error. */
export function syncfs(context: Context): number {
  let failure = 0;
  for (const { index } of context.branchTable.list()) {
    // The root's own descriptor names it only (O_PATH): nothing can be synced by it.
    const descriptor = openLower(context, ROOT, index, O_RDONLY | O_CLOEXEC);
    const result = descriptor < 0 ? descriptor : libc.syncfs(descriptor);
    if (descriptor >= 0) libc.close(descriptor);
    if (result < 0) failure ||= result;
  }
  return failure;
}
