/** GETATTR, STATX, READLINK, STATFS. */
import { F } from '../inode/inode-table.ts';
import { ATTR_OUT, STATX_OUT } from '../protocol/abi.ts';
import { writeAttrOut, writeStatxOut } from '../protocol/attributes.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { attrTtl } from './lookup.ts';
import { statInode } from './merged-attributes.ts';

export function getattr(context: Context): number {
  return answerAttributes(context, context.slot);
}

/** fuse_attr_out of an inode as it is now. Answers its length or a negated errno. */
export function answerAttributes(context: Context, slot: number): number {
  const result = statInode(context, slot);
  return result < 0 ? result : putAttributes(context, slot);
}

/** fuse_attr_out of an inode whose attributes are in `stat`. Answers its length. */
export function putAttributes(context: Context, slot: number): number {
  const { inodes } = context;
  const ttl = attrTtl(context, slot);
  writeAttrOut(context.u32, context.out, context.stat, inodes.get(slot, F.inoLow), inodes.get(slot, F.inoHigh), ttl);
  return ATTR_OUT.size;
}

export function statx(context: Context): number {
  const { slot, inodes } = context;
  const result = statInode(context, slot);
  if (result < 0) return result;
  const ttl = attrTtl(context, slot);
  writeStatxOut(context.u32, context.out, context.stat, inodes.get(slot, F.inoLow), inodes.get(slot, F.inoHigh), ttl);
  return STATX_OUT.size;
}

export function readlink(context: Context): number {
  const { slot, state } = context;
  for (let attempt = 0; ; attempt++) {
    const stamp = state.changes.stamp(slot);
    let result = context.locate(slot, context.branchOf(slot));
    if (result === 0) result = libc.readlinkat(context.atDescriptor, context.atName, context.base + context.out, 4096);
    if (state.changes.isUnchanged(stamp) || !state.changes.wait(attempt)) return result;
  }
}

/** Distinct lower filesystems once each; available is what a create could use. */
export function statfs(context: Context): number {
  const BLOCK = 4096;
  const seen = new Set<number>();
  const usable = new Set<number>();
  let [total, free, available, files, freeFiles] = [0, 0, 0, 0, 0];
  for (const row of context.space.freshRows()) {
    const isWritable = row.mode === 'RW' && !row.readOnlyFilesystem && !context.gate.isAvoided(row.index);
    const isUsable = isWritable && row.availableBytes >= row.minFreeSpaceBytes;
    if (isUsable && !usable.has(row.device)) available += row.availableBytes;
    if (isUsable) usable.add(row.device);
    if (seen.has(row.device)) continue;
    seen.add(row.device);
    total += row.totalBytes;
    free += row.freeBytes;
    files += row.files;
    freeFiles += row.freeFiles;
  }
  context.u32.fill(0, context.out >>> 2, (context.out + 80) >>> 2);
  context.out64(0, Math.floor(total / BLOCK));
  context.out64(8, Math.floor(free / BLOCK));
  context.out64(16, Math.floor(available / BLOCK));
  context.out64(24, files);
  context.out64(32, freeFiles);
  context.out32(40, BLOCK);
  context.out32(44, 255);
  context.out32(48, BLOCK);
  return 80;
}
