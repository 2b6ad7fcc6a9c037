/** Copies owner, mode, extended attributes and times from one file or directory to another, both behind descriptors, O_PATH will do. */
import { STATX } from '../protocol/abi.ts';
import { AT_EMPTY_PATH, DT_LNK, EOPNOTSUPP, EPERM } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { OWN_PREFIX } from './copy-mark.ts';
import { setTimes, startsWith, writeText } from './scratch.ts';

/** `stat` is the position of the source's struct statx. Answers 0 or a negated errno. */
export function copyAttributes(context: Context, from: number, to: number, stat: number): number {
  const { u32, base } = context;
  const source = base + writeText(context, context.path + 512, `/proc/self/fd/${from}`);
  const target = base + writeText(context, context.path + 1024, `/proc/self/fd/${to}`);
  const word = (field: number) => u32[(stat + field) >>> 2]!;
  let result = libc.fchownat(to, base + context.emptyName, word(STATX.uid), word(STATX.gid), AT_EMPTY_PATH);
  if (result < 0) return result;
  const mode = word(STATX.mode) & 0xffff;
  result = mode >>> 12 === DT_LNK ? 0 : libc.chmod(target, mode & 0o7777);
  if (result < 0) return result;
  result = copyXattrs(context, source, target);
  return result < 0 ? result : setTimes(context, to, stat);
}

/** Whether what is behind an O_PATH descriptor has extended attributes; those that are the union's own do not count. */
export function hasAttributes(context: Context, descriptor: number): boolean {
  const names = namesOf(context, context.base + writeText(context, context.path, `/proc/self/fd/${descriptor}`));
  return typeof names === 'number' || names.length > 0;
}

/** Positions of the names of a path's extended attributes, but for the union's own; or a negated errno. */
function namesOf(context: Context, path: number): readonly number[] | number {
  const { base, chunk } = context;
  const size = libc.listxattr(path, base + chunk, 64 * 1024);
  if (size < 0) return size === -EOPNOTSUPP ? [] : size;
  const names: number[] = [];
  for (let at = chunk; at < chunk + size; at += context.lengthAt(at) + 1)
    if (!startsWith(context, at, OWN_PREFIX)) names.push(at);
  return names;
}

function copyXattrs(context: Context, source: number, target: number): number {
  const { base } = context;
  const names = namesOf(context, source);
  if (typeof names === 'number') return names;
  for (const at of names) {
    const length = libc.getxattr(source, base + at, base + context.value, 64 * 1024);
    if (length < 0) return length;
    const result = libc.setxattr(target, base + at, base + context.value, length, 0);
    // Attributes that only the lower filesystem may set (security labels, encryption) are its own business.
    if (result < 0 && result !== -EOPNOTSUPP && result !== -EPERM) return result;
  }
  return 0;
}
