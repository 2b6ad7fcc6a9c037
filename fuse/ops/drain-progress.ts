/** What is told of a branch that is being emptied (drain.ts). */
import type { ShownNumber } from '../branch/numbers.ts';

/** Shared by the threads: whether to stop, and what was moved so far. */
export const PROGRESS_BYTES = 24;
const [STOP, FILES, BYTES] = [0, 1, 2] as const;

export class DrainProgress {
  readonly memory: SharedArrayBuffer;
  readonly #numbers: Float64Array;

  constructor(memory = new SharedArrayBuffer(PROGRESS_BYTES)) {
    this.memory = memory;
    this.#numbers = new Float64Array(memory);
  }

  get isStopped(): boolean {
    return this.#numbers[STOP] !== 0;
  }

  set isStopped(isStopped: boolean) {
    this.#numbers[STOP] = isStopped ? 1 : 0;
  }

  get files(): number {
    return this.#numbers[FILES]!;
  }

  get bytes(): number {
    return this.#numbers[BYTES]!;
  }

  moved(bytes: number): void {
    this.#numbers[FILES]!++;
    this.#numbers[BYTES]! += bytes;
  }
}

export interface LeftFile {
  readonly path: string;
  readonly why: string;
}

/** What a pass leaves on the branch. */
export interface Remainder {
  /** Nothing, and the tables know nothing of the branch any more. */
  readonly isRetired: boolean;
  /** Some of what could not be moved; how many there are, and how many of them only have to be closed. */
  readonly left: readonly LeftFile[];
  readonly leftCount: number;
  readonly openCount: number;
  /** Files and directories that other branches hide; of the latter the paths, in latin1. */
  readonly hiddenCount: number;
  readonly hiddenDirectories: readonly string[];
}

/** A lower directory's number on another branch that is to show what the copy on the drained one showed. */
export interface Renumbered extends ShownNumber {
  readonly branch: number;
}
