/**
 * Backing ids: the kernel's handles on lower files that are read and written past the server. An inode keeps its id after the last
 * close, so that the next open costs no system call; BACKING_RING inodes do, and the oldest makes room. They keep it, and
 * their record, also when the kernel forgets them: it drops inodes that it would have to ask for again a moment later.
 *
 * An inode with INODE.idle has a place in the ring. There stand its slot and, above, the last bits of its generation: the slot may have
 * become another file since, which has a place of its own.
 */
import { F, INODE } from '../inode/inode-table.ts';
import { BACKING_RING, IDLE_AT, WORD } from '../inode/layout.ts';
import { DEV_IOC_BACKING_OPEN } from '../protocol/abi.ts';
import { DT_REG } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { closeBacking, forget, freeInode, isFreeable } from './forget.ts';

/** A backing id for an open lower file, or a negated errno. */
export function registerBacking(context: Context, descriptor: number): number {
  const { u32, argument, base } = context;
  const word = argument >>> 2;
  u32[word] = descriptor;
  u32[word + 1] = u32[word + 2] = u32[word + 3] = 0;
  const id = libc.ioctl(context.device, DEV_IOC_BACKING_OPEN, base + argument);
  if (id > 0) context.journal.registered(id);
  return id;
}

/** Keeps the id of an inode that nobody has open any more. Under the inode's lock. */
export function keepBacking(context: Context, slot: number): void {
  const { inodes, state, u32 } = context;
  if (inodes.has(slot, INODE.unlinked)) {
    dropBacking(context, slot);
    return;
  }
  if (inodes.has(slot, INODE.idle)) return;
  state.lock();
  let place = 0;
  let id = IN_USE;
  while (id === IN_USE) {
    const hand = u32[WORD.backingHand]!;
    place = (IDLE_AT >>> 2) + (hand % BACKING_RING);
    state.put(WORD.backingHand, hand + 1);
    id = makeWay(context, u32[place]!, slot);
  }
  state.put(place, markOf(context, slot));
  inodes.setFlag(slot, INODE.idle);
  state.unlock();
  if (id !== 0) closeBacking(context, id);
}

/** Another thread opens or closes the inode just now. */
const IN_USE = -1;
/** MAX_INODES is below 2 to this. */
const SLOT_BITS = 23;

/** What stands in an inode's place. */
function markOf({ inodes }: Context, slot: number): number {
  return (slot | (inodes.get(slot, F.generation) << SLOT_BITS)) >>> 0;
}

/** Takes what has a mark out of the ring for `slot`. Answers the id to be closed, 0, or IN_USE. Under the table lock. */
function makeWay(context: Context, mark: number, slot: number): number {
  const { inodes, state } = context;
  const old = mark & ((1 << SLOT_BITS) - 1);
  if (old === slot || mark !== markOf(context, old) || !inodes.isUsed(old) || inodes.kind(old) !== DT_REG) return 0;
  const isOurs = state.shareLock(old, slot);
  if (!isOurs && !state.tryLockInode(old)) return IN_USE;
  inodes.clearFlag(old, INODE.idle);
  let id = 0;
  if (inodes.get(old, F.opens) === 0) {
    id = inodes.get(old, F.backing);
    context.journal.setClosing(id);
    inodes.set(old, F.backing, 0);
    if (isFreeable(context, old)) freeInode(context, old);
  }
  if (!isOurs) state.unlockInode(old);
  return id;
}

/** Closes an inode's backing id if no handle uses it. */
export function dropBacking(context: Context, slot: number): void {
  const { inodes, state } = context;
  state.lock();
  const isIdle = inodes.get(slot, F.opens) === 0 || inodes.has(slot, INODE.proxied);
  const id = isIdle ? inodes.get(slot, F.backing) : 0;
  if (id !== 0) {
    context.journal.setClosing(id);
    inodes.set(slot, F.backing, 0);
  }
  state.unlock();
  if (id === 0) return;
  closeBacking(context, id);
  // It was only kept for its id.
  if (isFreeable(context, slot)) forget(context, slot, 0);
}
