/**
 * When a file's branch is full, or to be removed: which files can move to another branch, and to which. mergerfs's `moveonenospc`.
 *
 * A file moves only while all of its handles go through the server: what the kernel has of a passthrough handle cannot be
 * changed. That is why writable handles on a branch below its reserve go through the server from the start (open.ts).
 */
import { F, INODE, ROOT } from '../inode/inode-table.ts';
import { WORD } from '../inode/layout.ts';
import { STATX } from '../protocol/abi.ts';
import { DT_DIR, EBUSY, EINVAL, EMLINK, ENOSPC, EPERM, EROFS, errnoName, isNoSpace } from '../sys/constants.ts';
import { dropBacking } from './backing.ts';
import type { Context } from './context.ts';
import { knownNames } from './find-links.ts';
import { relocate } from './relocate.ts';

/** Whether a file of this branch is likely to need another one soon. */
export function isShort(context: Context, branch: number): boolean {
  if (context.config.movePolicy === undefined) return false;
  return context.space.isFull(branch);
}

/**
 * Moves a file to a branch that has room for it and `bytes` more, which the policy chooses. Answers 0, or -ENOSPC when it stays
 * where it is. Under the file's lock.
 */
export function makeRoom(context: Context, slot: number, bytes: number): number {
  if (context.config.movePolicy === undefined || !begin(context, slot)) return -ENOSPC;
  try {
    return moveSomewhere(context, slot, bytes, 'move');
  } finally {
    end(context, slot);
  }
}

/** Moves a file off a branch that is to be removed. Answers as `moveTo`, and -ENOSPC when no other branch has room. Takes the file's lock. */
export function moveAway(context: Context, slot: number, from: number): number {
  const { inodes, state } = context;
  state.lockFile(slot);
  try {
    if (inodes.get(slot, F.branch) !== from) return 0;
    if (!begin(context, slot)) return -EBUSY;
    try {
      const result = moveSomewhere(context, slot, 0, 'move');
      return result === -ENOSPC ? moveSomewhere(context, slot, 0, 'anywhere') : result;
    } finally {
      end(context, slot);
    }
  } finally {
    state.unlockFile(slot);
  }
}

/** Answers 0, -ENOSPC, or why it can go to no branch. */
function moveSomewhere(context: Context, slot: number, bytes: number, policy: 'move' | 'anywhere'): number {
  const { branches, choice, inodes, space, u32 } = context;
  const from = inodes.get(slot, F.branch);
  const stat = context.statCopy(slot, from, context.stat);
  if (stat < 0) return stat;
  const word = (context.stat + STATX.blocks) >>> 2;
  const needed = (u32[word]! + u32[word + 1]! * 0x100000000) * 512 + bytes;
  choice.begin(knownNames(context, slot)[0]?.parent ?? ROOT, policy);
  for (const row of space.freshRows())
    if (row.index === from || row.availableBytes < needed) choice.leaveOut(row.index);
  for (;;) {
    const to = choice.next();
    if (to < 0) return -ENOSPC;
    const result = relocate(context, slot, to);
    if (result === 0) return 0;
    const where = { from: branches[from]!.path, to: branches[to]!.path };
    if (result === -EPERM || result === -EMLINK) return result;
    if (!isNoSpace(result)) context.log.warn('file_not_moved', { ...where, error: errnoName(-result) });
    choice.leaveOut(to);
  }
}

/** Moves a file to one branch. Answers 0 or a negated errno: -EBUSY while a handle goes past the server. Takes the file's lock. */
export function moveTo(context: Context, slot: number, to: number): number {
  const { branches, inodes, state } = context;
  if (inodes.kind(slot) === DT_DIR) return -EINVAL;
  state.lockFile(slot);
  try {
    const from = inodes.get(slot, F.branch);
    if (context.config.readOnly || branches[from]!.mode === 'RO' || branches[to]!.mode === 'RO') return -EROFS;
    if (branches[to]!.isDraining) return -EBUSY;
    if (!begin(context, slot)) return -EBUSY;
    try {
      return from === to ? 0 : relocate(context, slot, to);
    } finally {
      end(context, slot);
    }
  } finally {
    state.unlockFile(slot);
  }
}

/** Makes sure that a file is not opened past the server from now on. False when it is already. */
function begin(context: Context, slot: number): boolean {
  const { inodes, state } = context;
  if (inodes.kind(slot) === DT_DIR) return false;
  state.lockInode(slot);
  const isFree = inodes.get(slot, F.opens) === 0 || inodes.has(slot, INODE.proxied);
  if (isFree) inodes.setFlag(slot, INODE.moving);
  if (isFree) dropBacking(context, slot);
  state.unlockInode(slot);
  if (isFree) Atomics.add(state.i32, WORD.movesStarted, 1);
  return isFree;
}

function end({ inodes, state }: Context, slot: number): void {
  inodes.clearFlag(slot, INODE.moving);
  Atomics.add(state.i32, WORD.movesEnded, 1);
}
