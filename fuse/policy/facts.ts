/**
 * What a policy is told, and nothing else: policies are pure.
 *
 * Hot path: all numbers are plain numbers up to 2^53, and no shape here asks its maker to allocate for each call.
 * The lookups are interfaces so that the inode table can answer from its own bit masks.
 */

export type BranchMode = 'RW' | 'RO' | 'NC';

/** One branch as the union knows it now. Sizes in bytes. */
export interface BranchFacts {
  /** Place of the branch in the union's order; equal to its place in the array that policies are given. */
  readonly index: number;
  readonly mode: BranchMode;
  /** The lower filesystem itself is mounted or was remounted read-only. */
  readonly readOnlyFilesystem: boolean;
  readonly availableBytes: number;
  readonly usedBytes: number;
  readonly totalBytes: number;
  /** A branch with less available than this takes no new files. */
  readonly minFreeSpaceBytes: number;
}

/** Any set of branch indexes: a `Set<number>` will do, or a bit mask behind a method. */
export interface BranchSet {
  has(branchIndex: number): boolean;
}

/** Where something is: the directory that gets a new name and the directories above it, or, with one level, what is looked for. */
export interface Presence {
  /** 0 is the thing itself; of a parent, the last one is the union's root, which every branch has. At least 1. */
  readonly levels: number;
  has(level: number, branchIndex: number): boolean;
  /** Modification time, in seconds, of the copy of level 0 on a branch that has one. Asked by `newest` alone. */
  modifiedAt(branchIndex: number): number;
}
