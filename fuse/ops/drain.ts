/**
 * Emptying a branch that is to be removed: everything that shows from it goes to other branches, while it is in use. Its mode
 * is NC, so that nothing new is made there but what a rename or link of its own files needs.
 *
 * A pass walks the branch's own tree:
 *   - a file that shows is moved (move.ts). One with several names is moved when all have been met, so that they need not be searched for
 *   - a directory that is nowhere else is made on another branch, and keeps its times; what it shows for a number is noted
 *   - what another branch's file hides stays where it is: it is on the branch afterwards as it was before
 *   - what cannot be moved now is told, with the reason
 *
 * What the pass has left behind it stays empty but for renames and links on the branch, which are counted
 * (BranchTable.noteRename): without any, and with nothing left, the branch can be retired (retire.ts). Ending it at any point
 * is harmless, and another pass goes on.
 */
import { OWN_DIRECTORY } from '../branch/branches.ts';
import { F, ROOT } from '../inode/inode-table.ts';
import { WORD } from '../inode/layout.ts';
import { STATX } from '../protocol/abi.ts';
import {
  DT_DIR,
  EBUSY,
  EMLINK,
  ENOSPC,
  EPERM,
  ESTALE,
  errnoName,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { type Context, firstBranch, isAbsent, nextBranch } from './context.ts';
import type { DrainProgress, LeftFile, Remainder, Renumbered } from './drain-progress.ts';
import { placeName, readNames } from './find-links.ts';
import { forget } from './forget.ts';
import { shownHigh, shownLow } from './inode-number.ts';
import { isLater } from './merged-attributes.ts';
import { moveAway } from './move.ts';
import { LOST } from './nameless.ts';
import { makeDirectoryOn } from './parents.ts';
import { setTimes } from './scratch.ts';
import { findChild, forgetAttributes, oldestCopy } from './tree.ts';

/** Files that are told of by name. */
const MAX_NAMED = 8;

export class DrainPass implements Omit<Remainder, 'isRetired'> {
  readonly left: LeftFile[] = [];
  leftCount = 0;
  openCount = 0;
  hiddenCount = 0;
  readonly hiddenDirectories: string[] = [];
  readonly renumbered: Renumbered[] = [];
  readonly #context: Context;
  readonly #branch: number;
  readonly #progress: DrainProgress;
  #isUnsteady = false;
  /** Files with several names, each with a lookup, and where one of them was met. */
  readonly #linked = new Map<number, readonly Uint8Array[]>();

  constructor(context: Context, branch: number, progress: DrainProgress) {
    this.#context = context;
    this.#branch = branch;
    this.#progress = progress;
  }

  /** Answers whether nothing of the union is left on the branch but directories that are elsewhere too. */
  run(): boolean {
    const { branches } = this.#context;
    try {
      const root = libc.dup(branches[this.#branch]!.root);
      this.#walk(root, ROOT, []);
      libc.close(root);
      for (const [slot, path] of this.#linked) if (!this.#progress.isStopped) this.#move(slot, path);
      this.#moveNameless();
    } finally {
      for (const slot of this.#linked.keys()) forget(this.#context, slot, 1);
    }
    return this.leftCount === 0 && !this.#isUnsteady && !this.#progress.isStopped;
  }

  /** Everything below a directory, by a descriptor of its copy. */
  #walk(parent: number, slot: number, path: readonly Uint8Array[]): void {
    const context = this.#context;
    const position = placeName(context, path.at(-1) ?? Buffer.from('.'));
    const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    const descriptor = libc.openat(parent, context.base + position, flags, 0);
    if (descriptor < 0) this.#leave(path, descriptor);
    else this.#walkOpened(descriptor, slot, path);
    if (descriptor >= 0) libc.close(descriptor);
  }

  #walkOpened(descriptor: number, slot: number, path: readonly Uint8Array[]): void {
    const below: Uint8Array[] = [];
    const failure = readNames(this.#context, descriptor, ({ name, kind }) => {
      if (path.length === 0 && isOwn(name)) return;
      if (kind === DT_DIR) below.push(name);
      else if (!this.#progress.isStopped) this.#take(slot, [...path, name]);
    });
    if (failure < 0) this.#leave(path, failure);
    for (const name of below) if (!this.#progress.isStopped) this.#enter(descriptor, slot, [...path, name]);
  }

  /** Something that is no directory. */
  #take(parent: number, path: readonly Uint8Array[]): void {
    const { inodes } = this.#context;
    const slot = this.#find(parent, path);
    if (slot < 0) this.#leave(path, slot);
    else if (slot === 0 || inodes.kind(slot) === DT_DIR || inodes.get(slot, F.branch) !== this.#branch)
      this.hiddenCount++;
    else if (this.#context.statLinks > 1 && this.#keep(slot, path)) return;
    else if (this.#context.statLinks === 1) this.#move(slot, path);
    if (slot > 0) forget(this.#context, slot, 1);
  }

  /** One of several names of a file: the first one's lookup is kept until the end, so that the index remembers the names. */
  #keep(slot: number, path: readonly Uint8Array[]): boolean {
    const { journal, state } = this.#context;
    if (this.#linked.has(slot)) return false;
    this.#linked.set(slot, path);
    // Not one of those that a request may have: there can be any number.
    state.lock();
    journal.letGo(slot);
    state.unlock();
    return true;
  }

  #move(slot: number, path: readonly Uint8Array[]): void {
    const context = this.#context;
    const word = (context.stat + STATX.blocks) >>> 2;
    const result = moveAway(context, slot, this.#branch);
    if (result < 0) {
      this.#leave(path, result);
      return;
    }
    forgetAttributes(context, slot);
    const found = context.statCopy(slot, context.branchOf(slot), context.stat);
    this.#progress.moved(found < 0 ? 0 : (context.u32[word]! + context.u32[word + 1]! * 0x100000000) * 512);
  }

  #enter(parentCopy: number, parent: number, path: readonly Uint8Array[]): void {
    const { inodes } = this.#context;
    const slot = this.#find(parent, path);
    if (slot < 0) this.#leave(path, slot);
    else if (slot === 0 || inodes.kind(slot) !== DT_DIR) {
      this.hiddenCount++;
      this.hiddenDirectories.push(Buffer.concat(path.flatMap((name) => [Buffer.from('/'), name])).toString('latin1'));
    } else {
      this.#walk(parentCopy, slot, path);
      const result = this.#progress.isStopped ? 0 : this.#keepDirectory(slot, parent, path.at(-1)!);
      if (result < 0) this.#leave(path, result);
    }
    if (slot > 0) forget(this.#context, slot, 1);
  }

  /** The inode of a name, with one more lookup; its attributes are in `stat`. */
  #find(parent: number, path: readonly Uint8Array[]): number {
    const context = this.#context;
    // What is open or known from before may be out of date.
    context.gate.begin(true);
    context.directories.begin(!context.exclusive);
    const name = path.at(-1)!;
    return findChild(context, parent, placeName(context, name), name.length);
  }

  /** Of a directory something must be left when the branch is gone: a copy with its times, and its number. */
  #keepDirectory(slot: number, parent: number, name: Uint8Array): number {
    const { inodes } = this.#context;
    if (!inodes.onBranch(slot, this.#branch)) return 0;
    let others = this.#others(slot);
    if (firstBranch(...others) < 0) {
      const made = this.#makeElsewhere(slot, parent);
      if (made < 0) return made;
      others = this.#others(slot);
    }
    this.#keepTimes(slot, others);
    this.#keepNumber(slot, others, { parent, position: placeName(this.#context, name) });
    return 0;
  }

  #others(slot: number): [low: number, high: number] {
    const { inodes } = this.#context;
    const branch = this.#branch;
    const low = inodes.get(slot, F.maskLow) & ~(branch < 32 ? 1 << branch : 0);
    return [low, inodes.get(slot, F.maskHigh) & ~(branch < 32 ? 0 : 1 << (branch - 32))];
  }

  #makeElsewhere(slot: number, parent: number): number {
    const { choice } = this.#context;
    let result = 0;
    for (const policy of ['mkdir', 'anywhere'] as const) {
      choice.begin(parent, policy);
      for (let to = choice.next(); ; to = choice.next()) {
        result = to < 0 ? to : makeDirectoryOn(this.#context, slot, to);
        if (result === 0) return 0;
        if (to < 0) break;
        choice.leaveOut(to);
      }
    }
    return result;
  }

  /** Where the branch's copy was changed last, another takes its time of modification. */
  #keepTimes(slot: number, [low, high]: [number, number]): void {
    const context = this.#context;
    const { stat, stat2, u32 } = context;
    const mtime = STATX.mtime >>> 2;
    if (context.statCopy(slot, this.#branch, stat) < 0) return;
    for (let other = firstBranch(low, high); other >= 0; other = nextBranch(low, high, other + 1))
      if (context.statCopy(slot, other, stat2) < 0 || !isLater(u32, (stat >>> 2) + mtime, (stat2 >>> 2) + mtime))
        return;
    const other = firstBranch(low, high);
    if (context.statCopy(slot, other, stat2) < 0) return;
    u32.copyWithin((stat2 >>> 2) + mtime, (stat >>> 2) + mtime, (stat >>> 2) + mtime + 3);
    const directory = context.directories.descriptor(slot, other);
    if (directory >= 0) setTimes(context, directory, stat2);
    context.attributes.markChanged(slot, other);
  }

  #keepNumber(slot: number, [low, high]: [number, number], at: { parent: number; position: number }): void {
    const context = this.#context;
    const { inodes, stat2, u32 } = context;
    context.maskLow = low;
    context.maskHigh = high;
    const branch = oldestCopy(context, at);
    if (context.statCopy(slot, branch, stat2) < 0) return;
    const word = (stat2 + STATX.ino) >>> 2;
    const [inoLow, inoHigh] = [u32[word]!, u32[word + 1]!];
    const [shown, shownAbove] = [inodes.get(slot, F.inoLow), inodes.get(slot, F.inoHigh)];
    if (
      shownLow(context, branch, inoLow, inoHigh) === shown &&
      shownHigh(context, branch, inoLow, inoHigh) === shownAbove
    )
      return;
    this.renumbered.push({ branch, ino: joined(inoLow, inoHigh), number: joined(shown, shownAbove) });
  }

  /** Files that are open without a name. */
  #moveNameless(): void {
    const { inodes, state, u32 } = this.#context;
    for (let slot = ROOT; slot < u32[WORD.inodeBump]! && !this.#progress.isStopped; slot++) {
      const isNameless = () =>
        inodes.isUsed(slot) &&
        inodes.kind(slot) !== DT_DIR &&
        inodes.get(slot, F.branch) === this.#branch &&
        inodes.get(slot, F.pinned) !== 0 &&
        inodes.get(slot, F.pinned) !== LOST;
      if (!isNameless()) continue;
      state.lock();
      const isHeld = isNameless();
      if (isHeld) this.#context.hold(slot);
      state.unlock();
      if (!isHeld) continue;
      const result = moveAway(this.#context, slot, this.#branch);
      if (result < 0) this.#leave([Buffer.from('(deleted)')], result);
      else this.#progress.moved(0);
      forget(this.#context, slot, 1);
    }
  }

  #leave(path: readonly Uint8Array[], error: number): void {
    // Renamed or removed just now.
    if (isAbsent(error) || error === -ESTALE) this.#isUnsteady = true;
    else this.#tell(path, error);
  }

  #tell(path: readonly Uint8Array[], error: number): void {
    this.leftCount++;
    if (error === -EBUSY) this.openCount++;
    if (this.left.length >= MAX_NAMED) return;
    const why = REASONS.get(-error) ?? errnoName(-error);
    this.left.push({ path: `/${path.map((name) => Buffer.from(name).toString()).join('/')}`, why });
  }
}

const REASONS: ReadonlyMap<number, string> = new Map([
  [EBUSY, 'it is open past the server, until it is closed'],
  [ENOSPC, 'no other branch has room for it'],
  [EPERM, 'it is immutable or append-only'],
  [EMLINK, 'one of its names is hidden by another branch'],
]);

function isOwn(name: Uint8Array): boolean {
  const text = Buffer.from(name).toString('latin1');
  return text === OWN_DIRECTORY || text === 'lost+found';
}

function joined(low: number, high: number): bigint {
  return BigInt(low) | (BigInt(high) << 32n);
}
