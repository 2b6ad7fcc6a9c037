/**
 * Keeps the name index within bounds. Directories stay in it, with their names, after the kernel forgot them: what was learned
 * stays true. When names that the kernel does not know are more than MAX_IDLE_NAMES, a hand goes round the inode table and
 * takes directories out, a few names at a time, so that no request waits long.
 */
import { F, INODE, ROOT } from '../inode/inode-table.ts';
import { WORD } from '../inode/layout.ts';
import { D } from '../inode/name-index.ts';
import { DT_DIR } from '../sys/constants.ts';
import type { Context } from './context.ts';
import { freeInode, isFreeable } from './forget.ts';

/** About 80 MB. */
export const MAX_IDLE_NAMES = 1_000_000;
/** Per call: inode records looked at, and names taken out. */
const MAX_STEPS = 256;

/** Without the table lock. Does nothing while there are few names. */
export function evictNames(context: Context, maxIdleNames = MAX_IDLE_NAMES): void {
  const { u32, state } = context;
  if (u32[WORD.dentryCount]! - u32[WORD.inodeCount]! <= maxIdleNames) return;
  state.lock();
  for (let step = 0; step < MAX_STEPS; step++) {
    let slot = u32[WORD.evictHand]!;
    if (slot < ROOT || slot >= u32[WORD.inodeBump]!) slot = ROOT;
    const left = isCandidate(context, slot) ? takeNames(context, slot, MAX_STEPS) : 0;
    state.put(WORD.evictHand, left > 0 ? slot : slot + 1);
    if (left > 0) break;
  }
  state.unlock();
}

function isCandidate({ inodes }: Context, slot: number): boolean {
  // One that is being listed needs its names to tell those of several branches apart.
  return inodes.isUsed(slot) && inodes.kind(slot) === DT_DIR && inodes.get(slot, F.listers) === 0;
}

/** Takes out up to `limit` names without inode below a directory. Answers whether there may be more: 1 or 0. */
function takeNames(context: Context, slot: number, limit: number): number {
  const { inodes, names } = context;
  inodes.clearFlag(slot, INODE.complete);
  let taken = 0;
  let seen = 0;
  for (let child = inodes.get(slot, F.firstChild); child !== 0 && taken < limit && seen < 4 * limit; seen++) {
    const next = names.get(child, D.nextSibling);
    if (names.get(child, D.inode) === 0) {
      names.remove(child);
      context.state.settleIfLong();
      taken++;
    }
    child = next;
  }
  if (isFreeable(context, slot) && inodes.get(slot, F.pinned) === 0 && taken < limit) freeInode(context, slot);
  return taken === limit ? 1 : 0;
}
