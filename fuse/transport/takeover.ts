/**
 * Taking over the state memory of a server that is dead to the last thread, before any reader starts. Everything here can be
 * killed and repeated.
 *
 *   1. What it was just changing is undone, its locks are freed (State.recover).
 *   2. The branches are opened anew, those that the memory names; one that is not there any more is out (branch/probe.ts). And renames on several of them completed by the intent log.
 *   3. Descriptors of its process are forgotten: of open files, and of pinned inodes, which are found again. Both are counted anew:
 *      the counts are changed without notes.
 *   4. Backing ids that it got and had not noted are closed.
 *
 * The readers then finish the requests that it had read (ops/request.ts). A directory that it was just making on one more branch is made
 * there when somebody needs directories to stay where they are (ops/parents.ts).
 */
import { finishIntents } from '../branch/intent.ts';
import { H } from '../inode/handle-table.ts';
import { F, INODE } from '../inode/inode-table.ts';
import { Journal } from '../inode/journal.ts';
import { MAX_READERS, WORD } from '../inode/layout.ts';
import { type Context, hasUnfinished } from '../ops/context.ts';
import { closeBacking } from '../ops/forget.ts';
import { adoptMoved } from '../ops/moved.ts';
import { pinAgain, removeStaleLinks } from '../ops/nameless.ts';
import { DEV_IOC_BACKING_OPEN } from '../protocol/abi.ts';
import { DT_DIR } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { doubtfulBackings } from './lost-backings.ts';

/** Steps 3 and 4, and the second half of 2; `context` is that of a thread that serves no requests. */
export function takeOver(context: Context): void {
  finishInterrupted(context);
  forgetDescriptors(context);
  const lost = lostBackings(context);
  walkInodes(context, lost);
  for (const id of lost) closeBacking(context, id);
  const { branchTable, inodes } = context;
  removeStaleLinks(
    branchTable.list(),
    (slot, generation) => inodes.isUsed(slot) && inodes.get(slot, F.generation) === generation,
  );
}

function finishInterrupted(context: Context): void {
  const { branchTable, log, config } = context;
  try {
    if (!config.readOnly) adoptMoved(context, finishIntents(branchTable.list()));
  } catch (error) {
    // The request that wrote it is done again, and meets the same obstacle.
    log.error('intent_not_finished', { error: String(error) });
  }
}

function forgetDescriptors({ handles, u32 }: Context): void {
  let count = 0;
  for (let handle = 1; handle < u32[WORD.handleBump]!; handle++) {
    if (!handles.isUsed(handle)) continue;
    handles.set(handle, H.descriptor, 0);
    count++;
  }
  u32[WORD.handleCount] = count;
}

function walkInodes(context: Context, lost: Set<number>): void {
  const { inodes, u32 } = context;
  let count = 0;
  for (let slot = 1; slot < u32[WORD.inodeBump]!; slot++) {
    if (!inodes.has(slot, INODE.used)) continue;
    count++;
    const isDirectory = inodes.kind(slot) === DT_DIR;
    if (isDirectory) inodes.set(slot, F.listers, 0);
    else if (lost.size > 0) lost.delete(inodes.get(slot, F.backing));
    if (!isDirectory && inodes.has(slot, INODE.moving)) inodes.clearFlag(slot, INODE.moving);
    if (inodes.get(slot, F.pinned) !== 0) pinAgain(context, slot);
  }
  u32[WORD.inodeCount] = count;
}

/** Ids that may be nobody's: those that an inode has are taken out by `walkInodes`. */
function lostBackings(context: Context): Set<number> {
  const { u32, argument, base, state } = context;
  u32.fill(0, argument >>> 2, (argument >>> 2) + 4);
  u32[argument >>> 2] = state.fd; // any regular file will do
  const next = libc.ioctl(context.device, DEV_IOC_BACKING_OPEN, base + argument);
  if (next <= 0) return new Set();
  const readers = Array.from({ length: MAX_READERS }, (_, thread) => ({
    last: new Journal(state, thread).lastBacking,
    isBusy: hasUnfinished(state, thread),
  }));
  return doubtfulBackings(next, readers).add(next);
}
