/** Small helpers over a context's scratch memory, for paths, attributes and times. */
import { STATX } from '../protocol/abi.ts';
import { AT_EMPTY_PATH, STATX_WANTED } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';

/** Longest name of a file, in bytes. */
export const NAME_MAX = 255;

/** struct statx of what is behind a descriptor, O_PATH will do, to a position. Answers 0 or a negated errno. */
export function statDescriptor({ base, emptyName }: Context, descriptor: number, to: number): number {
  return libc.statx(descriptor, base + emptyName, AT_EMPTY_PATH, STATX_WANTED, base + to);
}

/** Access and modification time of what is behind a descriptor, O_PATH will do, from a struct statx. */
export function setTimes(context: Context, descriptor: number, stat: number): number {
  const { u32, base } = context;
  const to = context.argument >>> 2;
  copyTime(u32, (stat + STATX.atime) >>> 2, to);
  copyTime(u32, (stat + STATX.mtime) >>> 2, to + 4);
  return libc.utimensat(descriptor, base + context.emptyName, base + context.argument, AT_EMPTY_PATH);
}

/** Seconds: when the copy of a directory on a branch was last modified; long ago where it does not tell. Uses `stat2`. */
export function modifiedAt(context: Context, slot: number, branch: number): number {
  const { u32, stat2 } = context;
  if (context.statCopy(slot, branch, stat2) < 0) return Number.NEGATIVE_INFINITY;
  const word = (stat2 + STATX.mtime) >>> 2;
  return u32[word]! + (u32[word + 1]! | 0) * 0x100000000 + u32[word + 2]! / 1e9;
}

/** struct timespec of two 64-bit words from the kernel's statx timestamp. */
function copyTime(u32: Uint32Array, from: number, to: number): void {
  u32[to] = u32[from]!;
  u32[to + 1] = u32[from + 1]!;
  u32[to + 2] = u32[from + 2]!;
  u32[to + 3] = 0;
}

/** Whether the NUL-terminated bytes at a position begin with these ASCII characters. */
export function startsWith({ u8 }: Context, position: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (u8[position + i] !== text.charCodeAt(i)) return false;
  return true;
}

/** NUL-terminated ASCII at a position of the scratch; answers the position. For rare paths. */
export function writeText(context: Context, position: number, text: string): number {
  for (let i = 0; i < text.length; i++) context.u8[position + i] = text.charCodeAt(i);
  context.u8[position + text.length] = 0;
  return position;
}
