import { expect } from 'chai';
import fc from 'fast-check';
import { H, HANDLE, HandleTable } from '../../../fuse/inode/handle-table.ts';
import { F, INODE, InodeTable, ROOT } from '../../../fuse/inode/inode-table.ts';
import { WORD } from '../../../fuse/inode/layout.ts';
import { bucketOf, splitBucket } from '../../../fuse/inode/linear-hash.ts';
import { State } from '../../../fuse/inode/state.ts';
import { DT_DIR, DT_REG } from '../../../fuse/sys/constants.ts';
import * as libc from '../../../fuse/sys/libc.ts';
import { runInWorker } from '../../support/state-worker.ts';

describe('linear hash', () => {
  it('keeps every record in the bucket of its hash while it grows', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 0xffffffff }), { minLength: 1, maxLength: 300 }), (hashes) => {
        const base = 2;
        const u32 = new Uint32Array(base + 2048);
        const memory = {
          u32,
          put: (word: number, value: number) => {
            u32[word] = value;
          },
        };
        const nexts = new Uint32Array(hashes.length + 1);
        u32[0] = 4;
        const chain = {
          hash: (record: number) => hashes[record - 1]!,
          next: (record: number) => nexts[record]!,
          setNext: (record: number, next: number) => {
            nexts[record] = next;
          },
        };
        for (let record = 1; record <= hashes.length; record++) {
          const bucket = base + bucketOf(hashes[record - 1]!, u32[0]!, u32[1]!);
          nexts[record] = u32[bucket]!;
          u32[bucket] = record;
          if (record > u32[0]! + u32[1]!) splitBucket(memory, { base, size: 0, split: 1 }, chain);
        }
        const found = new Set<number>();
        for (let bucket = 0; bucket < u32[0]! + u32[1]!; bucket++) {
          for (let record = u32[base + bucket]!; record !== 0; record = nexts[record]!) {
            expect(bucketOf(chain.hash(record), u32[0]!, u32[1]!)).to.equal(bucket);
            found.add(record);
          }
        }
        expect(found.size).to.equal(hashes.length);
        expect(u32[0]! + u32[1]!).to.be.within(Math.max(4, hashes.length - 1), Math.max(4, hashes.length + 1));
      }),
    );
  });
});

