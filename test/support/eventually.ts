/** Waiting for a condition, with a deadline that says what was waited for. */
type Awaitable<T> = T | Promise<T>;

export async function eventually<T>(
  what: string,
  look: () => Awaitable<T | undefined | false>,
  limitMs = 60_000,
): Promise<T> {
  const until = Date.now() + limitMs;
  for (;;) {
    const began = Date.now();
    const found = await look();
    if (found !== undefined && found !== false) return found;
    const now = Date.now();
    if (now > until) throw new Error(`waited ${limitMs} ms in vain: ${what}`);
    // Looking must not slow down what is looked at.
    await new Promise((resolve) => setTimeout(resolve, Math.max(10, 2 * (now - began))));
  }
}
