/**
 * For how long pools have been silent, by who looks at them: how long what a node last wrote has stayed the same. So clocks of nodes do not
 * matter, and neither does time in which nobody could look: after an outage of the API server, or of the controller, every pool
 * would seem to have been silent for as long. Pure: time comes as an argument.
 */

export interface Sign {
  /** Of the pool. */
  readonly name: string;
  /** What the node writes anew while it is well. */
  readonly lastSeen: string;
}

interface Silence {
  readonly lastSeen: string;
  readonly silentMs: number;
}

export class SilenceWatch {
  readonly #longestStepMs: number;
  #known: ReadonlyMap<string, Silence> = new Map();
  #lookedAt: number | undefined;

  /** A step between two looks counts for no longer than that. */
  constructor(longestStepMs: number) {
    this.#longestStepMs = longestStepMs;
  }

  /** Milliseconds of silence of each pool, at least. */
  look(signs: readonly Sign[], now: number): ReadonlyMap<string, number> {
    const step = Math.min(Math.max(0, now - (this.#lookedAt ?? now)), this.#longestStepMs);
    this.#lookedAt = now;
    this.#known = new Map(
      signs.map(({ name, lastSeen }) => {
        const before = this.#known.get(name);
        return [name, { lastSeen, silentMs: before?.lastSeen === lastSeen ? before.silentMs + step : 0 }];
      }),
    );
    return new Map([...this.#known].map(([name, { silentMs }]) => [name, silentMs]));
  }
}
