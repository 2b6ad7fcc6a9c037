/**
 * The end of a branch's removal, after a pass of drain.ts that has left nothing of the union on it but copies of directories:
 *
 *   1. `retireBranch`: the tables know nothing of the branch any more, and what it showed for numbers is recorded on others.
 *      All at once for whoever makes or renames directories (the tree lock)
 *   2. when every request that began before has ended, `clearBranch`: the copies are removed, and with them the union's
 *      records; no descriptor of this process is on the branch, so that it can be unmounted
 *
 * A server that dies in between leaves a branch that is still to be drained, of which the next pass has little to do.
 */
import { closeSync, openSync, readdirSync, rmdirSync } from 'node:fs';
import { OWN_DIRECTORY } from '../branch/branches.ts';
import { recordNumbers } from '../branch/numbers.ts';
import { releaseBranch } from '../branch/release.ts';
import { UnionFsError } from '../errors.ts';
import { F, INODE, ROOT } from '../inode/inode-table.ts';
import { WORD } from '../inode/layout.ts';
import { D, PARTIAL } from '../inode/name-index.ts';
import { DT_DIR, O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from '../sys/constants.ts';
import { type Context, firstBranch, hasBranch } from './context.ts';
import type { Renumbered } from './drain-progress.ts';
import { isBelow, letGo } from './let-go.ts';
import { pinElsewhere } from './nameless.ts';
import { lockTree } from './parents.ts';

/** Records looked at under one hold of the table lock. */
const STEP = 2048;

export interface Retirement {
  readonly branch: number;
  /** BranchTable.renames before the pass began. */
  readonly renames: number;
  readonly renumbered: readonly Renumbered[];
}

/** False, with nothing changed, when something was renamed meanwhile or a directory is only there: another pass is needed. */
export function retireBranch(context: Context, retirement: Retirement): boolean {
  const { state, branchTable } = context;
  const { branch, renames, renumbered } = retirement;
  lockTree(context);
  try {
    if (branchTable.renames(branch) !== renames || hasOnlyCopies(context, branch)) return false;
    recordAll(context, renumbered);
    for (let from = ROOT; from < context.u32[WORD.inodeBump]!; from += STEP) retireInodes(context, branch, from);
    for (let from = 1; from < context.u32[WORD.dentryBump]!; from += STEP) retireNames(context, branch, from);
  } finally {
    state.unlockTree();
  }
  state.dropDescriptors();
  return true;
}

/** Whether a directory with a name is on no other branch. */
function hasOnlyCopies({ inodes, u32 }: Context, branch: number): boolean {
  for (let slot = ROOT; slot < u32[WORD.inodeBump]!; slot++) {
    if (!isDirectoryOn(inodes, slot, branch) || inodes.has(slot, INODE.unlinked)) continue;
    const [low, high] = without(inodes.get(slot, F.maskLow), inodes.get(slot, F.maskHigh), branch);
    if (low === 0 && high === 0) return true;
  }
  return false;
}

function isDirectoryOn(inodes: Context['inodes'], slot: number, branch: number): boolean {
  return inodes.isUsed(slot) && inodes.kind(slot) === DT_DIR && inodes.onBranch(slot, branch);
}

function recordAll(context: Context, renumbered: readonly Renumbered[]): void {
  const { numbers, state } = context;
  for (const [branch, list] of Map.groupBy(renumbered, (one) => one.branch))
    recordNumbers(context.branches[branch]!, list);
  const word = (value: bigint) => Number(value & 0xffffffffn);
  state.lock();
  for (const { branch, ino, number } of renumbered) {
    numbers.assign(branch, word(ino), word(ino >> 32n), word(number), word(number >> 32n));
    state.settleIfLong();
  }
  state.unlock();
}

function retireInodes(context: Context, branch: number, from: number): void {
  const { inodes, state, u32 } = context;
  const ghosts: number[] = [];
  state.lock();
  for (let slot = from; slot < Math.min(from + STEP, u32[WORD.inodeBump]!); slot++) {
    if (!isDirectoryOn(inodes, slot, branch)) continue;
    const [low, high] = without(inodes.get(slot, F.maskLow), inodes.get(slot, F.maskHigh), branch);
    if (low === 0 && high === 0) ghosts.push(slot);
    inodes.set(slot, F.maskLow, low);
    inodes.set(slot, F.maskHigh, high);
    context.attributes.forgetAll(slot);
  }
  state.unlock();
  const other = context.branchTable.list().find(({ index, mode }) => index !== branch && mode !== 'RO');
  if (other !== undefined) for (const slot of ghosts) pinElsewhere(context, slot, other.index);
}

/** Also of files that other branches hide. */
function retireNames(context: Context, branch: number, from: number): void {
  const { inodes, names, state, u32 } = context;
  state.lock();
  for (let dentry = from; dentry < Math.min(from + STEP, u32[WORD.dentryBump]!); dentry++) {
    const [was, wasHigh] = [names.get(dentry, D.maskLow), names.get(dentry, D.maskHigh)];
    if (!hasBranch(was, wasHigh, branch)) continue;
    const [low, high] = without(was, wasHigh, branch);
    names.set(dentry, D.maskLow, low);
    names.set(dentry, D.maskHigh, high);
    if (firstBranch(low, high) >= 0) continue;
    // Nobody has told of it since it went elsewhere: whoever looks it up asks.
    names.set(dentry, D.info, names.get(dentry, D.info) | PARTIAL);
    inodes.clearFlag(names.get(dentry, D.parent), INODE.complete);
  }
  state.unlock();
}

function without(low: number, high: number, branch: number): [low: number, high: number] {
  return branch < 32 ? [(low & ~(1 << branch)) >>> 0, high] : [low, (high & ~(1 << (branch - 32))) >>> 0];
}

export interface Cleared {
  /** Files that are still there: hidden ones, as a pass counts them. */
  readonly files: number;
  /** What `.union` keeps: files that were set aside. */
  readonly kept: readonly string[];
}

/** Leaves an ordinary filesystem. Can be repeated. `hidden` are directories that were never the union's. */
export function clearBranch(
  context: Context,
  branch: number,
  { hidden, volumeId }: { hidden: readonly string[]; volumeId: string | undefined },
): Cleared {
  const { path, root } = context.branches[branch]!;
  const files = removeCopies(`/proc/self/fd/${root}`, '', new Set(hidden));
  const kept = release(path, volumeId);
  letGo(context, branch, isBelow(root));
  return { files, kept };
}

/** Removes directories that are empty. Answers how many files are left. Names are latin1, which is any bytes. */
function removeCopies(directory: string, path: string, hidden: ReadonlySet<string>): number {
  const bytes = Buffer.from(directory, 'latin1');
  const descriptor = openSync(bytes, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (path === '' ? 0 : O_NOFOLLOW));
  try {
    let files = 0;
    for (const entry of readdirSync(`/proc/self/fd/${descriptor}`, { withFileTypes: true, encoding: 'buffer' })) {
      const name = entry.name.toString('latin1');
      const below = `${path}/${name}`;
      if (path === '' && (name === OWN_DIRECTORY || name === 'lost+found')) continue;
      if (!entry.isDirectory() || hidden.has(below)) files++;
      else {
        const child = `/proc/self/fd/${descriptor}/${name}`;
        files += removeCopies(child, below, hidden);
        removeEmpty(Buffer.from(child, 'latin1'));
      }
    }
    return files;
  } finally {
    closeSync(descriptor);
  }
}

function removeEmpty(directory: Buffer): void {
  try {
    rmdirSync(directory);
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}

/** A record of another union is not ours to remove. */
function release(path: string, volumeId: string | undefined): readonly string[] {
  try {
    return releaseBranch(path, volumeId ?? '');
  } catch (error) {
    if (error instanceof UnionFsError) return ['branch.json'];
    throw error;
  }
}
