/** How many files the process may have open, and who may take how many of them. Descriptors' numbers are the lowest free ones at any time. */
import { readFileSync } from 'node:fs';

/** Infinite where there is no limit. */
export function openFilesLimit(): number {
  const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
}

/** A descriptor whose number is lower may be kept as long as its file is open: so a quarter stays for what cannot wait. */
export const keptBelow = (openFilesLimit() * 3) / 4;
