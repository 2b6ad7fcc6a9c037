/**
 * Waiting for a lock whose holder may wait for ever itself: in a system call to a branch that does not answer. When such a branch has
 * been closed (branch/gate.ts), who waits for the lock gives up with LostLock, and its operation is answered EIO: otherwise one reader
 * after another would wait, until none is left for the other branches.
 */
import { GATE } from '../branch/gate.ts';
import { gateWord } from '../branch/table.ts';
import { PROGRESS, progressOf } from './progress.ts';

export class LostLock extends Error {
  constructor() {
    super('a lock is held by who waits for a branch that does not answer');
  }
}

/** Looks at a lock's holder from time to time, while somebody waits for it. */
export class HolderWatch {
  #owner = 0;
  #request = -1;

  /** Whether it is still at what it was at the last time, and at a closed branch with that. */
  isLost(u32: Uint32Array, owner: number): boolean {
    if (owner === 0) return false;
    const at = progressOf(owner - 1);
    const request = u32[at + PROGRESS.begun]!;
    const isSame = owner === this.#owner && request === this.#request;
    this.#owner = owner;
    this.#request = request;
    const branch = u32[at + PROGRESS.branch]! - 1;
    if (!isSame || branch < 0) return false;
    const keepsOut = u32[at + PROGRESS.changes] === 1 ? GATE.closed | GATE.unchangeable : GATE.closed;
    return (u32[gateWord(branch)]! & keepsOut) !== 0;
  }
}
