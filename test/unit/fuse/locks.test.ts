import { setTimeout as delay } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { expect } from 'chai';
import { GATE } from '../../../fuse/branch/gate.ts';
import { BranchTable } from '../../../fuse/branch/table.ts';
import { FILE_LOCKS_AT, INODE_LOCKS_AT, WORD } from '../../../fuse/inode/layout.ts';
import { HolderWatch, LostLock } from '../../../fuse/inode/lost-lock.ts';
import { PROGRESS, progressOf } from '../../../fuse/inode/progress.ts';
import { State } from '../../../fuse/inode/state.ts';
import * as libc from '../../../fuse/sys/libc.ts';
import { checkLockOrder } from '../../support/lock-order.ts';
import { runInWorker, startWorker } from '../../support/state-worker.ts';

const seed = Number(process.env.LOCKS_SEED ?? Date.now() % 1_000_000);
const THREADS = [1, 2, 3, 4];
const ROUNDS = 4_000;
/** Pairs of words that are equal whenever nobody holds the lock that stands beside them. */
const FREE_WORDS = 200;
/** Any of the locks, in their order: files (one or two), tree, an inode, tables. What each guards is counted under it. */
const HAMMER = `
  checkLockOrder(state);
  let seed = workerData.seed;
  const random = (limit) => (seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff, (seed >>> 8) % limit);
  const count = (pair, put) => {
    const word = ${FREE_WORDS} + 2 * pair;
    put(word, state.u32[word] + 1);
    put(word + 1, state.u32[word + 1] + 1);
  };
  const plain = (word, value) => { state.u32[word] = value; };
  const noted = (word, value) => state.put(word, value);
  for (let round = 0; round < workerData.rounds; round++) {
    const chosen = 1 + random(15);
    const [file, other, inode] = [1 + random(3), random(4), 1 + random(3)];
    if (chosen & 1) { state.lockFiles(file, other); count(file - 1, plain); if (other && other !== file) count(other - 1, plain); }
    if (chosen & 2) { state.lockTree(); count(3, plain); }
    if (chosen & 4) { state.lockInode(inode); count(3 + inode, plain); }
    if (chosen & 8) { state.lock(); count(7, noted); state.unlock(); }
    if (chosen & 4) state.unlockInode(inode);
    if (chosen & 2) state.unlockTree();
    if (chosen & 1) state.unlockFiles(file, other);
    if (round === 50) Atomics.add(state.i32, 250, 1);
  }`;

describe('locks in the state memory', () => {
  let state: State;

  beforeEach(() => {
    state = State.create(0);
    state.u32[WORD.inodeBump] = 10_000; // slots that there may be
  });

  afterEach(() => libc.close(state.fd));

  const pairs = () =>
    Array.from({ length: 8 }, (_, pair) =>
      [FREE_WORDS + 2 * pair, FREE_WORDS + 2 * pair + 1].map((at) => state.u32[at]!),
    );
  const isHeld = () =>
    [
      WORD.treeLock,
      WORD.tableLock,
      ...[1, 2, 3].flatMap((slot) => [FILE_LOCKS_AT / 4 + slot, INODE_LOCKS_AT / 4 + slot]),
    ].some((word) => state.i32[word] !== 0);
  const work = (thread: number, rounds: number) => ({ body: HAMMER, thread, data: { seed: seed + thread, rounds } });

  it(`keep four threads apart that take them in every order that is allowed, from seed ${seed}`, async () => {
    await Promise.all(THREADS.map((thread) => runInWorker(state, work(thread, ROUNDS))));
    for (const [one, other] of pairs()) expect(one).to.equal(other);
    expect(pairs()[7]![0]).to.be.within(ROUNDS, 4 * ROUNDS);
    expect(isHeld()).to.equal(false);
  });

  it(`are free again for the next server when all of them are killed, and what the tables lock guards is whole, from seed ${seed}`, async () => {
    for (let kill = 0; kill < 5; kill++) {
      const workers = THREADS.map((thread) => startWorker(state, work(thread, Number.MAX_SAFE_INTEGER)));
      while (Atomics.load(state.i32, 250) < THREADS.length) await delay(1);
      await Promise.all(workers.map((worker: Worker) => worker.terminate()));
      state.recover();
      state.u32[250] = 0;
      expect(isHeld()).to.equal(false);
      expect(pairs()[7]![0]).to.equal(pairs()[7]![1]);
    }
  });

  it('are not taken in another order by who is watched', () => {
    checkLockOrder(state);
    state.lockInode(1);
    expect(() => state.lockTree()).to.throw('the lock of tree is taken by who holds that of inode');
    expect(() => state.lockInode(2)).to.throw('the lock of inode is taken by who holds that of inode');
    state.lock();
    expect(() => state.lockFile(1)).to.throw('the lock of files is taken by who holds that of table');
    state.releaseOwnLocks();
    expect(() => state.unlock()).to.throw('is given up by who does not hold it');
  });

  /** As a reader that is in a call to a branch, with the lock. */
  function holdAt(branch: number, thread = 3): void {
    const at = progressOf(thread);
    state.u32[at + PROGRESS.begun] = 7;
    state.u32[at + PROGRESS.branch] = branch + 1;
    state.i32[INODE_LOCKS_AT / 4 + 5] = state.i32[WORD.treeLock] = thread + 1;
    state.i32[FILE_LOCKS_AT / 4 + 5] = thread + 1;
  }

  it('are given up by who waits for one whose holder waits for a branch that was closed', () => {
    holdAt(2);
    new BranchTable(state).setGate(2, GATE.closed);
    expect(() => state.lockInode(5)).to.throw(LostLock);
    expect(() => state.lockTree()).to.throw(LostLock);
    expect(() => state.lockFiles(4, 5)).to.throw(LostLock);
    expect(state.i32[FILE_LOCKS_AT / 4 + 4], 'held').to.equal(1);
    state.releaseOwnLocks();
    expect(state.i32[FILE_LOCKS_AT / 4 + 4]).to.equal(0);
    expect(state.i32[INODE_LOCKS_AT / 4 + 5]).to.equal(4);
    // A file that is elsewhere has another lock.
    state.lockInode(6);
    state.lockInode(5 + 4096);
  }).timeout(60_000);

  it('are waited for while the holder goes on, or is at a branch that answers', () => {
    holdAt(2, 0);
    const [at, watch] = [progressOf(0), new HolderWatch()];
    expect([watch.isLost(state.u32, 1), watch.isLost(state.u32, 1)]).to.deep.equal([false, false]);
    new BranchTable(state).setGate(2, GATE.closed);
    state.u32[at + PROGRESS.begun]!++;
    expect([watch.isLost(state.u32, 1), watch.isLost(state.u32, 1)]).to.deep.equal([false, true]);
    expect(watch.isLost(state.u32, 2)).to.equal(false);
    // Of a frozen one only who changes something has to wait.
    new BranchTable(state).setGate(2, GATE.unchangeable);
    expect([watch.isLost(state.u32, 1), watch.isLost(state.u32, 1)]).to.deep.equal([false, false]);
    state.u32[at + PROGRESS.changes] = 1;
    expect(watch.isLost(state.u32, 1)).to.equal(true);
  });
});
