/**
 * Versions of the state memory. One that this program does not read is refused before anything is done with it.
 */
import { readSync } from 'node:fs';
import { LAYOUT, MAGIC, STATE_VERSION, WORD } from './layout.ts';

/** Why the state memory behind a descriptor cannot be taken over by this program; undefined when it can, or is empty. */
export function unreadableState(fd: number): string | undefined {
  const bytes = Buffer.alloc(4 * (WORD.layout + 1));
  readSync(fd, bytes, 0, bytes.length, 0);
  const word = (index: number) => bytes.readUInt32LE(4 * index);
  return word(WORD.magic) === MAGIC ? whyUnreadable(word(WORD.version), word(WORD.layout)) : undefined;
}

export function whyUnreadable(version: number, layout: number): string | undefined {
  if (version === STATE_VERSION && layout === LAYOUT) return undefined;
  return `state memory has version ${version}, this program reads ${STATE_VERSION}; unmount, and mount again with this program`;
}
