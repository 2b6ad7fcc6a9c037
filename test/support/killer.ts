/**
 * Ends a server between two stores to the state memory: as a view of the words (inode/state.ts) it throws at the n-th store, and at
 * every later one, so that nothing after it happens.
 */
const MESSAGE = 'the server was killed by the test';

export class Killed extends Error {
  constructor() {
    super(MESSAGE);
  }

  /** Whether an error is this one, or tells of it: what fails inside an operation is caught there and logged. */
  static is(error: unknown): boolean {
    return error instanceof Error && error.message.includes(MESSAGE);
  }

  /** What `act` answers, or undefined when it was killed. */
  static survive<T>(act: () => T): T | undefined {
    try {
      return act();
    } catch (error) {
      if (Killed.is(error)) return undefined;
      throw error;
    }
  }
}

export class Killer {
  #left = Number.POSITIVE_INFINITY;
  #stores = 0;

  /** Kills before the store that comes after `count` others. Without a count it only counts. */
  arm(count = Number.POSITIVE_INFINITY): void {
    this.#left = count;
    this.#stores = 0;
  }

  /** Stores since it was armed. */
  get stores(): number {
    return this.#stores;
  }

  readonly view = (words: Uint32Array): Uint32Array => {
    const step = () => {
      if (this.#left <= 0) throw new Killed();
      this.#left--;
      this.#stores++;
    };
    return new Proxy(words, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key);
        if (typeof value !== 'function') return value;
        if (key === 'fill' || key === 'copyWithin') step();
        return value.bind(target);
      },
      set: (target, key, value: number) => {
        step();
        target[Number(key)] = value;
        return true;
      },
    });
  };
}