describe('state memory', () => {
  let state: State;

  beforeEach(() => {
    state = State.create(0);
  });

  afterEach(() => {
    libc.close(state.fd);
  });

  const inWorker = (body: string, thread: number, data: object = {}) => runInWorker(state, { body, thread, data });

  it('is one memory for another thread', async () => {
    state.u8[state.threadArea(3).request] = 77;
    await inWorker(`state.u8[state.threadArea(3).request + 1] = state.u8[state.threadArea(3).request] + 1;`, 1);
    expect(state.u8[state.threadArea(3).request + 1]).to.equal(78);
  });

  it('refuses memory that is something else, or of another version', () => {
    state.u32[WORD.version] = 999;
    expect(() => State.attach(state.fd, 1)).to.throw(/version 999, this program reads \d+/);
    state.u32[WORD.magic] = 0;
    expect(() => State.attach(state.fd, 1)).to.throw('not state memory');
  });

  it('has locks that keep four threads out of each other’s way', async () => {
    const rounds = 20_000;
    const body = `
      const inodes = new InodeTable(state);
      const handles = new HandleTable(state);
      for (let round = 0; round < ${rounds}; round++) {
        state.lock(); state.u32[200]++; state.unlock();
        state.lockInode(round % 3); state.u32[201 + (round % 3)]++; state.unlockInode(round % 3);
        state.lockTree(); state.u32[204]++; state.unlockTree();
        if (round % 2 === 0) inodes.setFlag(1, 1 << (12 + workerData.index)); else inodes.clearFlag(1, 1 << (12 + workerData.index));
        if (!inodes.has(1, 1 << 12 + workerData.index) === (round % 2 === 0)) throw new Error('a flag was lost');
        if (round % 4 === 0) { state.lock(); const handle = handles.allocate(1, 7, 0); if (handle === 0) throw new Error('full'); handles.free(handle); state.unlock(); }
        state.changes.begin(7); state.changes.end();
      }`;
    new InodeTable(state).allocate(DT_DIR);
    const free = [200, 201, 202, 203, 204].map((word) => state.u32[word]!);
    expect(free).to.deep.equal([0, 0, 0, 0, 0]);
    await Promise.all([1, 2, 3, 4].map((thread) => inWorker(body, thread, { index: thread - 1 })));
    expect(state.u32[200]).to.equal(4 * rounds);
    expect(state.u32[201]! + state.u32[202]! + state.u32[203]!).to.equal(4 * rounds);
    expect(state.u32[204]).to.equal(4 * rounds);
    expect(new HandleTable(state).count).to.equal(0);
    expect(state.u32[WORD.handleBump]).to.be.at.most(5);
    expect(state.changes.stamp(7)).to.equal(4 * rounds);
  });

  it('loses no flag of an inode when four threads change others at once', async () => {
    const body = `
      const inodes = new InodeTable(state);
      const flag = 1 << (12 + workerData.index);
      Atomics.add(state.i32, 210, 1);
      while (Atomics.load(state.i32, 210) < 4) ;
      for (let round = 0; round < 200_000; round++) {
        inodes.setFlag(1, flag);
        if (!inodes.has(1, flag)) throw new Error('a flag that was set is gone');
        inodes.clearFlag(1, flag);
        if (inodes.has(1, flag)) throw new Error('a flag that was cleared is back');
      }`;
    const slot = new InodeTable(state).allocate(DT_DIR);
    await Promise.all([1, 2, 3, 4].map((thread) => inWorker(body, thread, { index: thread - 1 })));
    expect(new InodeTable(state).get(slot, F.flags)).to.equal(INODE.used | DT_DIR);
  });

  it('gives up, after an exception, the locks of this thread only', async () => {
    state.u32[WORD.inodeBump] = 10;
    state.lock();
    state.lockInode(5);
    await inWorker(`state.lockInode(6); state.lockTree();`, 1);
    state.releaseOwnLocks();
    state.lock();
    state.lockInode(5);
    expect(state.tryLockInode(5)).to.equal(false);
    expect(state.tryLockInode(6)).to.equal(false);
    expect(state.tryLockInode(7)).to.equal(true);
  });

  it('has no stamp of inodes whose names another thread is changing, and no older one holds afterwards', async () => {
    const before = state.changes.stamp(5);
    await inWorker(`state.changes.begin(5, 6);`, 1);
    expect([state.changes.stamp(5), state.changes.stamp(6)]).to.deep.equal([-1, -1]);
    expect(state.changes.isUnchanged(before)).to.equal(false);
    expect(state.changes.isUnchanged(state.changes.stamp(7))).to.equal(true);
    await inWorker(`state.changes.end();`, 1);
    expect(state.changes.isUnchanged(state.changes.stamp(5))).to.equal(true);
    expect(state.changes.isUnchanged(-1)).to.equal(false);
  });

  it('takes nobody for changing names after a server was killed that did', () => {
    state.changes.begin(5);
    state.recover();
    expect(state.changes.isUnchanged(state.changes.stamp(5))).to.equal(true);
  });
});

