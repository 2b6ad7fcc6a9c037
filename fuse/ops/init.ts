/** INIT: the kernel's offer and what we take of it. Kept in the state memory, as the kernel says it once. */
import { WORD } from '../inode/layout.ts';
import { FUSE_MAJOR, FUSE_MINOR, INIT, INIT_IN, INIT_OUT, INIT2 } from '../protocol/abi.ts';
import { EINVAL } from '../sys/constants.ts';
import type { Context } from './context.ts';

const MAX_WRITE = 1 << 20;
const PAGE = 4096;
const MAX_BACKGROUND = 64;

/**
 * Not ATOMIC_O_TRUNC: the kernel looks whether a file is being executed after such an OPEN, when its content would be gone. Without
 * it, truncation is a SETATTR that comes after the look.
 */
const WANTED =
  INIT.ASYNC_READ |
  INIT.BIG_WRITES |
  INIT.DONT_MASK |
  INIT.DO_READDIRPLUS |
  INIT.READDIRPLUS_AUTO |
  INIT.ASYNC_DIO |
  INIT.PARALLEL_DIROPS |
  INIT.POSIX_ACL |
  INIT.MAX_PAGES |
  INIT.CACHE_SYMLINKS |
  INIT.HANDLE_KILLPRIV_V2 |
  INIT.SETXATTR_EXT |
  INIT.INIT_EXT;

export function init(context: Context): number {
  const { u32 } = context;
  if (context.in32(INIT_IN.major) !== FUSE_MAJOR) return -EINVAL;
  const offered = context.in32(INIT_IN.flags);
  const offered2 = (offered & INIT.INIT_EXT) !== 0 ? context.in32(INIT_IN.flags2) : 0;
  const flags = offered & WANTED;
  const flags2 = offered2 & (context.config.passthrough ? INIT2.PASSTHROUGH : 0);
  u32[WORD.initFlags] = flags;
  u32[WORD.initFlags2] = flags2;
  u32.fill(0, context.out >>> 2, (context.out + INIT_OUT.size) >>> 2);
  context.out32(INIT_OUT.major, FUSE_MAJOR);
  context.out32(INIT_OUT.minor, Math.min(FUSE_MINOR, context.in32(INIT_IN.minor)));
  context.out32(INIT_OUT.readahead, context.in32(INIT_IN.readahead));
  context.out32(INIT_OUT.flags, flags);
  context.out32(INIT_OUT.background, MAX_BACKGROUND | (((MAX_BACKGROUND * 3) / 4) << 16));
  context.out32(INIT_OUT.maxWrite, MAX_WRITE);
  context.out32(INIT_OUT.timeGranularity, 1);
  context.out32(INIT_OUT.maxPages, MAX_WRITE / PAGE);
  context.out32(INIT_OUT.flags2, flags2);
  context.out32(INIT_OUT.maxStackDepth, (flags2 & INIT2.PASSTHROUGH) !== 0 ? 1 : 0);
  Atomics.store(context.i32, WORD.initialised, 1);
  return INIT_OUT.size;
}
