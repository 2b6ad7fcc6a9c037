/**
 * What must be true on this machine before a union is mounted, with an error for each thing that is not.
 * Invariant kept: the mountpoint is in no branch and no branch below the mountpoint, else the server would ask itself and hang.
 */
import { existsSync, globSync, realpathSync, statfsSync, statSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';
import { isWithin, mountAt } from '../host/mountinfo.ts';
import type { BranchMode } from '../protocol/resources.ts';
import type { BranchPattern } from './mount-options.ts';

export interface MountBranch {
  /** The path: inode numbers stay the same when branches are added or change places. */
  readonly id: string;
  readonly path: string;
  readonly mode: BranchMode;
  readonly minFreeSpaceBytes: number;
}

export function checkMachine(): void {
  if (process.getuid?.() !== 0) throw new Error('mounting needs root; run it with sudo');
  if (!existsSync('/dev/fuse')) throw new Error('/dev/fuse is missing; load the kernel module with modprobe fuse');
}

/** Expands globs, makes paths real, and refuses branches that are missing, no directories, the same or nested. */
export function resolveBranches(
  patterns: readonly BranchPattern[],
  defaultMinFree: number | undefined,
): readonly MountBranch[] {
  const branches: (MountBranch & { identity: string })[] = [];
  for (const { path: pattern, mode, minFreeSpaceBytes } of patterns) {
    for (const written of expand(pattern)) {
      const stat = statSync(written);
      if (!stat.isDirectory()) throw new Error(`branch ${written} is not a directory`);
      const path = realpathSync(written);
      const identity = `${stat.dev}:${stat.ino}`;
      for (const other of branches) {
        if (other.identity === identity) throw new Error(`branch ${written} is given twice, first as ${other.path}`);
        const [inner, outer] = isWithin(path, other.path) ? [path, other.path] : [other.path, path];
        if (isWithin(inner, outer))
          throw new Error(`branch ${inner} lies inside branch ${outer}; take one of them out`);
      }
      const minFree = minFreeSpaceBytes ?? defaultMinFree ?? smallReserve(path);
      branches.push({ id: path, path, mode, minFreeSpaceBytes: minFree, identity });
    }
  }
  return branches.map(({ id, path, mode, minFreeSpaceBytes }) => ({ id, path, mode, minFreeSpaceBytes }));
}

/** The real path of a directory that can be mounted on. A union already there, alive or dead, must go first. */
export function resolveMountpoint(written: string, branches: readonly MountBranch[]): string {
  const inPlace = mountAt(resolve(written));
  if (inPlace?.fsType === 'fuse.union') {
    throw new Error(`a union is already mounted at ${written}; unmount it first with umount ${written}`);
  }
  if (!existsSync(written)) throw new Error(`mountpoint ${written} does not exist; create it with mkdir`);
  const path = realpathSync(written);
  if (!statSync(path).isDirectory()) throw new Error(`mountpoint ${written} is not a directory`);
  for (const branch of branches) {
    if (isWithin(path, branch.path)) {
      throw new Error(`mountpoint ${path} lies inside branch ${branch.path}; mount somewhere else`);
    }
    if (isWithin(branch.path, path)) {
      throw new Error(
        `branch ${branch.path} lies below the mountpoint ${path}, which would hide it; mount somewhere else`,
      );
    }
  }
  return path;
}

/** A path that exists is itself, whatever characters it has; anything else is a pattern of directories, in the order of names. */
function expand(pattern: string): readonly string[] {
  if (existsSync(pattern)) return [pattern];
  if (!/[*?[\]{}]/.test(pattern)) throw new Error(`branch ${pattern} does not exist`);
  const matches = globSync(pattern)
    .map((match) => (isAbsolute(match) ? match : resolve(match)))
    .filter((match) => statSync(match).isDirectory())
    .sort();
  if (matches.length === 0) throw new Error(`branch ${pattern} matches no directory`);
  return matches;
}

const MOST_RESERVED_BYTES = 4 * 1024 ** 3;

/** mergerfs reserves 4 GiB, which would make a small branch take no file at all. */
function smallReserve(path: string): number {
  const { blocks, bsize } = statfsSync(path);
  return Math.min(MOST_RESERVED_BYTES, Math.floor((blocks * bsize) / 20));
}