describe('inode table', () => {
  let state: State;
  let inodes: InodeTable;

  beforeEach(() => {
    state = State.create(0);
    inodes = new InodeTable(state);
  });

  afterEach(() => {
    libc.close(state.fd);
  });

  it('gives the root its number first, and a slot used again another generation', () => {
    expect(inodes.allocate(DT_DIR)).to.equal(ROOT);
    const slot = inodes.allocate(DT_REG);
    const generation = inodes.get(slot, F.generation);
    inodes.set(slot, F.opens, 3);
    inodes.free(slot);
    expect(inodes.isUsed(slot)).to.equal(false);
    expect(inodes.allocate(DT_DIR)).to.equal(slot);
    expect(inodes.get(slot, F.generation)).to.equal(generation + 1);
    expect([inodes.kind(slot), inodes.get(slot, F.opens), inodes.count]).to.deep.equal([DT_DIR, 0, 2]);
  });

  it('does not let the kernel name a slot that there is not', () => {
    for (const slot of [0, 1, 7, 0xffffffff]) expect(inodes.isUsed(slot)).to.equal(false);
  });

  it('keeps flags apart from the kind', () => {
    const slot = inodes.allocate(DT_REG);
    for (const flag of [INODE.linked, INODE.unlinked, INODE.proxied, INODE.privileged]) {
      inodes.setFlag(slot, flag);
      expect(inodes.has(slot, flag)).to.equal(true);
      expect(inodes.kind(slot)).to.equal(DT_REG);
    }
    inodes.clearFlag(slot, INODE.unlinked);
    expect([inodes.has(slot, INODE.unlinked), inodes.has(slot, INODE.proxied)]).to.deep.equal([false, true]);
  });

  it('knows branches up to the last', () => {
    const slot = inodes.allocate(DT_DIR);
    for (const branch of [0, 31, 32, 63]) inodes.addBranch(slot, branch);
    const on = Array.from({ length: 64 }, (_, branch) => branch).filter((branch) => inodes.onBranch(slot, branch));
    expect(on).to.deep.equal([0, 31, 32, 63]);
  });

  it('finds files with several links by branch and number, while they come and go', () => {
    const keys = fc.record({ branch: fc.nat({ max: 2 }), low: fc.nat({ max: 40 }), high: fc.nat({ max: 1 }) });
    fc.assert(
      fc.property(fc.array(keys, { maxLength: 80 }), (list) => {
        const model = new Map<string, number>();
        for (const { branch, low, high } of list) {
          const key = `${branch} ${low} ${high}`;
          const known = model.get(key);
          if (known !== undefined) {
            inodes.free(known); // takes itself out of the table
            model.delete(key);
            continue;
          }
          const slot = inodes.allocate(DT_REG);
          inodes.set(slot, F.branch, branch);
          inodes.set(slot, F.lowerLow, low);
          inodes.set(slot, F.lowerHigh, high);
          inodes.linkIntoTable(slot);
          inodes.linkIntoTable(slot); // once is enough
          model.set(key, slot);
        }
        for (const { branch, low, high } of list)
          expect(inodes.findLinked(branch, low, high)).to.equal(model.get(`${branch} ${low} ${high}`) ?? 0);
        expect(state.u32[WORD.linkCount]).to.equal(model.size);
        for (const slot of model.values()) inodes.free(slot);
      }),
      { numRuns: 100 },
    );
    expect([state.u32[WORD.linkCount], inodes.count]).to.deep.equal([0, 0]);
  });

  it('finds them when there are many', () => {
    const slots = Array.from({ length: 10_000 }, (_, index) => {
      const slot = inodes.allocate(DT_REG);
      inodes.set(slot, F.lowerLow, index);
      inodes.linkIntoTable(slot);
      return slot;
    });
    slots.forEach((slot, index) => {
      if (inodes.findLinked(0, index, 0) !== slot) expect.fail(`${index}`);
    });
    expect(state.u32[WORD.linkBuckets]).to.equal(8192);
  });
});

describe('handle table', () => {
  it('gives handles from 1 on, empty, and takes them back', () => {
    const state = State.create(0);
    const handles = new HandleTable(state);
    const one = handles.allocate(9, 33, HANDLE.writable);
    const two = handles.allocate(0, -1, HANDLE.directory);
    expect([one, two, handles.count]).to.deep.equal([1, 2, 2]);
    expect([handles.slot(one), handles.descriptor(one), handles.descriptor(two)]).to.deep.equal([9, 33, -1]);
    handles.set(two, H.listingLength, 5);
    handles.free(two);
    expect([handles.isUsed(one), handles.isUsed(two), handles.isUsed(0), handles.isUsed(0xffffffff)]).to.deep.equal([
      true,
      false,
      false,
      false,
    ]);
    expect(handles.allocate(1, -1, 0)).to.equal(two);
    expect(handles.get(two, H.listingLength)).to.equal(0);
    expect(handles.count).to.equal(2);
    libc.close(state.fd);
  });
});
