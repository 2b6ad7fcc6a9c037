/** LOOKUP, FORGET, BATCH_FORGET, and the entry that LOOKUP and everything that makes a name answer with. */
import { F, INODE } from '../inode/inode-table.ts';
import { ENTRY } from '../protocol/abi.ts';
import { writeEntry, writeNegativeEntry } from '../protocol/attributes.ts';
import { DT_DIR, ENAMETOOLONG } from '../sys/constants.ts';
import { type Context, NO_REPLY } from './context.ts';
import { forgetForKernel } from './forget.ts';
import { NAME_MAX } from './scratch.ts';
import { findChild } from './tree.ts';

export function lookup(context: Context): number {
  const length = context.lengthAt(context.body);
  if (length > NAME_MAX) return -ENAMETOOLONG;
  const slot = findChild(context, context.slot, context.body, length);
  if (slot < 0) return slot;
  if (slot === 0) writeNegativeEntry(context.u32, context.out, context.entryTtl);
  else putEntry(context, context.out, slot);
  return ENTRY.size;
}

/** fuse_entry_out of an inode whose attributes are in `stat`. The kernel counts one lookup for it. */
export function putEntry(context: Context, to: number, slot: number): void {
  const { entry, inodes } = context;
  entry.node = slot;
  entry.generation = inodes.get(slot, F.generation);
  entry.inoLow = inodes.get(slot, F.inoLow);
  entry.inoHigh = inodes.get(slot, F.inoHigh);
  entry.entryTtl = context.entryTtl;
  entry.attrTtl = attrTtl(context, slot);
  writeEntry(context.u32, to, context.stat, entry);
}

/** Seconds: none while a writable handle may change the file behind the kernel's back (through a mapping, say). */
export function attrTtl(context: Context, slot: number): number {
  const { inodes } = context;
  if (inodes.kind(slot) !== DT_DIR && inodes.get(slot, F.writers) !== 0 && !inodes.has(slot, INODE.proxied)) return 0;
  return context.entryTtl;
}

export function forgetOne(context: Context): number {
  if (context.journal.forgotten === 0) forgetForKernel(context, context.slot, context.in64(0));
  return NO_REPLY;
}

export function batchForget(context: Context): number {
  const count = context.in32(0);
  for (let i = context.journal.forgotten; i < count; i++)
    forgetForKernel(context, context.in32(8 + i * 16), context.in64(16 + i * 16));
  return NO_REPLY;
}
