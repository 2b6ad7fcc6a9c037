/** What each thread is at, in the header of the state memory: written by the thread alone, read by whoever wants to know who is stuck. */
import { MAX_READERS, WORD } from './layout.ts';
import type { State } from './state.ts';

/** No two threads share a cache line. */
const PROGRESS_WORDS = 16;
/**
 * Requests begun, as a 64-bit number; ended, its lower word; the branch it entered last + 1; whether it changes something; the
 * inodes whose names it is changing.
 */
export const PROGRESS = {
  begun: 0,
  begunHigh: 1,
  ended: 2,
  branch: 3,
  changes: 4,
  changing: 5,
  changingToo: 6,
} as const;

/** Index of the first word of a thread's record. */
export function progressOf(thread: number): number {
  return WORD.progress + thread * PROGRESS_WORDS;
}

/** Requests that all readers have read. */
export function requestCount({ u32 }: State): number {
  let count = 0;
  for (let thread = 0; thread < MAX_READERS; thread++) {
    const word = progressOf(thread);
    count += u32[word + PROGRESS.begun]! + u32[word + PROGRESS.begunHigh]! * 0x100000000;
  }
  return count;
}
