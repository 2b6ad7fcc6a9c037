/**
 * The branches of a union as opened by the server: one O_PATH descriptor of each root, and what each is for.
 * The descriptors belong to the process; threads share their numbers.
 */

import { UnionFsError } from '../errors.ts';
import { MAX_BRANCHES } from '../inode/layout.ts';
import { AT_FDCWD, errnoName, O_CLOEXEC, O_DIRECTORY, O_PATH } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { claimBranch } from './identity.ts';

export type BranchMode = 'RW' | 'RO' | 'NC';

export interface BranchOptions {
  /** Unique in the union and stable: inode numbers are made with it. */
  readonly id: string;
  readonly path: string;
  readonly mode: BranchMode;
  readonly minFreeSpaceBytes: number;
}

export interface OpenBranch extends BranchOptions {
  readonly index: number;
  /** O_PATH descriptor of the branch's root. */
  readonly root: number;
  /** 1 to 32767, upper bits of the inode numbers of files that were made on this branch. */
  readonly inodeTag: number;
}

/** Names in a branch's root that are not shown and not to be made. */
export const OWN_DIRECTORY = '.union';

/**
 * Opens all branches, or none. With a volume id the identity of each is checked, and written where it is missing.
 * Throws UnionFsError that names the branch.
 */
export function openBranches(options: readonly BranchOptions[], volumeId: string | undefined): OpenBranch[] {
  if (options.length === 0) throw new UnionFsError('EINVAL', 'a union needs at least one branch');
  if (options.length > MAX_BRANCHES)
    throw new UnionFsError('EINVAL', `${options.length} branches given, at most ${MAX_BRANCHES} are possible`);
  const tags = inodeTags(options.map((branch) => branch.id));
  const opened: OpenBranch[] = [];
  try {
    options.forEach((branch, index) => {
      const root = openRoot(branch);
      opened.push({ ...branch, index, root, inodeTag: tags[index]! });
      if (volumeId !== undefined) claimBranch(branch, volumeId);
    });
  } catch (error) {
    closeBranches(opened);
    throw error;
  }
  return opened;
}

/** Opens one more branch of a union, to be the one of this index. */
export function openBranch(
  branch: BranchOptions,
  { others, index, volumeId }: { others: readonly OpenBranch[]; index: number; volumeId: string | undefined },
): OpenBranch {
  if (index >= MAX_BRANCHES)
    throw new UnionFsError('EINVAL', `the union has had ${index} branches; for more it must be mounted anew`);
  const inodeTag = inodeTagOf(branch.id, new Set(others.map((other) => other.inodeTag)));
  const opened = { ...branch, index, root: openRoot(branch), inodeTag };
  try {
    if (volumeId !== undefined) claimBranch(branch, volumeId);
    return opened;
  } catch (error) {
    closeBranches([opened]);
    throw error;
  }
}

export function closeBranches(branches: readonly OpenBranch[]): void {
  for (const branch of branches) libc.close(branch.root);
}

function openRoot(branch: BranchOptions): number {
  const root = libc.withCString(branch.path, (path) =>
    libc.openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0),
  );
  if (root < 0)
    throw new UnionFsError(
      errnoName(-root),
      `branch ${branch.id}: cannot open the directory ${branch.path}: ${errnoName(-root)}; every branch must be an existing directory`,
    );
  return root;
}

/** A number for each id that depends on the set of ids only, not on their order. */
export function inodeTags(ids: readonly string[]): number[] {
  const taken = new Set<number>();
  const tags = new Map<string, number>();
  for (const id of [...ids].sort()) {
    const tag = inodeTagOf(id, taken);
    taken.add(tag);
    tags.set(id, tag);
  }
  return ids.map((id) => tags.get(id)!);
}

function inodeTagOf(id: string, taken: ReadonlySet<number>): number {
  let tag = 0;
  for (let i = 0; i < id.length; i++) tag = (Math.imul(tag ^ id.charCodeAt(i), 0x01000193) >>> 0) & 0x7fffffff;
  tag = (tag % 32767) + 1;
  while (taken.has(tag)) tag = (tag % 32767) + 1;
  return tag;
}
