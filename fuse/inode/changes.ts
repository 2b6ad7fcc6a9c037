/**
 * Whose names are changing: from before the first branch knows of it until the index does, nobody can rely on finding an inode,
 * or only it, by name. Each thread notes in its progress record the one or two inodes of which it changes the names, so
 * that only who wants one of these has to wait. Two counters tell that nobody does, or has since.
 */
import { THREADS, WORD } from './layout.ts';
import { pause, SLEEP_US, SPINS_BEFORE_SLEEP } from './pause.ts';
import { PROGRESS, progressOf } from './progress.ts';

/** Who waits for a change longer goes without: whoever makes it may be stuck on a branch. */
const PATIENCE_US = 5_000_000;
const MAX_TIMES = SPINS_BEFORE_SLEEP + PATIENCE_US / SLEEP_US;

export class Changes {
  readonly #words: Int32Array;
  /** This thread's progress record. */
  readonly #own: number;

  /** `words`: the state memory. */
  constructor(words: Int32Array, thread: number) {
    this.#words = words;
    this.#own = progressOf(thread);
  }

  /** Before the names of an inode, or of two, are changed on a branch. */
  begin(slot: number, other = 0): void {
    Atomics.store(this.#words, this.#own + PROGRESS.changing, slot);
    if (other !== 0) Atomics.store(this.#words, this.#own + PROGRESS.changingToo, other);
    Atomics.add(this.#words, WORD.changesBegun, 1);
  }

  /** When the index says the same as the branches. */
  end(): void {
    clear(this.#words, this.#own);
    Atomics.add(this.#words, WORD.changesEnded, 1);
  }

  /** After an exception: ends what this thread has begun, if anything. */
  giveUp(): void {
    if (this.#words[this.#own + PROGRESS.changing] !== 0) this.end();
  }

  /** After the death of the process: nobody is changing anything. */
  recover(): void {
    for (let thread = 0; thread < THREADS; thread++) clear(this.#words, progressOf(thread));
    this.#words[WORD.changesEnded] = this.#words[WORD.changesBegun]!;
  }

  /**
   * To be taken before an inode's name is looked up, for `isUnchanged` when the name has been used on a branch; -1 while somebody
   * changes the inode's names.
   */
  stamp(slot: number): number {
    // In this order: who began before the stamp was taken is seen below, and who had ended by then has changed the index.
    const ended = Atomics.load(this.#words, WORD.changesEnded) >>> 0;
    const stamp = Atomics.load(this.#words, WORD.changesBegun) >>> 0;
    if (stamp === ended) return stamp;
    for (let thread = 0; thread < THREADS; thread++) {
      const word = progressOf(thread);
      if (Atomics.load(this.#words, word + PROGRESS.changing) === slot) return -1;
      if (Atomics.load(this.#words, word + PROGRESS.changingToo) === slot) return -1;
    }
    return stamp;
  }

  /** Whether nobody has begun to change names since, nor was about to. */
  isUnchanged(stamp: number): boolean {
    return stamp >= 0 && stamp === Atomics.load(this.#words, WORD.changesBegun) >>> 0;
  }

  /** For who has tried something in vain so many times, as names were changing: waits a little. False when that was often enough. */
  wait(times: number): boolean {
    pause(times);
    return times < MAX_TIMES;
  }
}

/** Nobody changes names by this progress record. */
function clear(words: Int32Array, record: number): void {
  Atomics.store(words, record + PROGRESS.changing, 0);
  if (words[record + PROGRESS.changingToo] !== 0) Atomics.store(words, record + PROGRESS.changingToo, 0);
}
