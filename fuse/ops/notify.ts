/** What the kernel is told unasked of an inode (struct fuse_notify_inval_inode_out). Takes the thread's `path` memory. */
import { NOTIFY_INVAL_INODE } from '../protocol/abi.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';

const BYTES = 40;

/** Attributes are to be asked for again. */
export function invalidateAttributes(context: Context, slot: number): void {
  prepare(context, slot);
  const word = context.path >>> 2;
  context.u32[word + 6] = context.u32[word + 7] = 0xffffffff; // offset -1: no data
  libc.write(context.device, context.base + context.path, BYTES);
}

/** Attributes, and everything that is cached. */
export function invalidateInode(context: Context, slot: number): void {
  prepare(context, slot); // offset 0, length 0: all data
  libc.write(context.device, context.base + context.path, BYTES);
}

function prepare({ u32, path }: Context, slot: number): void {
  const word = path >>> 2;
  u32.fill(0, word, word + BYTES / 4);
  u32[word] = BYTES;
  u32[word + 1] = NOTIFY_INVAL_INODE;
  u32[word + 4] = slot;
}
