/**
 * Preloaded (`node --import`) into a server, takes journal and notes out of it, for the benchmark to say what they cost: the journal
 * becomes one that keeps nothing, and the state memory is changed without notes of what was there before. All else is the same program.
 */
import { registerHooks } from 'node:module';

const JOURNAL = '/fuse/inode/journal.ts';
const STATE = '/fuse/inode/state.ts';

/** What of the state's source has to do with notes, and what is there without them. */
const WITHOUT_NOTES: readonly (readonly [string, string])[] = [
  ['if (this.#notes >= 0) this.#note(word, old);', ''],
  ['if (this.#notes >= 0) this.#note((word | UNDO_CLEARS) >>> 0, changed);', ''],
  ['if (this.#notes >= 0) this.#note(word | UNDO_SETS, changed);', ''],
  ['    this.#notes = 0;\n', ''],
  ['    this.#notes = -1;\n    this.u32[WORD.undoCount] = 0;\n', ''],
];

registerHooks({
  resolve(specifier, context, next) {
    const found = next(specifier, context);
    return found.url.endsWith(JOURNAL) ? { ...found, url: new URL('no-journal.ts', import.meta.url).href } : found;
  },
  load(url, context, next) {
    const found = next(url, context);
    if (!url.endsWith(STATE)) return found;
    return { ...found, source: WITHOUT_NOTES.reduce(takeOut, String(found.source)) };
  },
});

function takeOut(source: string, [text, instead]: readonly [string, string]): string {
  if (!source.includes(text)) throw new Error(`the state memory does not say any more: ${text}`);
  return source.replace(text, instead);
}
