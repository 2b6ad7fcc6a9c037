/**
 * Making a directory of the union on another of its branches, with mode, owner, extended attributes (ACLs among them) and
 * times of the original. It is made under `.union/` and renamed into place: a crash leaves no half-made directory.
 */
import { OWN_DIRECTORY } from '../branch/branches.ts';
import { F, ROOT } from '../inode/inode-table.ts';
import { WORD } from '../inode/layout.ts';
import { D } from '../inode/name-index.ts';
import {
  AT_EMPTY_PATH,
  AT_REMOVEDIR,
  AT_SYMLINK_NOFOLLOW,
  DT_DIR,
  EEXIST,
  ENOENT,
  ENOTDIR,
  ENOTEMPTY,
  ESTALE,
  errnoName,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  RENAME_NOREPLACE,
  S_IFDIR,
  S_IFMT,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { copyAttributes } from './copy-attributes.ts';
import { markCopy } from './copy-mark.ts';
import { NAME_MAX, setTimes, writeText } from './scratch.ts';

/** Makes directory `slot`, and what is above it, on `branch`. Answers 0, or a negated errno. Repeating it is harmless. */
export function makeDirectoryOn(context: Context, slot: number, branch: number): number {
  if (context.inodes.onBranch(slot, branch)) return 0;
  lockTree(context);
  const result = makeDirectoryLocked(context, slot, branch);
  context.state.unlockTree();
  return result;
}

/**
 * Takes the tree lock: directories are where the tables say. What a dead server was just making is made first: whoever does its
 * request again may choose another branch. Not earlier, as that branch may not answer.
 */
export function lockTree(context: Context): void {
  const { inodes, state, u32 } = context;
  state.lockTree();
  const slot = u32[WORD.makingSlot]!;
  if (slot === 0) return;
  // One whose branch is out is found when that is learned anew (relearn.ts).
  if (inodes.isUsed(slot) && inodes.kind(slot) === DT_DIR) makeDirectoryLocked(context, slot, u32[WORD.makingBranch]!);
  state.put(WORD.makingSlot, 0);
}

/**
 * The same as makeDirectoryOn, under the tree lock. Between the copy and the note of it in the tables, the state memory says what is
 * being made: a copy that nobody knew of would stay when the directory is renamed or removed.
 */
export function makeDirectoryLocked(context: Context, slot: number, branch: number): number {
  const { inodes, names, state } = context;
  if (inodes.onBranch(slot, branch)) return 0;
  if (slot === ROOT) return -ENOENT;
  const dentry = inodes.get(slot, F.dentry);
  if (dentry === 0) return -ESTALE;
  const parent = names.get(dentry, D.parent);
  const above = makeDirectoryLocked(context, parent, branch);
  if (above < 0) return above;
  const clone = { slot, dentry, parent, branch };
  state.put(WORD.makingBranch, branch);
  state.put(WORD.makingSlot, slot);
  let result = cloneDirectory(context, clone);
  // A file that the directory hides stands in its place: it neither appears nor is lost.
  if (result === -ENOTDIR && branch > context.branchOf(slot)) {
    result = makeRoom(context, parent, branch);
    if (result === 0) result = cloneDirectory(context, clone);
  }
  state.lock();
  if (result === 0) {
    inodes.addBranch(slot, branch);
    names.addBranch(dentry, branch);
  }
  state.put(WORD.makingSlot, 0);
  state.unlock();
  if (result < 0) return result;
  context.attributes.forgetAll(slot);
  context.attributes.markChanged(parent, branch);
  return 0;
}

/** Sets aside what stands at `context.name`; for the union nothing has changed in the directory, so it keeps its times. */
function makeRoom(context: Context, parent: number, branch: number): number {
  const { base, emptyName, stat2 } = context;
  const directory = context.directories.descriptor(parent, branch);
  if (directory < 0) return directory;
  const stat = libc.statx(directory, base + emptyName, AT_EMPTY_PATH, 0xfff, base + stat2);
  if (stat < 0) return stat;
  const result = setAside(context, parent, base + context.name, branch);
  return result < 0 ? result : setTimes(context, directory, stat2);
}

interface Clone {
  readonly slot: number;
  readonly dentry: number;
  readonly parent: number;
  readonly branch: number;
}

function cloneDirectory(context: Context, { slot, dentry, parent, branch }: Clone): number {
  const { base, names, u8 } = context;
  const original = context.directories.descriptor(slot, context.shown.branch(slot, 'getattr'));
  if (original < 0) return original;
  const target = context.directories.descriptor(parent, branch);
  if (target < 0) return target;
  const name = context.name;
  const length = names.nameLength(dentry);
  u8.copyWithin(name, names.get(dentry, D.name), names.get(dentry, D.name) + length + 1);
  context.actAsServer();
  const own = ownDirectory(context, branch);
  if (own < 0) return own;
  try {
    const draft = writeText(context, context.path, `dir-${context.thread}-${slot}`);
    const made = makeDraft(context, own, draft, original);
    if (made < 0) return made;
    return placeDraft(context, own, base + draft, target, base + name);
  } finally {
    libc.close(own);
  }
}

/** An empty directory `draft` under `own` with everything of `original`. */
function makeDraft(context: Context, own: number, draft: number, original: number): number {
  const { base } = context;
  const stat = libc.statx(original, base + context.emptyName, AT_EMPTY_PATH, 0xfff, base + context.stat2);
  if (stat < 0) return stat;
  let made = libc.mkdirat(own, base + draft, 0o700);
  if (made === -EEXIST) made = 0; // left by a crash; its attributes are set anew below
  if (made < 0) return made;
  const descriptor = libc.openat(own, base + draft, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
  if (descriptor < 0) return descriptor;
  const copied = copyAttributes(context, original, descriptor, context.stat2);
  if (copied === 0) markCopy(context, descriptor, context.stat2);
  libc.close(descriptor);
  if (copied < 0) libc.unlinkat(own, base + draft, AT_REMOVEDIR);
  return copied;
}

/** Renames the draft into place; the times of the directory above are kept: for the union nothing has changed there. */
function placeDraft(context: Context, own: number, draft: number, target: number, name: number): number {
  const { base } = context;
  const stat = libc.statx(target, base + context.emptyName, AT_EMPTY_PATH, 0xfff, base + context.stat2);
  if (stat < 0) return stat;
  let result = libc.renameat2(own, draft, target, name, RENAME_NOREPLACE);
  if (result === -EEXIST) {
    libc.unlinkat(own, draft, AT_REMOVEDIR);
    result = libc.statx(target, name, AT_SYMLINK_NOFOLLOW, 0xfff, base + context.stat);
    if (result < 0) return result;
    return (context.statMode & S_IFMT) === S_IFDIR ? 0 : -ENOTDIR;
  }
  if (result < 0) libc.unlinkat(own, draft, AT_REMOVEDIR);
  // It is there, with or without them.
  else setTimes(context, target, context.stat2);
  return result;
}

/** An O_PATH descriptor of a branch's `.union`, made where it is missing. The caller closes it. */
export function ownDirectory(context: Context, branch: number): number {
  const { base } = context;
  const closed = context.gate.enter(branch);
  if (closed < 0) return closed;
  const root = context.branches[branch]!.root;
  const position = writeText(context, context.path, OWN_DIRECTORY);
  const flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  const found = libc.openat(root, base + position, flags, 0);
  if (found !== -ENOENT) return found;
  const made = libc.mkdirat(root, base + position, 0o700);
  if (made < 0 && made !== -EEXIST) return made;
  return libc.openat(root, base + position, flags, 0);
}

/**
 * Moves a file that another branch's file of the same name hides out of the way, to `.union/hidden-…-NAME` of its branch: when
 * the visible one is removed or renamed, the hidden one must neither appear nor be lost.
 */
export function setAside(context: Context, parent: number, name: number, branch: number): number {
  const { base } = context;
  const from = context.directories.descriptor(parent, branch);
  if (from < 0) return from;
  const own = ownDirectory(context, branch);
  if (own < 0) return own;
  const text = `hidden-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}-`;
  const draft = writeText(context, context.path, text);
  appendName(context, draft + text.length, name - base, NAME_MAX - text.length);
  const result = libc.renameat2(from, name, own, base + draft, RENAME_NOREPLACE);
  libc.close(own);
  context.attributes.markChanged(parent, branch);
  if (result === -ENOENT) return 0;
  if (result < 0 && result !== -ENOTEMPTY)
    context.log.warn('hidden_file_kept', { branch: context.branches[branch]!.path, error: errnoName(-result) });
  else
    context.log.warn('hidden_file_set_aside', {
      branch: context.branches[branch]!.path,
      to: `${OWN_DIRECTORY}/${text}…`,
    });
  return result;
}

/** Copies as much of the name at `name` as fits in `limit` bytes, and its NUL. */
function appendName(context: Context, to: number, name: number, limit: number): void {
  const length = Math.min(context.lengthAt(name), limit);
  context.u8.copyWithin(to, name, name + length);
  context.u8[to + length] = 0;
}
