/**
 * A directory's copy on one more branch: with owner, mode, extended attributes (ACLs among them) and times of the original. One of which
 * the system call that makes it can say all but the times is made in its place: whatever crashes then, nothing half-made shows. Others
 * are made under `.union/`, and renamed into place when they are whole.
 */
import { F } from '../inode/inode-table.ts';
import { D } from '../inode/name-index.ts';
import { STATX } from '../protocol/abi.ts';
import {
  AT_REMOVEDIR,
  EACCES,
  EEXIST,
  ENOTDIR,
  EPERM,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  RENAME_NOREPLACE,
  S_IFDIR,
  S_IFMT,
  S_ISGID,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { copyAttributes, hasAttributes } from './copy-attributes.ts';
import { markCopy } from './copy-mark.ts';
import { ownDirectory } from './own-directory.ts';
import { setTimes, statDescriptor, writeText } from './scratch.ts';

export interface Clone {
  readonly slot: number;
  readonly parent: number;
  readonly branch: number;
  /** A dead server was making it, and may have made it. */
  readonly isBegun: boolean;
}

/** The directories that it takes, by O_PATH descriptors. */
interface Place {
  readonly original: number;
  /** The one above, on the clone's branch. The clone's name is at `context.name`. */
  readonly target: number;
}

/** mkdir(2) alone cannot make it. */
const UNLIKE = 1;
/** What mkdir(2) sets of a mode. */
const MADE_MODE = 0o1777;

/** Answers 0, also for one that is there, -ENOTDIR for something else that is there, or another negated errno. */
export function cloneDirectory(context: Context, clone: Clone): number {
  const { directories, inodes, name, names, stat2, u8 } = context;
  const original = directories.descriptor(clone.slot, context.shown.branch(clone.slot, 'getattr'));
  if (original < 0) return original;
  const target = directories.descriptor(clone.parent, clone.branch);
  if (target < 0) return target;
  const dentry = inodes.get(clone.slot, F.dentry);
  const from = names.get(dentry, D.name);
  u8.copyWithin(name, from, from + names.nameLength(dentry) + 1);
  const stat = statDescriptor(context, original, stat2);
  if (stat < 0) return stat;
  const made = makeInPlace(context, clone, { original, target });
  return made === UNLIKE ? makeByDraft(context, clone, { original, target }) : made;
}

/** The original's struct statx is in `stat2`. UNLIKE when nothing was made. */
function makeInPlace(context: Context, clone: Clone, { original, target }: Place): number {
  const { base, stat2, u32, value } = context;
  const of = (field: number) => u32[(stat2 + field) >>> 2]!;
  const mode = of(STATX.mode) & 0o7777;
  if ((mode & ~MADE_MODE) !== 0 || hasAttributes(context, original)) return UNLIKE;
  const above = statDescriptor(context, target, value);
  if (above < 0) return above;
  // Its group, or its default ACL, would become the copy's.
  if ((u32[(value + STATX.mode) >>> 2]! & S_ISGID) !== 0 || hasAttributes(context, target)) return UNLIKE;
  context.actAs(of(STATX.uid), of(STATX.gid));
  const made = libc.mkdirat(target, base + context.name, mode);
  context.actAs(0, 0);
  // A thread that lost its capabilities with that.
  if (made === -EACCES || made === -EPERM) return UNLIKE;
  if (made < 0 && made !== -EEXIST) return made;
  if (made === -EEXIST && !clone.isBegun) return directoryAt(context, target);
  const copy = openAt(context, target, context.name);
  if (copy < 0) return copy;
  if (!isAlike(context, copy)) {
    libc.close(copy);
    if (made < 0) return 0;
    const removed = libc.unlinkat(target, base + context.name, AT_REMOVEDIR);
    return removed < 0 ? removed : UNLIKE;
  }
  markCopy(context, copy, context.stat, stat2);
  setTimes(context, copy, stat2);
  setTimes(context, target, value);
  context.directories.keep(clone.slot, clone.branch, copy);
  return 0;
}

/** Whether the new copy has owner and mode of the original, in `stat2`: filesystems and their mounts may have ideas of their own. */
function isAlike(context: Context, copy: number): boolean {
  const { stat, stat2, u32 } = context;
  if (statDescriptor(context, copy, stat) < 0) return false;
  const isSame = (field: number) => u32[(stat + field) >>> 2] === u32[(stat2 + field) >>> 2];
  return (
    isSame(STATX.uid) &&
    isSame(STATX.gid) &&
    ((u32[(stat + STATX.mode) >>> 2]! ^ u32[(stat2 + STATX.mode) >>> 2]!) & 0xffff) === 0
  );
}

function makeByDraft(context: Context, { slot, branch }: Clone, { original, target }: Place): number {
  context.actAs(0, 0);
  const own = ownDirectory(context, branch);
  if (own < 0) return own;
  try {
    const draft = writeText(context, context.path, `dir-${context.thread}-${slot}`);
    const made = makeDraft(context, own, draft, original);
    return made < 0 ? made : placeDraft(context, own, draft, target);
  } finally {
    libc.close(own);
  }
}

/** An empty directory `draft` under `own` with everything of `original`, whose struct statx is in `stat2`. */
function makeDraft(context: Context, own: number, draft: number, original: number): number {
  const { base, stat2 } = context;
  let made = libc.mkdirat(own, base + draft, 0o700);
  if (made === -EEXIST) made = 0; // left by a crash; its attributes are set anew below
  if (made < 0) return made;
  const descriptor = openAt(context, own, draft);
  if (descriptor < 0) return descriptor;
  const copied = copyAttributes(context, original, descriptor, stat2);
  if (copied === 0 && statDescriptor(context, descriptor, context.stat) === 0)
    markCopy(context, descriptor, context.stat, stat2);
  libc.close(descriptor);
  if (copied < 0) libc.unlinkat(own, base + draft, AT_REMOVEDIR);
  return copied;
}

/** Renames the draft into place; the times of the directory above are kept: for the union nothing has changed there. */
function placeDraft(context: Context, own: number, draft: number, target: number): number {
  const { base, stat2 } = context;
  const stat = statDescriptor(context, target, stat2);
  if (stat < 0) return stat;
  const result = libc.renameat2(own, base + draft, target, base + context.name, RENAME_NOREPLACE);
  if (result < 0) libc.unlinkat(own, base + draft, AT_REMOVEDIR);
  if (result === -EEXIST) return directoryAt(context, target);
  // It is there, with or without them.
  if (result === 0) setTimes(context, target, stat2);
  return result;
}

/** What stands at the clone's name: 0 for a directory. */
function directoryAt(context: Context, target: number): number {
  const result = context.statName(target, context.base + context.name, context.stat);
  if (result < 0) return result;
  return (context.statMode & S_IFMT) === S_IFDIR ? 0 : -ENOTDIR;
}

function openAt({ base }: Context, directory: number, name: number): number {
  return libc.openat(directory, base + name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
}
