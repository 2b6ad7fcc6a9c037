/** What the tables say when a file is on another branch than before: its inode, its names, and the numbers that are shown. */
import type { IntentStep } from '../branch/intent.ts';
import { F, INODE } from '../inode/inode-table.ts';
import { WORD } from '../inode/layout.ts';
import { D } from '../inode/name-index.ts';
import { DT_DIR } from '../sys/constants.ts';
import type { Context } from './context.ts';

export interface Moved {
  readonly slot: number;
  readonly from: number;
  readonly to: number;
  /** Lower inode number on the new branch. */
  readonly ino: bigint;
  /** The number that the lower inode on the old branch shows from now on. */
  readonly given: bigint;
}

/** All of it or, when the server is killed meanwhile, nothing. */
export function switchTables(context: Context, { slot, from, to, ino, given }: Moved): void {
  const { inodes, numbers, state, u32 } = context;
  const [oldLow, oldHigh] = [inodes.get(slot, F.lowerLow), inodes.get(slot, F.lowerHigh)];
  const [low, high] = [lowWord(ino), lowWord(ino >> 32n)];
  state.lock();
  const isLinked = inodes.has(slot, INODE.linked);
  if (isLinked) inodes.unlinkFromTable(slot);
  inodes.set(slot, F.branch, to);
  inodes.set(slot, F.lowerLow, low);
  inodes.set(slot, F.lowerHigh, high);
  if (isLinked) inodes.linkIntoTable(slot);
  switchDentries(context, slot, to);
  numbers.assign(to, low, high, inodes.get(slot, F.inoLow), inodes.get(slot, F.inoHigh));
  numbers.assign(from, oldLow, oldHigh, lowWord(given), lowWord(given >> 32n));
  state.put(WORD.movesDone, u32[WORD.movesDone]! + 1);
  state.unlock();
}

/** Under the table lock. */
function switchDentries(context: Context, slot: number, to: number): void {
  const { inodes, names, kept } = context;
  kept.forget(0);
  for (let dentry = inodes.get(slot, F.dentry); dentry !== 0; dentry = names.get(dentry, D.alias)) {
    names.setBranches(dentry, to < 32 ? (1 << to) >>> 0 : 0, to < 32 ? 0 : (1 << (to - 32)) >>> 0);
    kept.forget(dentry);
  }
}

/** A successor completed these steps of the intent log: the files that moved are where the steps say, whatever the tables said. */
export function adoptMoved(context: Context, steps: readonly IntentStep[]): void {
  const branches = context.branchTable.list();
  const numbers = steps.filter((step) => step.kind === 'number');
  for (let at = 0; at + 1 < numbers.length; at += 2) {
    const [target, source] = [numbers[at]!, numbers[at + 1]!];
    const to = branches.find(({ id }) => id === target.branch)?.index;
    const from = branches.find(({ id }) => id === source.branch)?.index;
    if (to === undefined || from === undefined) continue;
    const slot = findFile(context, from, BigInt(source.ino));
    if (slot !== 0) switchTables(context, { slot, from, to, ino: BigInt(target.ino), given: BigInt(source.number) });
  }
}

/** The inode of a lower file, or 0. Looks through the table. */
function findFile({ inodes, u32 }: Context, branch: number, ino: bigint): number {
  const [low, high] = [lowWord(ino), lowWord(ino >> 32n)];
  for (let slot = 1; slot < u32[WORD.inodeBump]!; slot++)
    if (
      inodes.has(slot, INODE.used) &&
      inodes.kind(slot) !== DT_DIR &&
      inodes.get(slot, F.lowerLow) === low &&
      inodes.get(slot, F.lowerHigh) === high &&
      inodes.get(slot, F.branch) === branch
    )
      return slot;
  return 0;
}

function lowWord(value: bigint): number {
  return Number(value & 0xffffffffn);
}
