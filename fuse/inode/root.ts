/** The root directory: on every branch, and never forgotten. */
import type { OpenBranch } from '../branch/branches.ts';
import { readNumbers } from '../branch/numbers.ts';
import type { BranchTable } from '../branch/table.ts';
import { DT_DIR } from '../sys/constants.ts';
import { DirectoryAttributes } from './directory-attributes.ts';
import { F, InodeTable, ROOT } from './inode-table.ts';
import { NumberTable } from './number-table.ts';
import type { State } from './state.ts';

/** The first inode of new state memory, on no branch yet. */
export function makeRoot(state: State): void {
  const inodes = new InodeTable(state);
  inodes.allocate(DT_DIR);
  inodes.set(ROOT, F.lookups, 1);
  inodes.set(ROOT, F.inoLow, 1);
}

/** A branch that was to be removed, and is not: the root is on it again, if it was not any more. */
export function restoreBranch(state: State, index: number): void {
  const inodes = new InodeTable(state);
  state.lock();
  inodes.addBranch(ROOT, index);
  state.unlock();
}

/** One more branch, behind the others. The root is on it before the policies hear of it: they may choose it at once. Throws UnionFsError. */
export function appendBranch(state: State, table: BranchTable, branch: OpenBranch): void {
  const index = table.prepare(branch);
  const inodes = new InodeTable(state);
  state.lock();
  inodes.addBranch(ROOT, index);
  state.unlock();
  new DirectoryAttributes(state, inodes).forgetAll(ROOT);
  const numbers = new NumberTable(state);
  const low = (value: bigint) => Number(value & 0xffffffffn);
  const known = readNumbers(branch);
  state.lock();
  for (const { ino, number } of known) {
    numbers.assign(index, low(ino), low(ino >> 32n), low(number), low(number >> 32n));
    state.settleIfLong();
  }
  state.unlock();
  table.publish();
}
