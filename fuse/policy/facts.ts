/**
 * What a policy is told, and nothing else: policies are pure.
 *
 * Hot path: all numbers are plain numbers up to 2^53, and no shape here asks its maker to allocate for each call.
 * The two lookups are interfaces so that the inode table can answer from its own bit masks.
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

/** On which branches the directory that gets the new name exists, and the directories above it. */
export interface ParentPresence {
  /** How many levels there are: 0 is the parent, the last one is the union's root, which every branch has. At least 1. */
  readonly levels: number;
  has(level: number, branchIndex: number): boolean;
}
