/**
 * What one reader is doing, in the state memory, so that a successor finishes it exactly once. A reader has one request at a time:
 * it is in the reader's request buffer, and its reply belongs to the queue of the reader's device descriptor, so nothing more
 * than this record is needed. Words:
 *
 *   0 phase   1 result   2 attempts   3 branch chosen + 1   4 checks passed   5 FORGETs done   6 handle that was allocated
 *   7 backing id to be closed   8 lookups held   9 names found   10 inode number before an exchange
 *   11 the last backing id that this reader registered: stays when the request is over   12 handle that was closed
 *   16–31 two names found (TARGET_WORDS each)   32– inodes held
 *
 * Phases: a request without one was read and not begun. `working`: it is done again, by the notes of the first time.
 * `committed`: the tables say that it is done; only its result is left. `replying`: the reply in the buffer is whole.
 *
 * What belongs to a change of the tables is written under the same hold of the table lock, with `put`: both or neither.
 */
import type { State } from './state.ts';

export const PHASE = { idle: 0, working: 1, committed: 2, replying: 3 } as const;
/** Words of the record; the phase is the first. */
const [RESULT, ATTEMPTS, BRANCH, PASSED, FORGOTTEN, HANDLE] = [1, 2, 3, 4, 5, 6] as const;
const [CLOSING, HOLDS, TARGETS, NUMBER, LAST_BACKING, CLOSED] = [7, 8, 9, 10, 11, 12] as const;
const TARGETS_AT = 16;
const TARGET_WORDS = 8;
const MAX_TARGETS = 2;
const HOLDS_AT = 32;
/** READDIRPLUS looks up as many names as fit into its part of a listing, at 32 bytes each. */
const MAX_HOLDS = 3072;

/** A name as it was found: its inode or 0, the branches that have it, and the first of them or -1. */
export interface NotedTarget {
  slot: number;
  low: number;
  high: number;
  first: number;
}

export class Journal {
  readonly #state: State;
  readonly #u32: Uint32Array;
  readonly #at: number;
  /** True while a request is done that a dead server had begun. */
  resuming = false;
  #nextTarget = 0;

  constructor(state: State, thread: number) {
    this.#state = state;
    this.#u32 = state.u32;
    this.#at = state.threadArea(thread).journal >>> 2;
  }

  get phase(): number {
    return this.#u32[this.#at]!;
  }

  get result(): number {
    return this.#u32[this.#at + RESULT]! | 0;
  }

  /** How often the request was begun. */
  get attempts(): number {
    return this.#u32[this.#at + ATTEMPTS]!;
  }

