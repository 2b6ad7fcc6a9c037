/**
 * Whether several requests are under way at one time, as far as one reader sees: of several callers, or of one that does not wait. Who
 * follow each other, as a script's programs do, are no crowd, and of callers in other PID namespaces the kernel tells no number: so
 * the readers look at each other.
 */
import { PHASE } from '../inode/journal.ts';
import { WORD } from '../inode/layout.ts';
import { PROGRESS, progressOf } from '../inode/progress.ts';
import type { State } from '../inode/state.ts';
import { IN, OP } from '../protocol/abi.ts';

/** A look takes a cache miss for each of the others, so it comes with every fourth request. */
const LOOK_EVERY = 4;
/** So many met in so many looks. A request is short beside what the kernel does for it: of eight callers' lookups most looks meet none. */
const MET = 2;
const LOOKS = 64;
const GONE_AFTER_MS = 1_000;
/** What no caller waits for: one alone has its next request under way meanwhile. */
const UNAWAITED = new Set<number>([OP.FORGET, OP.BATCH_FORGET, OP.RELEASE, OP.RELEASEDIR, OP.INTERRUPT]);

export class Crowd {
  readonly #state: State;
  readonly #reader: number;
  readonly #now: () => number;
  /** By reader: the request at which it was met last. One that is stuck is not met again. */
  readonly #metAt: number[] = [];
  #requests = 0;
  #looks = 0;
  #met = 0;
  #isThere = false;
  #seenAt = 0;

  /** `now`: milliseconds. */
  constructor(state: State, reader: number, now = () => performance.now()) {
    this.#state = state;
    this.#reader = reader;
    this.#now = now;
  }

  /** A request has been read and not been answered. Answers whether there is a crowd. */
  sees(opcode: number): boolean {
    if (++this.#requests % LOOK_EVERY !== 0 || UNAWAITED.has(opcode)) return this.#isThere;
    this.#looks++;
    if (this.#meetsAnother()) this.#met++;
    if (this.#met === MET || this.#looks === LOOKS) this.#judge();
    return this.#isThere;
  }

  #judge(): void {
    const now = this.#now();
    if (this.#met >= (this.#isThere ? 1 : MET)) {
      this.#isThere = true;
      this.#seenAt = now;
    } else if (now - this.#seenAt > GONE_AFTER_MS) this.#isThere = false;
    this.#met = this.#looks = 0;
  }

  /** Whether another reader is at a request that somebody waits for, and has not been met at it. */
  #meetsAnother(): boolean {
    const { u32 } = this.#state;
    let meets = false;
    for (let reader = 0; reader < u32[WORD.readersWanted]!; reader++) {
      const { request, journal } = this.#state.threadArea(reader);
      const phase = u32[journal >>> 2];
      if (reader === this.#reader || (phase !== PHASE.working && phase !== PHASE.committed)) continue;
      const begun = u32[progressOf(reader) + PROGRESS.begun]!;
      if (begun === this.#metAt[reader] || UNAWAITED.has(u32[(request + IN.opcode) >>> 2]!)) continue;
      this.#metAt[reader] = begun;
      meets = true;
    }
    return meets;
  }
}
