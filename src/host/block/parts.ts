/** Several pieces of memory, one after the other in a file, in one call. */
import { writev } from 'node:fs';

/** Those of `node:fs` and not of the FileHandle, which cost more: these are the hot path. */
export type Transfer = (done: (error: Error | null, bytes: number) => void) => void;

export function transferred(start: Transfer): Promise<number> {
  return new Promise((resolve, reject) => start((error, bytes) => (error ? reject(error) : resolve(bytes))));
}

export async function writeParts(fd: number, parts: readonly Uint8Array[], offset: number): Promise<void> {
  let at = offset;
  for (let rest = parts; rest.length > 0; ) {
    const bytes = await transferred((done) => writev(fd, rest, at, done));
    at += bytes;
    rest = without(rest, bytes);
  }
}

/** What is left of the parts after so many bytes. */
function without(parts: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let index = 0;
  let left = bytes;
  while (index < parts.length && left >= parts[index]!.length) left -= parts[index++]!.length;
  const [first, ...others] = parts.slice(index);
  return first === undefined ? [] : [first.subarray(left), ...others];
}