  /** Before the next request is read. */
  clear(): void {
    const { u32, at } = { u32: this.#u32, at: this.#at };
    u32[at] = PHASE.idle;
    for (let word = at + ATTEMPTS; word <= at + NUMBER; word++) u32[word] = 0;
    u32[at + CLOSED] = 0;
  }

  begin(resuming: boolean): void {
    this.resuming = resuming;
    this.#nextTarget = 0;
    this.#u32[this.#at + ATTEMPTS]!++;
    this.#u32[this.#at] = PHASE.working;
  }

  /** The tables are about to say that the request is done. Under the table lock. */
  commit(result: number): void {
    this.#state.put(this.#at + RESULT, result >>> 0);
    this.#state.put(this.#at, PHASE.committed);
  }

  /** The reply is whole and is about to be written. */
  replies(result: number): void {
    this.#u32[this.#at + RESULT] = result >>> 0;
    this.#u32[this.#at] = PHASE.replying;
  }

  /** Where the request makes something new: known before it is made. -1 when nothing was chosen yet. */
  get branch(): number {
    return this.#u32[this.#at + BRANCH]! - 1;
  }

  chose(branch: number): void {
    this.#u32[this.#at + BRANCH] = branch + 1;
  }

  /** Whether the request may be done was looked at before; since then it has perhaps been done, and would be refused. */
  get passed(): boolean {
    return this.#u32[this.#at + PASSED] !== 0;
  }

  pass(): void {
    this.#u32[this.#at + PASSED] = 1;
  }

  /** How many FORGETs of the request were done. Counted under the same hold of the table lock. */
  get forgotten(): number {
    return this.#u32[this.#at + FORGOTTEN]!;
  }

  countForgotten(): void {
    this.#state.put(this.#at + FORGOTTEN, this.forgotten + 1);
  }

  /** The handle that the request has allocated, or 0. */
  get handle(): number {
    return this.#u32[this.#at + HANDLE]!;
  }

  setHandle(handle: number): void {
    this.#state.put(this.#at + HANDLE, handle);
  }

  /** The handle is closed; if it was this request's, it has none any more. Under the table lock. */
  dropHandle(handle: number): void {
    if (this.handle === handle) this.setHandle(0);
    this.#state.put(this.#at + CLOSED, handle);
  }

  /** Whether a dead server has closed the handle for this request: its number may be another one's since then. */
  hasClosed(handle: number): boolean {
    return this.resuming && this.#u32[this.#at + CLOSED] === handle;
  }

  /** A backing id that no table knows any more and that is to be closed, or 0. */
  get closing(): number {
    return this.#u32[this.#at + CLOSING]!;
  }

  setClosing(id: number): void {
    this.#state.put(this.#at + CLOSING, id);
  }

  get lastBacking(): number {
    return this.#u32[this.#at + LAST_BACKING]!;
  }

  registered(id: number): void {
    this.#u32[this.#at + LAST_BACKING] = id;
  }

  /** Low word of the inode number that a name had before it was exchanged. */
  get number(): number {
    return this.#u32[this.#at + NUMBER]!;
  }

  setNumber(low: number): void {
    this.#u32[this.#at + NUMBER] = low;
  }

  /** One more lookup of an inode is counted for this request. Under the table lock. */
  hold(slot: number): void {
    const count = this.#u32[this.#at + HOLDS]!;
    if (count === MAX_HOLDS) throw new Error(`a request looks up more than ${MAX_HOLDS} names`);
    this.#u32[this.#at + HOLDS_AT + count] = slot;
    this.#state.put(this.#at + HOLDS, count + 1);
  }

  /** The lookup is given back. Under the table lock. */
  letGo(slot: number): void {
    const count = this.#u32[this.#at + HOLDS]!;
    const first = this.#at + HOLDS_AT;
    for (let at = first + count - 1; at >= first; at--) {
      if (this.#u32[at] !== slot) continue;
      this.#state.put(at, this.#u32[first + count - 1]!);
      this.#state.put(this.#at + HOLDS, count - 1);
      return;
    }
  }

  /** An inode of which a lookup is held, or 0. */
  get held(): number {
    const count = this.#u32[this.#at + HOLDS]!;
    return count === 0 ? 0 : this.#u32[this.#at + HOLDS_AT + count - 1]!;
  }

  /** Puts what is noted of the next name that was found the first time into `target`. False when it was not found. */
  recallTarget(target: NotedTarget): boolean {
    const u32 = this.#u32;
    if (!this.resuming || this.#nextTarget >= u32[this.#at + TARGETS]!) return false;
    const word = this.#at + TARGETS_AT + TARGET_WORDS * this.#nextTarget++;
    target.slot = u32[word]!;
    target.low = u32[word + 1]!;
    target.high = u32[word + 2]!;
    target.first = u32[word + 3]! | 0;
    return true;
  }

  /** A name was found. */
  noteTarget({ slot, low, high, first }: Readonly<NotedTarget>): void {
    const u32 = this.#u32;
    const count = u32[this.#at + TARGETS]!;
    if (count === MAX_TARGETS) throw new Error(`a request names more than ${MAX_TARGETS} files`);
    const word = this.#at + TARGETS_AT + TARGET_WORDS * count;
    u32[word] = slot;
    u32[word + 1] = low;
    u32[word + 2] = high;
    u32[word + 3] = first;
    u32[this.#at + TARGETS] = count + 1;
    this.#nextTarget++;
  }
}
