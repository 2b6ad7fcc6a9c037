/**
 * `union-csi branch`: changes of a mounted union's branches. The server does them; what can be seen without touching the
 * mount is checked here first, as for `mount`.
 */
import { formatBytes } from '../base/units.ts';
import { askMountStatus, findUnion, tellMount } from '../host/mount-control.ts';
import type { MountInfo } from '../host/mountinfo.ts';
import { isWithin } from '../host/mountinfo.ts';
import type { MountedBranch, MountStatus } from '../protocol/mount-control.ts';
import { removeBranch } from './branch-remove.ts';
import { parseFlags, suggestion, UsageError } from './flags.ts';
import { resolveBranches } from './mount-checks.ts';
import { parseBranch } from './mount-options.ts';

export const branchHelp = `usage: union-csi branch add MOUNTPOINT PATH[=MODE[,MINFREE]]
       union-csi branch set MOUNTPOINT PATH=MODE[,MINFREE]
       union-csi branch remove MOUNTPOINT PATH

Changes the branches of a mounted union, at once and without interrupting anyone. Needs root. MODE and
MINFREE are those of union-csi mount.
  add  one more branch, behind the others. Its files show at once, but for those whose names earlier
       branches have: union-csi check names these
  set  another mode or reserve; a MINFREE that is left out stays. Files that are open for writing on a
       branch that becomes RO stay so until they are closed
  remove  moves all files of a branch to the others, open as they may be, and takes it out of the union.
       It waits for files that are open past the server until they are closed, and names them. Ended by
       Ctrl-C it leaves the branch NC; it goes on when it is started again, branch set brings the branch
       back. What other branches hide stays on it. With the files as they are: unmount, mount without it
The next mount does not know of these changes: write them into fstab too.
Examples: union-csi branch add /mnt/all /mnt/disk5
          union-csi branch set /mnt/all /mnt/disk1=NC
          union-csi branch remove /mnt/all /mnt/disk1
`;

const ACTIONS = ['add', 'set', 'remove'] as const;

export async function run(argv: string[]): Promise<number> {
  const { positionals } = parseFlags(branchHelp, { args: argv, allowPositionals: true });
  const [actionText, mountpoint, written, extra] = positionals;
  if (actionText === undefined) throw new UsageError('say add, set or remove; see --help');
  const action = ACTIONS.find((known) => known === actionText);
  if (action === undefined) {
    throw new UsageError(
      `unknown action ${actionText}${suggestion(actionText, ACTIONS) || '; say add, set or remove'}`,
    );
  }
  if (mountpoint === undefined || written === undefined) {
    throw new UsageError(
      `mountpoint and branch are missing: union-csi branch ${action} MOUNTPOINT PATH${action === 'remove' ? '' : '=MODE'}`,
    );
  }
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}; see --help`);
  const mount = findUnion(mountpoint);
  const { signal } = new AbortController(); // ends with the process
  const status = await askMountStatus(mount, signal);
  await { add, set, remove }[action](mount, status, written, signal);
  return 0;
}

async function remove(mount: MountInfo, status: MountStatus, written: string, signal: AbortSignal): Promise<void> {
  await removeBranch(mount, findBranch(mount, status, written).path, signal);
}

/** By the path that the union knows, or another one of the same directory. */
function findBranch(mount: MountInfo, status: MountStatus, pattern: string): MountedBranch {
  const paths = status.branches.map((known) => known.path);
  const path = paths.find((known) => known === pattern) ?? resolveBranches([parseBranch(pattern)], 0)[0]?.path;
  const branch = status.branches.find((known) => known.path === path);
  if (branch !== undefined) return branch;
  throw new Error(`${pattern} is no branch of ${mount.mountpoint}${suggestion(pattern, paths)}`);
}

async function add(mount: MountInfo, status: MountStatus, written: string, signal: AbortSignal): Promise<void> {
  const [branch, second] = resolveBranches([parseBranch(written)], undefined);
  if (branch === undefined || second !== undefined) {
    throw new UsageError(`${written} matches several directories; add one at a time`);
  }
  const { path, mode, minFreeSpaceBytes } = branch;
  for (const other of [mount.mountpoint, ...status.branches.map((known) => known.path)]) {
    if (path === other) throw new Error(`${path} is a branch of ${mount.mountpoint} already`);
    if (isWithin(path, other)) throw new Error(`branch ${path} lies inside ${other}; take another directory`);
    if (isWithin(other, path)) throw new Error(`${other} lies inside branch ${path}; take another directory`);
  }
  await tellMount(mount, { op: 'branch.add', path, mode, minFreeSpaceBytes }, signal);
  process.stdout.write(`${path} is a branch of ${mount.mountpoint} now: ${mode}, ${reserve(minFreeSpaceBytes)}\n`);
}

async function set(mount: MountInfo, status: MountStatus, written: string, signal: AbortSignal): Promise<void> {
  const { path: pattern, mode, minFreeSpaceBytes } = parseBranch(written);
  if (pattern === written) throw new UsageError(`say what to set: ${pattern}=MODE[,MINFREE]`);
  const branch = findBranch(mount, status, pattern);
  const change = { path: branch.path, mode, ...(minFreeSpaceBytes !== undefined && { minFreeSpaceBytes }) };
  await tellMount(mount, { op: 'branch.set', ...change }, signal);
  const kept = minFreeSpaceBytes ?? branch.minFreeSpaceBytes;
  process.stdout.write(`branch ${branch.path} of ${mount.mountpoint}: ${mode}, ${reserve(kept)}\n`);
}

function reserve(bytes: number): string {
  return bytes === 0 ? 'no reserve' : `${formatBytes(bytes)} reserved`;
}
