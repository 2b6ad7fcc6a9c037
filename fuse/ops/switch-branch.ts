/**
 * The second half of a move (relocate.ts): from the moment when a complete copy is on the other branch to the one when the file
 * is there and nowhere else. The steps are done by the code that completes them after a crash (branch/intent.ts).
 */
import type { OpenBranch } from '../branch/branches.ts';
import { type IntentStep, performStep, removeIntent, syncPlaces, writeIntent } from '../branch/intent.ts';
import { F, INODE } from '../inode/inode-table.ts';
import { STATX } from '../protocol/abi.ts';
import { AT_FDCWD, EIO, ESTALE, errnoName, O_CLOEXEC, O_PATH } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { type Name, placeName } from './find-links.ts';
import { shownHigh, shownLow } from './inode-number.ts';
import { placeOf } from './intent.ts';
import { switchTables } from './moved.ts';
import { linkOpen, unlinkOpen } from './nameless.ts';
import { hideOthers } from './remove.ts';
import { setTimes, statDescriptor, writeText } from './scratch.ts';
import { lookAgain, newTarget, setName } from './target.ts';

/** A file that is being moved, and its copy. */
export interface Move {
  readonly slot: number;
  readonly from: number;
  readonly to: number;
  readonly names: readonly Name[];
  /** The copy's name in `.union`, '' if it has none; a descriptor of it; its lower inode number. */
  readonly draft: string;
  readonly descriptor: number;
  readonly ino: bigint;
}

/** The lower inode number in the struct statx at `stat`. */
export function inoAt({ u32 }: Context, stat: number): bigint {
  const word = (stat + STATX.ino) >>> 2;
  return joined(u32[word]!, u32[word + 1]!);
}

function joined(low: number, high: number): bigint {
  return BigInt(low) | (BigInt(high) << 32n);
}

/** A file without a name. Answers 0. */
export function switchNameless(context: Context, move: Move): number {
  const { state } = context;
  state.changes.begin(move.slot);
  state.lockInodeAnyhow(move.slot);
  switchInode(context, move);
  state.unlockInode(move.slot);
  state.changes.end();
  return 0;
}

/** Answers 0, or a negated errno when nothing has changed but that the copy is of no use. */
export function switchNamed(context: Context, move: Move): number {
  const hidden = hideCopies(context, move);
  if (hidden < 0) return hidden;
  context.state.lockTreeAnyhow();
  try {
    const steps = stepsOf(context, move);
    const intent = record(context, context.branches[move.to]!, steps.all);
    if (intent === undefined) return -EIO;
    context.onMoveStep('intended');
    const result = switchNames(context, move, steps);
    if (result < 0) removeIntent(intent);
    else finish(context, intent, steps, result === REMOVED);
    return Math.min(result, REMOVED);
  } finally {
    context.state.unlockTree();
  }
}

/** What other branches have under the file's names must not show, or be in the way, when the file comes behind them. */
function hideCopies(context: Context, { slot, from, to, names }: Move): number {
  if (to < from) return 0;
  for (const { parent, bytes } of names) {
    const target = newTarget();
    setName(context, target, { parent, position: placeName(context, bytes), length: bytes.length });
    target.slot = slot;
    lookAgain(context, target);
    if (target.first !== from) return -ESTALE;
    hideOthers(context, target);
  }
  return 0;
}

interface Steps {
  readonly links: readonly IntentStep[];
  /** The copy's own name and those of the original. */
  readonly removals: readonly IntentStep[];
  readonly numbers: readonly IntentStep[];
  readonly all: readonly IntentStep[];
}

function stepsOf(context: Context, move: Move): Steps {
  const { branches, inodes } = context;
  const { slot, from, to, draft } = move;
  const [lowerLow, lowerHigh] = [inodes.get(slot, F.lowerLow), inodes.get(slot, F.lowerHigh)];
  const [old, ino] = [String(joined(lowerLow, lowerHigh)), String(move.ino)];
  const [source, target] = [branches[from]!.id, branches[to]!.id];
  const places = move.names.map(({ parent, bytes }) =>
    placeOf(context, { parent, position: placeName(context, bytes), length: bytes.length }),
  );
  const own = ['.union', draft].map((name) => Buffer.from(name).toString('base64'));
  const links = places.map((place): IntentStep => ({ kind: 'link', branch: target, from: own, to: place, ino }));
  const removals: IntentStep[] = [
    { kind: 'remove', branch: target, at: own, ino },
    ...places.map((place): IntentStep => ({ kind: 'remove', branch: source, at: place, ino: old })),
  ];
  const { kept, given } = numbersOf(context, move);
  const numbers: IntentStep[] = [
    { kind: 'number', branch: target, ino, number: String(kept) },
    { kind: 'number', branch: source, ino: old, number: String(given) },
  ];
  return { links, removals, numbers, all: [...links, ...removals, ...numbers] };
}

/** The number that the file keeps, and the one of its new lower inode, which goes to the old one. */
function numbersOf(context: Context, { slot, to, ino }: Move): { kept: bigint; given: bigint } {
  const [low, high] = [Number(ino & 0xffffffffn), Number(ino >> 32n)];
  const kept = joined(context.inodes.get(slot, F.inoLow), context.inodes.get(slot, F.inoHigh));
  return { kept, given: joined(shownLow(context, to, low, high), shownHigh(context, to, low, high)) };
}

