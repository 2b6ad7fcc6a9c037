/**
 * The threads of readers, apart from the rest of the library: whoever is about to serve starts one and loads the rest meanwhile. A thread
 * takes as long to load as the library does.
 */
import { Worker } from 'node:worker_threads';

/** Threads that have loaded what a reader needs, or do so, and wait for a connection. */
export type PreparedReaders = readonly Worker[];

export function prepareReaders(count: number): PreparedReaders {
  return Array.from({ length: count }, startReaderThread);
}

export function startReaderThread(): Worker {
  const ending = import.meta.url.slice(import.meta.url.lastIndexOf('.'));
  return new Worker(new URL(`./transport/reader${ending}`, import.meta.url), {
    stdin: false,
    resourceLimits: { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 64 },
  });
}
