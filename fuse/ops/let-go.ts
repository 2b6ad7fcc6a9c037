/**
 * Letting go of a mount that is gone, or of a branch that was removed: whatever descriptor of ours is on it keeps the filesystem
 * alive, broken as it may be, and mounting the device again would show the same one. After its gate was closed and every reader has passed the end of a
 * request, so that nobody is about to use what they remember.
 *
 * Numbers of descriptors stay taken, by something of which nothing can be asked: whoever still holds one closes it, some
 * day, and never somebody else's. Files that applications have open past the server are theirs: the kernel keeps those.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { mountIdOf } from '../branch/mounts.ts';
import { H, HandleTable } from '../inode/handle-table.ts';
import { F, InodeTable, ROOT } from '../inode/inode-table.ts';
import { WORD } from '../inode/layout.ts';
import type { State } from '../inode/state.ts';
import { AT_FDCWD, O_CLOEXEC, O_PATH } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { LOST } from './nameless.ts';
import { forgetBackings } from './relearn.ts';

/** Of the descriptors, those that `isOf` says. */
export function letGo(context: Context, branch: number, isOf: (descriptor: number) => boolean): void {
  context.state.dropDescriptors();
  forgetBackings(context, branch);
  const nothing = libc.withCString('/dev/null', (name) => libc.openat(AT_FDCWD, name, O_PATH | O_CLOEXEC, 0));
  if (nothing < 0) return;
  const replaced = new Set<number>();
  for (const name of readdirSync('/proc/self/fd')) {
    const descriptor = Number(name);
    if (!isOf(descriptor)) continue;
    libc.dup3(nothing, descriptor, O_CLOEXEC);
    replaced.add(descriptor);
  }
  libc.close(nothing);
  // Should a number have become another directory's in that very moment, that is opened anew as well.
  context.state.dropDescriptors();
  reopenLater(context, replaced);
  unpinUntilBack(context, replaced);
}

export function isOnMount(mountId: number): (descriptor: number) => boolean {
  return (descriptor) => {
    try {
      return mountIdOf(descriptor) === mountId;
    } catch {
      return false; // closed meanwhile
    }
  };
}

/** A directory that is itself in use by others may be on the mount: only what is below it. */
export function isBelow(directory: number): (descriptor: number) => boolean {
  const top = readlinkSync(`/proc/self/fd/${directory}`);
  return (descriptor) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${descriptor}`);
      return target === top || target.startsWith(`${top}/`);
    } catch {
      return false; // closed meanwhile
    }
  };
}

/**
 * Closes what files are still open by when the session has ended: at the unmount the kernel forgets to say so of those that were closed just
 * before.
 */
export function closeFiles(state: State): void {
  for (const [, descriptor] of openHandles(new HandleTable(state), state.u32)) libc.close(descriptor);
  for (const [, descriptor] of pinnedInodes(new InodeTable(state), state.u32)) libc.close(descriptor);
}

/** Handles whose lower file was closed open it anew, by the place of their inode, when they are used again. */
function reopenLater({ handles, u32 }: Context, replaced: ReadonlySet<number>): void {
  for (const [handle, descriptor] of openHandles(handles, u32)) {
    if (!replaced.has(descriptor)) continue;
    handles.set(handle, H.descriptor, 0);
    libc.close(descriptor);
  }
}

/** Files without a name are found again by their links when the branch is back (relearn.ts). */
function unpinUntilBack({ inodes, u32 }: Context, replaced: ReadonlySet<number>): void {
  for (const [slot, descriptor] of pinnedInodes(inodes, u32)) {
    if (!replaced.has(descriptor)) continue;
    inodes.set(slot, F.pinned, LOST);
    libc.close(descriptor);
  }
}

/** Handles that have a lower file open, each with its descriptor. */
function* openHandles(handles: HandleTable, u32: Uint32Array): Generator<[handle: number, descriptor: number]> {
  for (let handle = 1; handle < u32[WORD.handleBump]!; handle++) {
    const descriptor = handles.isUsed(handle) ? handles.descriptor(handle) : -1;
    if (descriptor >= 0) yield [handle, descriptor];
  }
}

/** Inodes without a name that have a descriptor, each with it. */
function* pinnedInodes(inodes: InodeTable, u32: Uint32Array): Generator<[slot: number, descriptor: number]> {
  for (let slot = ROOT; slot < u32[WORD.inodeBump]!; slot++) {
    const pinned = inodes.isUsed(slot) ? inodes.get(slot, F.pinned) : 0;
    if (pinned !== 0 && pinned !== LOST) yield [slot, pinned - 1];
  }
}