function record(context: Context, branch: OpenBranch, steps: readonly IntentStep[]): string | undefined {
  try {
    return writeIntent(branch, steps);
  } catch (error) {
    context.log.warn('intent_not_written', { branch: branch.path, error: String(error) });
    return undefined;
  }
}

const [REMOVED, NOT_REMOVED] = [0, 1];

/** Answers whether the original's names could be removed, or a negated errno when nothing has changed. */
function switchNames(context: Context, move: Move, { links, removals }: Steps): number {
  const { state } = context;
  const times = directoryTimes(context, move);
  state.switchBegin();
  state.changes.begin(move.slot);
  state.lockInodeAnyhow(move.slot);
  try {
    const linked = performAll(context, links);
    if (linked < 0) {
      performAll(context, links.map(undoLink));
      return linked;
    }
    const removed = performAll(context, removals);
    switchInode(context, move);
    return removed < 0 ? NOT_REMOVED : REMOVED;
  } finally {
    state.unlockInode(move.slot);
    state.changes.end();
    state.switchEnd();
    restoreTimes(context, times);
  }
}

function undoLink(step: IntentStep): IntentStep {
  return step.kind === 'link' ? { kind: 'remove', branch: step.branch, at: step.to, ino: step.ino } : step;
}

/** Answers 0, or the first error; removals go on after one. */
function performAll(context: Context, steps: readonly IntentStep[]): number {
  let failure = 0;
  const branches = context.branchTable.list();
  for (const step of steps) {
    const branch = branches.find(({ id }) => id === step.branch)!;
    const result = performStep(branch, step);
    if (result < 0) {
      failure ||= result;
      const level = step.kind === 'link' ? 'warn' : 'error';
      context.log[level]('move_step_failed', { branch: branch.path, step: step.kind, error: errnoName(-result) });
    }
    if (result < 0 && step.kind === 'link') break;
    context.onMoveStep(step.kind);
  }
  return failure;
}

/** The file is on the other branch. What could not be removed or recorded is left to the next start: its intent stays. */
function finish(context: Context, intent: string, { links, removals, numbers }: Steps, isRemoved: boolean): void {
  const branches = context.branchTable.list();
  for (const step of [...links, ...removals]) if (step.kind !== 'number') syncPlaces(branches, step);
  context.onMoveStep('synced');
  const isNumbered = performAll(context, numbers) === 0;
  if (isRemoved && isNumbered) removeIntent(intent);
  else context.log.error('move_unfinished', { intent });
}

/** Under the inode's lock: nobody opens or closes the file. Its handles are proxied, all of them. */
function switchInode(context: Context, move: Move): void {
  const { inodes } = context;
  const { slot, from, to, ino, descriptor } = move;
  for (const open of context.handles.descriptorsOf(slot)) libc.dup3(descriptor, open, O_CLOEXEC);
  switchPin(context, slot, descriptor);
  const isKept = inodes.has(slot, INODE.kept);
  if (isKept) linkOpen(context, slot, to, descriptor);
  switchTables(context, { slot, from, to, ino, given: numbersOf(context, move).given });
  if (isKept) unlinkOpen(context, slot, inodes.get(slot, F.generation), from);
}

/** A file without a name is reached by a descriptor. */
function switchPin(context: Context, slot: number, descriptor: number): void {
  const pinned = context.inodes.get(slot, F.pinned);
  if (pinned === 0) return;
  const path = writeText(context, context.path, `/proc/self/fd/${descriptor}`);
  const pin = libc.openat(AT_FDCWD, context.base + path, O_PATH | O_CLOEXEC, 0);
  libc.dup3(pin < 0 ? descriptor : pin, pinned - 1, O_CLOEXEC);
  if (pin >= 0) libc.close(pin);
}

interface DirectoryTimes {
  readonly parent: number;
  readonly branch: number;
  readonly stat: Uint32Array;
}

/** For the union nothing changes in the directories: their times are put back. */
function directoryTimes(context: Context, { from, to, names }: Move): DirectoryTimes[] {
  const { stat2, u32 } = context;
  const found: DirectoryTimes[] = [];
  for (const parent of new Set(names.map((name) => name.parent))) {
    for (const branch of [from, to]) {
      const directory = context.directories.descriptor(parent, branch);
      if (directory < 0) continue;
      if (statDescriptor(context, directory, stat2) < 0) continue;
      found.push({ parent, branch, stat: u32.slice(stat2 >>> 2, (stat2 + STATX.bytes) >>> 2) });
    }
  }
  return found;
}

function restoreTimes(context: Context, times: readonly DirectoryTimes[]): void {
  for (const { parent, branch, stat } of times) {
    context.u32.set(stat, context.stat2 >>> 2);
    const directory = context.directories.descriptor(parent, branch);
    if (directory >= 0) setTimes(context, directory, context.stat2);
    context.attributes.markChanged(parent, branch);
  }
}
