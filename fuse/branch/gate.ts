/**
 * The way to a branch. Every operation enters a branch here before it asks it for anything: a branch that does not answer, or
 * answers with errors, or is another than it was, is closed, and whoever enters is told EIO at once. The word that
 * decides is in the branch's record, and only the session's thread changes it (transport/watch.ts).
 *
 * Whom the gate let in once stays in until the end of the request: what has begun to change a branch is not stopped halfway.
 * Entering also leaves in the state memory which branch the thread is at: so it is seen who waits for which branch.
 */

import { WORD } from '../inode/layout.ts';
import { PROGRESS, progressOf } from '../inode/progress.ts';
import type { State } from '../inode/state.ts';
import { EIO } from '../sys/constants.ts';
import { gateWord } from './table.ts';

/** What a branch's gate keeps out. */
export const GATE = {
  /** Everybody. */
  closed: 1,
  /** Who would change something: the filesystem is frozen, say. */
  unchangeable: 2,
  /** New names, which can be made elsewhere. */
  avoided: 4,
  /** With `avoided`: because the filesystem takes no changes, of which it tells itself. */
  readOnly: 8,
} as const;

/** One for each thread. */
export class Gate {
  readonly #u32: Uint32Array;
  readonly #i32: Int32Array;
  readonly #progress: number;
  #isKeeper = false;
  #keepsOut: number = GATE.closed;
  /** Branches that let this request in. */
  #insideLow = 0;
  #insideHigh = 0;

  constructor(state: State, thread: number) {
    this.#u32 = state.u32;
    this.#i32 = state.i32;
    this.#progress = progressOf(thread);
  }

  /** Before each request: nothing is entered yet. */
  begin(changes: boolean): void {
    if (!this.#isKeeper) this.#keepsOut = changes ? GATE.closed | GATE.unchangeable : GATE.closed;
    this.#insideLow = this.#insideHigh = 0;
    this.#u32[this.#progress + PROGRESS.branch] = 0;
    this.#u32[this.#progress + PROGRESS.changes] = changes ? 1 : 0;
  }

  /** From now on nothing keeps this thread out: it looks after the branches. */
  admit(): void {
    this.#isKeeper = true;
    this.#keepsOut = 0;
  }

  /** 0, or -EIO when the branch is not to be asked. */
  enter(branch: number): number {
    this.#u32[this.#progress + PROGRESS.branch] = branch + 1;
    if (!this.isOpen(branch)) return -EIO;
    if (branch < 32) this.#insideLow |= 1 << branch;
    else this.#insideHigh |= 1 << (branch - 32);
    return 0;
  }

  isOpen(branch: number): boolean {
    if ((((branch < 32 ? this.#insideLow : this.#insideHigh) >>> (branch & 31)) & 1) === 1) return true;
    return (this.#u32[gateWord(branch)]! & this.#keepsOut) === 0;
  }

  /** Whether new names are better made elsewhere. */
  isAvoided(branch: number): boolean {
    return (this.#u32[gateWord(branch)]! & GATE.avoided) !== 0;
  }

  /** False for one that is out, or slow: who can do without it does. */
  answers(branch: number): boolean {
    return (this.#u32[gateWord(branch)]! & (GATE.avoided | GATE.readOnly)) !== GATE.avoided;
  }

  isReadOnly(branch: number): boolean {
    return (this.#u32[gateWord(branch)]! & GATE.readOnly) !== 0;
  }

  /** The branch entered last answered in a way that says that it is broken, perhaps: somebody is to look at it. */
  suspect(): void {
    const branch = this.#u32[this.#progress + PROGRESS.branch]! - 1;
    if (branch < 0 || (this.#u32[gateWord(branch)]! & GATE.closed) !== 0) return;
    Atomics.or(this.#i32, branch < 32 ? WORD.suspectLow : WORD.suspectHigh, 1 << (branch & 31));
  }
}
