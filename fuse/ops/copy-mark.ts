/**
 * Which copies of a directory are copies, where their birth times do not tell: a directory made and copied within one tick of the
 * clock. Its number must be found again after any remount, so such a copy is marked by an extended attribute. Names that begin
 * with `trusted.union.` are the union's own: they are not shown.
 */
import { STATX } from '../protocol/abi.ts';
import { O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_PATH } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { isLater } from './merged-attributes.ts';
import { writeText } from './scratch.ts';

export const OWN_PREFIX = 'trusted.union.';
const MARK = `${OWN_PREFIX}copy`;

/** Marks the copy behind a descriptor unless it is younger than the original. Positions of their structs statx are given. */
export function markCopy(context: Context, descriptor: number, copy: number, original: number): void {
  if (isLater(context.u32, (copy + STATX.btime) >>> 2, (original + STATX.btime) >>> 2)) return;
  // Where attributes are not to be had, the number may change: nothing worse.
  libc.setxattr(pathOf(context, descriptor), textAt(context), context.base + context.emptyName, 0, 0);
}

/** Whether the directory of a name, `name` an address, is marked. */
export function isMarked(context: Context, directory: number, name: number): boolean {
  const descriptor = libc.openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
  if (descriptor < 0) return false;
  const length = libc.getxattr(pathOf(context, descriptor), textAt(context), 0, 0);
  libc.close(descriptor);
  return length >= 0;
}

function pathOf(context: Context, descriptor: number): number {
  return context.base + writeText(context, context.path + 2048, `/proc/self/fd/${descriptor}`);
}

function textAt(context: Context): number {
  return context.base + writeText(context, context.path + 2560, MARK);
}
