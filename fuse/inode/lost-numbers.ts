/**
 * Numbers of a branch that comes without its list (branch/numbers.ts): it was removed from the union, where files moved away from
 * it, and is back. The lists of the other branches tell what was in its own: its inode x does not show its own number if another
 * one shows that. It shows the one that is left at the end of the chain: the number of that other inode or, if that is shown as
 * well, of the one that shows it, and so on. What is shown stays a bijection.
 */
import type { BranchTable } from '../branch/table.ts';
import { type NumberRecord, NumberTable } from './number-table.ts';
import type { State } from './state.ts';

/** Assigns what is missing. Reads the whole table where files were ever moved. */
export function assignLostNumbers(state: State, table: BranchTable): void {
  const numbers = new NumberTable(state);
  const branches = new Map(table.list().map(({ index, inodeTag }) => [inodeTag, index]));
  const present = new Set(branches.values());
  const orphans: NumberRecord[] = [];
  for (const record of numbers.records()) {
    if (!present.has(record.branch)) continue;
    const owner = branches.get(record.shownHigh >>> 16);
    if (owner !== undefined && numbers.find(owner, record.shownLow, record.shownHigh & 0xffff) === 0)
      orphans.push(record);
  }
  if (orphans.length === 0) return;
  const own = ({ branch, low, high }: NumberRecord) =>
    joined(low, (((high ^ (high >>> 16)) & 0xffff) | (table.entries[branch]!.inodeTag << 16)) >>> 0);
  const byShown = new Map<bigint, bigint>();
  for (const record of numbers.records())
    if (present.has(record.branch)) byShown.set(joined(record.shownLow, record.shownHigh), own(record));
  state.lock();
  for (const { shownLow, shownHigh } of orphans) {
    const owner = branches.get(shownHigh >>> 16)!;
    const first = joined(shownLow, shownHigh);
    let free = first;
    for (let next = byShown.get(free); next !== undefined && next !== first; next = byShown.get(free)) free = next;
    numbers.assign(owner, shownLow, shownHigh & 0xffff, Number(free & 0xffffffffn), Number(free >> 32n));
    state.settleIfLong();
  }
  state.unlock();
}

function joined(low: number, high: number): bigint {
  return BigInt(low) | (BigInt(high) << 32n);
}
