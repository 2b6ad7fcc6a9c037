/** The directory `.union` of a branch, for operations. */
import { OWN_DIRECTORY } from '../branch/branches.ts';
import { EEXIST, ENOENT, O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_PATH } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { writeText } from './scratch.ts';

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
