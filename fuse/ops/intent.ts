/** What a rename on several branches is going to do, for the intent log (branch/intent.ts). */
import { type IntentStep, type Place, writeIntent } from '../branch/intent.ts';
import { F, ROOT } from '../inode/inode-table.ts';
import { D } from '../inode/name-index.ts';
import { STATX } from '../protocol/abi.ts';
import * as libc from '../sys/libc.ts';
import { type Context, firstBranch, hasBranch, nextBranch } from './context.ts';
import { ownDirectory } from './own-directory.ts';
import type { Target } from './target.ts';

export interface Mask {
  readonly low: number;
  readonly high: number;
}

/** Records a move that touches several branches. Undefined when one rename does it all; '' when it cannot be recorded. */
export function intendMove(
  context: Context,
  source: Target,
  target: Target,
  from: Mask,
  replaced: Mask,
): string | undefined {
  if (isOne(from.low | replaced.low, from.high | replaced.high)) return undefined;
  const steps: IntentStep[] = [];
  for (let branch = 0; branch < context.branchTable.count; branch++) {
    if (hasBranch(from.low, from.high, branch))
      steps.push(stepOf(context, branch, { kind: 'move', from: source, to: target }));
    else if (hasBranch(replaced.low, replaced.high, branch))
      steps.push(stepOf(context, branch, { kind: 'remove', from: target }));
  }
  // What is new comes first: what it replaces goes when it is there.
  steps.sort((a, b) => Number(a.kind === 'remove') - Number(b.kind === 'remove'));
  return record(context, firstBranch(from.low, from.high), steps);
}

export function intendExchange(context: Context, one: Target, other: Target, a: Mask, b: Mask): string | undefined {
  if (isOne(a.low | b.low, a.high | b.high)) return undefined;
  const steps: IntentStep[] = [];
  for (let branch = 0; branch < context.branchTable.count; branch++) {
    const hasA = hasBranch(a.low, a.high, branch);
    const hasB = hasBranch(b.low, b.high, branch);
    if (hasA && hasB) steps.push(stepOf(context, branch, { kind: 'exchange', from: one, to: other }));
    else if (hasA) steps.push(stepOf(context, branch, { kind: 'move', from: one, to: other }));
    else if (hasB) steps.push(stepOf(context, branch, { kind: 'move', from: other, to: one }));
  }
  return record(context, firstBranch(a.low, a.high), steps);
}

/** One branch alone: a single rename, which needs no record. */
function isOne(low: number, high: number): boolean {
  return nextBranch(low, high, firstBranch(low, high) + 1) < 0;
}

function record(context: Context, branch: number, steps: readonly IntentStep[]): string | undefined {
  const own = ownDirectory(context, branch);
  if (own >= 0) libc.close(own);
  try {
    return writeIntent(context.branches[branch]!, steps);
  } catch (error) {
    context.log.error('intent_not_written', { branch: context.branches[branch]!.path, error: String(error) });
    return '';
  }
}

/** A name on a branch that is moved to another, exchanged with it, or removed, and the number of the file there now. */
function stepOf(
  context: Context,
  branch: number,
  step:
    | { readonly kind: 'move' | 'exchange'; readonly from: Target; readonly to: Target }
    | { readonly kind: 'remove'; readonly from: Target },
): IntentStep {
  const { id } = context.branches[branch]!;
  const ino = inodeOf(context, step.from, branch);
  const from = placeOf(context, step.from);
  if (step.kind === 'remove') return { kind: 'remove', branch: id, at: from, ino };
  return { kind: step.kind, branch: id, from, to: placeOf(context, step.to), ino };
}

function inodeOf(context: Context, { parent, position }: Target, branch: number): string {
  const directory = context.directories.descriptor(parent, branch);
  if (directory < 0 || context.statName(directory, context.base + position, context.stat2) < 0) return 'none';
  const word = (context.stat2 + STATX.ino) >>> 2;
  return String(BigInt(context.u32[word]!) | (BigInt(context.u32[word + 1]!) << 32n));
}

/** The names from a branch's root down to one below `parent`. */
export function placeOf(
  context: Context,
  { parent, position, length }: Pick<Target, 'parent' | 'position' | 'length'>,
): Place {
  const { inodes, names, state, u8 } = context;
  const place = [base64(u8, position, length)];
  state.lock();
  for (let slot = parent; slot !== ROOT && slot !== 0; ) {
    const dentry = inodes.get(slot, F.dentry);
    place.unshift(base64(u8, names.get(dentry, D.name), names.nameLength(dentry)));
    slot = names.get(dentry, D.parent);
  }
  state.unlock();
  return place;
}

function base64(u8: Uint8Array, position: number, length: number): string {
  return Buffer.from(u8.slice(position, position + length)).toString('base64');
}
