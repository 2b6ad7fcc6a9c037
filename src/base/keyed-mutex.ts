/** One holder per key at a time, first come first served. Keys that nobody holds cost nothing. */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  /** Runs `work` alone among all calls with the same key; its outcome is passed on. */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const gate = Promise.withResolvers<void>();
    const tail = before.then(() => gate.promise);
    this.#tails.set(key, tail);
    await before;
    try {
      return await work();
    } finally {
      gate.resolve();
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }

  get size(): number {
    return this.#tails.size;
  }
}
