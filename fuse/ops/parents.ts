/** Making a directory of the union on another of its branches, with those above it, and what is in the way there. */
import { OWN_DIRECTORY } from '../branch/branches.ts';
import { F, ROOT } from '../inode/inode-table.ts';
import { WORD } from '../inode/layout.ts';
import { D } from '../inode/name-index.ts';
import { DT_DIR, ENOENT, ENOTDIR, ENOTEMPTY, ESTALE, errnoName, RENAME_NOREPLACE } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { cloneDirectory } from './clone-directory.ts';
import type { Context } from './context.ts';
import { ownDirectory } from './own-directory.ts';
import { NAME_MAX, setTimes, statDescriptor, writeText } from './scratch.ts';

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
  if (inodes.isUsed(slot) && inodes.kind(slot) === DT_DIR)
    makeDirectoryLocked(context, slot, u32[WORD.makingBranch]!, slot);
  state.put(WORD.makingSlot, 0);
}

/**
 * The same as makeDirectoryOn, under the tree lock. `begun`: what a dead server had begun to make there, or 0. Between the copy and the
 * note of it in the tables, the state memory says what is being made: a copy that nobody knew of would stay when the directory is
 * renamed or removed.
 */
export function makeDirectoryLocked(context: Context, slot: number, branch: number, begun = 0): number {
  const { inodes, names, state } = context;
  if (inodes.onBranch(slot, branch)) return 0;
  if (slot === ROOT) return -ENOENT;
  const dentry = inodes.get(slot, F.dentry);
  if (dentry === 0) return -ESTALE;
  const parent = names.get(dentry, D.parent);
  const above = makeDirectoryLocked(context, parent, branch, begun);
  if (above < 0) return above;
  const clone = { slot, parent, branch, isBegun: slot === begun };
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
  const { base, stat2 } = context;
  const directory = context.directories.descriptor(parent, branch);
  if (directory < 0) return directory;
  const stat = statDescriptor(context, directory, stat2);
  if (stat < 0) return stat;
  const result = setAside(context, parent, base + context.name, branch);
  return result < 0 ? result : setTimes(context, directory, stat2);
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
