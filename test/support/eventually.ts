/** Waiting for a condition, with a deadline that says what was waited for. */
type Awaitable<T> = T | Promise<T>;

export async function eventually<T>(
  what: string,
  look: () => Awaitable<T | undefined | false>,
  limitMs = 60_000,
): Promise<T> {
  const until = Date.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > until) throw new Error(`waited ${limitMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
