/** Opening the lower file of an inode, for operations that need a descriptor of their own. */
import { F } from '../inode/inode-table.ts';
import { STATX } from '../protocol/abi.ts';
import { AT_EMPTY_PATH, AT_FDCWD, DT_DIR, ESTALE, O_CLOEXEC, O_NOFOLLOW, O_PATH } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { statDescriptor, writeText } from './scratch.ts';

/**
 * A new descriptor of an inode's copy on a branch, owned by the caller; 'path' opens with O_PATH, a link itself. Answers a
 * negated errno. Another file that took the name meanwhile is never opened in its place: the flags must not truncate.
 */
export function openLower(context: Context, slot: number, branch: number, how: number | 'path'): number {
  const flags = (how === 'path' ? O_PATH | O_CLOEXEC : how) | O_NOFOLLOW;
  for (let attempt = 0; ; attempt++) {
    const stamp = context.state.changes.stamp(slot);
    let descriptor = context.locate(slot, branch);
    if (descriptor === 0)
      descriptor =
        context.atFlags === AT_EMPTY_PATH
          ? reopen(context, context.atDescriptor, flags)
          : libc.openat(context.atDescriptor, context.atName, flags, 0);
    if (context.state.changes.isUnchanged(stamp)) return descriptor;
    if (descriptor >= 0 && isInode(context, slot, descriptor)) return descriptor;
    if (descriptor >= 0) libc.close(descriptor);
    if (!context.state.changes.wait(attempt)) return -ESTALE;
  }
}

/** Opens the file behind an O_PATH descriptor anew. */
function reopen(context: Context, descriptor: number, flags: number): number {
  if ((flags & O_PATH) !== 0) return libc.dup(descriptor);
  const path = writeText(context, context.path, `/proc/self/fd/${descriptor}`);
  return libc.openat(AT_FDCWD, context.base + path, flags & ~O_NOFOLLOW, 0);
}

function isInode(context: Context, slot: number, descriptor: number): boolean {
  if (context.inodes.kind(slot) === DT_DIR) return true; // by a descriptor of this thread
  const { inodes, u32, path } = context;
  if (statDescriptor(context, descriptor, path) < 0) return false;
  const word = (path + STATX.ino) >>> 2;
  return u32[word] === inodes.get(slot, F.lowerLow) && u32[word + 1] === inodes.get(slot, F.lowerHigh);
}
