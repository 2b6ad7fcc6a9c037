/**
 * Milliseconds that this process was awake, as far as it can tell. One that is stopped, or whose virtual machine is, finds when it goes on
 * that whoever it had asked has not answered for as long: that is nobody's fault, and no branch is to be taken for one that hangs.
 */
export class AwakeClock {
  readonly #maxStepMs: number;
  #last: number | undefined;
  #now = 0;

  /** Between two ticks no more than `maxStepMs` passes, however long it was. */
  constructor(maxStepMs: number) {
    this.#maxStepMs = maxStepMs;
  }

  /** To be called every moment, with the time. */
  tick(now: number): void {
    this.#now += Math.min(now - (this.#last ?? now), this.#maxStepMs);
    this.#last = now;
  }

  /** As of the last tick. */
  get now(): number {
    return this.#now;
  }
}
