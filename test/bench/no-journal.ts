/**
 * A journal that keeps nothing, in the place of fuse/inode/journal.ts: a server with it does the same work, and no other could
 * go on after it. Only the benchmark has it (without-journal.ts).
 */
import type { Journal as Kept } from '../../fuse/inode/journal.ts';

export const PHASE = { idle: 0, working: 1, committed: 2, replying: 3 } as const;

export class Journal implements Pick<Kept, keyof Kept> {
  resuming = false;
  readonly phase = PHASE.idle;
  readonly result = 0;
  readonly attempts = 0;
  readonly branch = -1;
  readonly passed = false;
  readonly forgotten = 0;
  readonly handle = 0;
  readonly closing = 0;
  readonly lastBacking = 0;
  readonly number = 0;
  readonly held = 0;

  clear(): void {}
  begin(): void {}
  commit(): void {}
  replies(): void {}
  chose(): void {}
  pass(): void {}
  countForgotten(): void {}
  setHandle(): void {}
  dropHandle(): void {}
  hasClosed(): boolean {
    return false;
  }
  setClosing(): void {}
  registered(): void {}
  setNumber(): void {}
  hold(): void {}
  letGo(): void {}
  recallTarget(): boolean {
    return false;
  }
  noteTarget(): void {}
}
