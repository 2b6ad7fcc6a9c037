/**
 * `union-csi where`: the files behind a file of a union, as the union itself tells them (`user.union.branches`).
 * A link or special file has no user attributes in the kernel's eyes; root asks for those by another name.
 */
import { lstatSync, realpathSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { UNION_FS_TYPE } from '../host/mounter.ts';
import { type MountInfo, mountOf } from '../host/mountinfo.ts';
import { readXattr } from '../host/xattrs.ts';
import { parseFlags, UsageError } from './flags.ts';

export const whereHelp = `usage: union-csi where PATH…

Prints where files of a mounted union are: the path on its branch, one line for each PATH. A directory can
be on several branches: a line for each, first the one whose owner and mode show. Links are not followed; of
links and special files only root can ask.

The branch alone, for scripts: getfattr -n user.union.branch PATH
(user.union.branches: all of a directory's, with NULs between)
Example: ls -l "$(union-csi where /mnt/all/film.mkv)"
`;

export async function run(argv: string[]): Promise<number> {
  const { positionals } = parseFlags(whereHelp, { args: argv, allowPositionals: true });
  if (positionals.length === 0) throw new UsageError('a path is missing: union-csi where PATH…');
  for (const path of positionals) for (const file of whereIs(path)) process.stdout.write(`${file}\n`);
  return 0;
}

/** The copies of a file or directory of a union, in the order of its branches. */
export function whereIs(written: string): readonly string[] {
  const isLink = lstatSync(written, { throwIfNoEntry: false })?.isSymbolicLink();
  if (isLink === undefined) throw new Error(`${written} does not exist`);
  const path = isLink ? join(realpathSync(dirname(written)), basename(written)) : realpathSync(written);
  const mount = mountOf(path);
  const isUnion = mount?.fsType === UNION_FS_TYPE;
  if (mount === undefined || !isUnion) throw new Error(`${written} is not on a mounted union`);
  return branchesOf(path, written).map((branch) => lowerPath(branch, path, mount));
}

function branchesOf(path: string, written: string): readonly string[] {
  const bytes = Buffer.from(path);
  const value = readXattr(bytes, 'user.union.branches') ?? readXattr(bytes, 'trusted.union.branches');
  if (value !== undefined) return value.toString().split('\0');
  throw new Error(`${written} is a link or special file: only root can ask where it is; run it with sudo`);
}

/** `root` of a mount is not / where a part of the union is mounted in another place. */
function lowerPath(branch: string, path: string, { root, mountpoint }: MountInfo): string {
  return resolve(join(branch, root, relative(mountpoint, path)));
}
