/** CREATE and TMPFILE: a new regular file, open. */
import { keptBelow } from '../branch/open-files.ts';
import { F, INODE } from '../inode/inode-table.ts';
import { ENTRY, INIT2, STATX } from '../protocol/abi.ts';
import {
  AT_FDCWD,
  DT_REG,
  EACCES,
  EEXIST,
  ENAMETOOLONG,
  ENOMEM,
  EROFS,
  ESTALE,
  O_ACCMODE,
  O_CLOEXEC,
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { registerBacking } from './backing.ts';
import type { Context } from './context.ts';
import { forget } from './forget.ts';
import { numberInode } from './inode-number.ts';
import { putEntry } from './lookup.ts';
import { linkOpen } from './nameless.ts';
import { putOpen } from './open.ts';
import { NAME_MAX, statDescriptor, writeText } from './scratch.ts';
import { enterNew } from './tree.ts';

/** fuse_create_in: flags, mode, umask, open_flags, name. */
const CREATE_IN = { flags: 0, mode: 4, umask: 8, name: 16 } as const;

/** How long attributes of a file that was just made are valid, although it is open for writing. */
const FRESH_NS = 20_000_000;

export function create(context: Context): number {
  if (context.config.readOnly) return -EROFS;
  const parent = context.slot;
  const name = context.body + CREATE_IN.name;
  const length = context.lengthAt(name);
  if (length > NAME_MAX) return -ENAMETOOLONG;
  if (context.isReserved(parent, name, length)) return -EACCES;
  const flags = O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW;
  const { choice, base } = context;
  choice.begin(parent, 'create');
  for (;;) {
    const branch = choice.next();
    if (branch < 0) return branch;
    context.journal.chose(branch);
    const directory = context.directories.descriptor(parent, branch);
    if (directory < 0) return directory;
    context.actAsCaller(context.in32(CREATE_IN.umask));
    let descriptor = libc.openat(directory, base + name, flags, context.in32(CREATE_IN.mode) & 0o7777);
    if (choice.wasMade(branch, descriptor))
      descriptor = libc.openat(directory, base + name, flags & ~(O_CREAT | O_EXCL), 0);
    if (descriptor >= 0) context.attributes.markChanged(parent, branch);
    if (descriptor >= 0) return enterCreated(context, { branch, descriptor, parent, name, length });
    if (!choice.failed(branch, descriptor)) return descriptor === -EEXIST ? exists(context) : descriptor;
  }
}

/**
 * The kernel thought that there is no such file. If others may have made it since, and the caller does not mind, ESTALE has the
 * kernel look again and open it as what it is.
 */
function exists(context: Context): number {
  return context.exclusive || (context.in32(CREATE_IN.flags) & O_EXCL) !== 0 ? -EEXIST : -ESTALE;
}

interface Created {
  readonly branch: number;
  readonly descriptor: number;
  readonly parent: number;
  readonly name: number;
  readonly length: number;
}

function enterCreated(context: Context, { branch, descriptor, parent, name, length }: Created): number {
  let slot = statDescriptor(context, descriptor, context.stat);
  if (slot === 0) slot = enterNew(context, parent, name, length, branch);
  if (slot < 0) {
    libc.close(descriptor);
    return slot;
  }
  return answerCreated(context, slot, descriptor);
}

/**
 * Entry and open reply for a new file. `descriptor` becomes the handle's, also where data goes past the server: who has made a file sets its
 * times, owner and mode next (set-attributes.ts), and its attributes are looked at when it is closed. Else it is closed.
 */
function answerCreated(context: Context, slot: number, descriptor: number): number {
  const { inodes } = context;
  const writable = (context.in32(CREATE_IN.flags) & O_ACCMODE) !== O_RDONLY;
  let backing = 0;
  // Nothing to clear on a new file unless it was made with set-id bits.
  inodes.setFlag(slot, INODE.capabilitiesKnown);
  if (context.config.passthrough && context.negotiated2(INIT2.PASSTHROUGH) && !inodes.has(slot, INODE.privileged))
    backing = Math.max(0, registerBacking(context, descriptor));
  if (backing === 0) inodes.setFlag(slot, INODE.proxied);
  const kept = backing === 0 || descriptor < keptBelow ? descriptor : -1;
  if (kept < 0) libc.close(descriptor);
  const opened = putOpen(context, context.out + ENTRY.size, slot, { writable, descriptor: kept, backing });
  // Only now that it counts as open: the slot may be in the ring of idle ones still, from a file that it was before.
  inodes.set(slot, F.backing, backing);
  if (opened < 0) {
    forget(context, slot, 1);
    return opened;
  }
  putEntry(context, context.out, slot);
  // Long enough for the kernel's own check of the open that follows, so that it does not ask what it was just told.
  context.out32(ENTRY.attrValidNs, FRESH_NS);
  return ENTRY.size + opened;
}

/** An unnamed file in the parent's filesystem. It is reached by its pinned descriptor until LINK gives it a name. */
export function tmpfile(context: Context): number {
  if (context.config.readOnly) return -EROFS;
  const { base, choice, slot: parent } = context;
  choice.begin(parent, 'create');
  for (;;) {
    const branch = choice.next();
    if (branch < 0) return branch;
    const directory = context.directories.descriptor(parent, branch);
    if (directory < 0) return directory;
    context.actAsCaller(context.in32(CREATE_IN.umask));
    const dot = base + writeText(context, context.path, '.');
    const descriptor = libc.openat(
      directory,
      dot,
      O_TMPFILE | O_RDWR | O_CLOEXEC,
      context.in32(CREATE_IN.mode) & 0o7777,
    );
    if (descriptor < 0) {
      if (choice.failed(branch, descriptor)) continue;
      return descriptor;
    }
    const path = base + writeText(context, context.path, `/proc/self/fd/${descriptor}`);
    const pinned = libc.openat(AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
    const failed = pinned < 0 ? pinned : statDescriptor(context, descriptor, context.stat);
    const slot = failed < 0 ? failed : unnamedInode(context, branch, pinned);
    if (slot < 0) {
      libc.close(descriptor);
      if (pinned >= 0) libc.close(pinned);
      return slot;
    }
    return answerCreated(context, slot, descriptor);
  }
}

function unnamedInode(context: Context, branch: number, pinned: number): number {
  const { inodes, state, u32, stat } = context;
  state.lock();
  const slot = inodes.allocate(DT_REG);
  if (slot !== 0) {
    const word = (stat + STATX.ino) >>> 2;
    inodes.set(slot, F.branch, branch);
    inodes.set(slot, F.lowerLow, u32[word]!);
    inodes.set(slot, F.lowerHigh, u32[word + 1]!);
    inodes.set(slot, F.pinned, pinned + 1);
    context.hold(slot);
    inodes.setFlag(slot, INODE.unlinked);
    numberInode(context, slot, branch, stat);
  }
  state.unlock();
  if (slot === 0) return -ENOMEM;
  linkOpen(context, slot, branch, pinned);
  return slot;
}
