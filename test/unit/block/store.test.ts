import { expect } from 'chai';
import { type Batch, encodeBatch } from '../../../src/block/batch.ts';
import { decisions } from '../../../src/block/decisions.ts';
import type { Message } from '../../../src/block/messages.ts';
import type { DiskOperation } from '../../../src/block/ports.ts';
import { RebuildTarget } from '../../../src/block/rebuild-target.ts';
import { formatReplica, type Opening, Store } from '../../../src/block/store.ts';
import type { Task } from '../../../src/block/tasks.ts';
import { BLOCK_SIZE, ORIGIN, type Point, toEpoch } from '../../../src/block/units.ts';
import { random } from '../../sim/random.ts';
import { runTask } from '../../sim/run-task.ts';
import { VirtualDisk } from '../../sim/virtual-disk.ts';

const identity = { volume: '1'.repeat(32), replica: '2'.repeat(32), geometry: { blocks: 300, ringBlocks: 16 } };
const epoch = toEpoch(1);

function formatted(): VirtualDisk {
  const disk = new VirtualDisk(random(1, 'disk'));
  for (const operation of formatReplica(identity)) disk.force(operation);
  return disk;
}

function opened(disk: VirtualDisk): Store & { opening: Opening } {
  const store = Object.assign(new Store(identity, decisions), {
    opening: { ok: false, reason: 'unfinished' } as Opening,
  });
  runTask(
    disk,
    (function* () {
      store.opening = yield* store.open();
    })(),
  );
  return store;
}

function batchOf(previous: Point, lba: number, byte: number): Batch {
  const data = Buffer.alloc(BLOCK_SIZE, byte);
  return encodeBatch({ volume: identity.volume, epoch, previous }, [{ kind: 'write', lba, data }]);
}

function append(disk: VirtualDisk, store: Store, batch: Batch): void {
  store.addToOverlay(batch);
  runTask(disk, store.append(batch));
}

function firstByte(disk: VirtualDisk, store: Store, lba: number): number | undefined {
  let data: Uint8Array | undefined;
  runTask(
    disk,
    (function* (): Task {
      data = yield* store.read(lba, 1);
    })(),
  );
  return data?.[0];
}

/** Killed when it asks for these operations; none of them is done. */
function runUpTo(
  disk: VirtualDisk,
  task: Task<unknown>,
  isReached: (operations: readonly DiskOperation[]) => boolean,
): void {
  let step = task.next([]);
  while (!step.done && typeof step.value !== 'function' && !isReached(step.value)) {
    step = task.next(step.value.map((operation) => disk.finish(operation)));
  }
}

function scrubbed(disk: VirtualDisk, store: Store): readonly number[] {
  let damaged: readonly number[] = [];
  runTask(
    disk,
    (function* (): Task {
      damaged = yield* store.scrub(0, 300);
    })(),
  );
  return damaged;
}

describe('Store', () => {
  it('keeps what was appended, over power loss and a checkpoint', () => {
    const disk = formatted();
    const store = opened(disk);
    append(disk, store, batchOf(ORIGIN, 5, 7));
    disk.losePower();
    const second = opened(disk);
    expect([second.usable, firstByte(disk, second, 5), firstByte(disk, second, 6)]).to.deep.equal([true, 7, 0]);
    second.commit(second.durable);
    runTask(disk, second.checkpoint());
    expect(second.log.usedBlocks).to.equal(0);
    disk.losePower();
    expect(firstByte(disk, opened(disk), 5)).to.equal(7);
  });

  it('does not take the header of a torn batch for damage once the log has been truncated', () => {
    const disk = formatted();
    let store = opened(disk);
    append(disk, store, batchOf(ORIGIN, 5, 7));
    const whole = store.log.head;
    const torn = batchOf(store.log.last, 5, 8);
    disk.force({
      kind: 'write',
      area: 'log',
      offset: whole * BLOCK_SIZE,
      data: torn.parts[0]!.subarray(0, BLOCK_SIZE),
    });
    store = opened(disk);
    expect([store.usable, store.durable.lsn]).to.deep.equal([true, 1n]);
    runTask(disk, store.truncate(ORIGIN));
    disk.losePower();
    store = opened(disk);
    expect([store.usable, store.durable.lsn]).to.deep.equal([true, 0n]);
  });

  it('changes nothing in room of the ring that only a superblock in the page cache calls free', () => {
    for (let seed = 0; seed < 100; seed++) {
      const disk = new VirtualDisk(random(seed, 'disk'));
      for (const operation of formatReplica(identity)) disk.force(operation);
      const store = opened(disk);
      // Eight batches fill the ring, so that what follows them begins where they begin.
      for (let lba = 0; lba < 8; lba++) append(disk, store, batchOf(store.log.last, lba, lba + 1));
      store.commit(store.durable);
      const isSuperblock = (operations: readonly DiskOperation[]) => operations.some((of) => of.area === 'superblock');
      runUpTo(disk, store.checkpoint(), (operations) => isSuperblock(operations) && operations[0]!.kind === 'sync');
      let steps = seed % 20;
      runUpTo(disk, new Store(identity, decisions).open(), () => steps-- === 0);
      disk.losePower();
      const again = opened(disk);
      expect([again.usable, firstByte(disk, again, 7)], `seed ${seed}`).to.deep.equal([true, 8]);
    }
  });

  it('has a durable slot of a table page at any moment, also after a kill', () => {
    for (let seed = 0; seed < 300; seed++) {
      const disk = new VirtualDisk(random(seed, 'disk'));
      for (const operation of formatReplica(identity)) disk.force(operation);
      let store = opened(disk);
      append(disk, store, batchOf(store.log.last, 5, 7));
      store.commit(store.durable);
      runTask(disk, store.checkpoint());
      for (let round = 0; round < 3; round++) {
        // An entry far from the page's header, so that a torn page shows.
        append(disk, store, batchOf(store.log.last, 200, round + 1));
        store.commit(store.durable);
        // Killed when the page is written and not yet synced.
        runUpTo(disk, store.checkpoint(), (operations) => operations.some(({ kind }) => kind === 'sync'));
        store = opened(disk);
      }
      disk.losePower();
      store = opened(disk);
      expect([firstByte(disk, store, 5), firstByte(disk, store, 200)], `seed ${seed}`).to.deep.equal([7, 3]);
    }
  });

  it('does not start, and changes nothing, when table or log cannot be read', () => {
    const disk = formatted();
    append(disk, opened(disk), batchOf(ORIGIN, 5, 7));
    disk.failNext('eio-read');
    disk.failNext('eio-read');
    expect(opened(disk).opening).to.have.property('ok', false);
    expect(opened(disk).opening).to.have.property('ok', false);
    expect(firstByte(disk, opened(disk), 5)).to.equal(7);
  });

  it('writes neighbours to the extents at once, with the bytes of each', () => {
    const disk = formatted();
    const store = opened(disk);
    const data = Buffer.concat([7, 8, 9].map((byte) => Buffer.alloc(BLOCK_SIZE, byte)));
    append(
      disk,
      store,
      encodeBatch({ volume: identity.volume, epoch, previous: ORIGIN }, [{ kind: 'write', lba: 5, data }]),
    );
    append(disk, store, batchOf(store.log.last, 8, 10));
    append(disk, store, batchOf(store.log.last, 7, 11));
    store.commit(store.durable);
    const changes = store.overlay.upTo(store.committed.lsn);
    const asked = store.extents.put(changes).next().value as readonly { offset: number }[];
    expect(asked.map(({ offset }) => offset / BLOCK_SIZE)).to.deep.equal([5, 7, 8]);
    runTask(disk, store.checkpoint());
    expect([5, 6, 7, 8].map((lba) => firstByte(disk, store, lba))).to.deep.equal([7, 8, 11, 10]);
  });

  it('finds by scrubbing what nobody reads', () => {
    const disk = formatted();
    const store = opened(disk);
    append(disk, store, batchOf(ORIGIN, 5, 7));
    store.commit(store.durable);
    runTask(disk, store.checkpoint());
    append(disk, store, batchOf(store.log.last, 6, 7));
    expect(scrubbed(disk, store)).to.deep.equal([]);
    expect(store.intact).to.equal(true);
    for (const lba of [5, 9])
      disk.force({ kind: 'write', area: 'data', offset: lba * BLOCK_SIZE, data: Buffer.alloc(BLOCK_SIZE, 1) });
    expect(scrubbed(disk, store)).to.deep.equal([5, 9]);
    expect(store.intact).to.equal(false);
  });

  it('answers nothing instead of a block that does not match its entry', () => {
    const disk = formatted();
    const store = opened(disk);
    append(disk, store, batchOf(ORIGIN, 5, 7));
    store.commit(store.durable);
    runTask(disk, store.checkpoint());
    disk.force({ kind: 'discard', area: 'data', offset: 5 * BLOCK_SIZE, length: BLOCK_SIZE });
    disk.force({ kind: 'write', area: 'data', offset: 9 * BLOCK_SIZE, data: Buffer.alloc(BLOCK_SIZE, 7) });
    expect([firstByte(disk, store, 5), firstByte(disk, store, 9)]).to.deep.equal([undefined, undefined]);
  });
});

describe('RebuildTarget', () => {
  const reset = (store: Store, usable: boolean): Message => ({
    kind: 'reset',
    epoch,
    session: 1,
    start: ORIGIN,
    blocks: identity.geometry.blocks,
    seen: { usable, durable: store.durable },
  });

  it('is not emptied by a reset that was meant for another state', () => {
    const disk = formatted();
    const store = opened(disk);
    const late = reset(store, true);
    append(disk, store, batchOf(ORIGIN, 5, 7));
    runTask(disk, new RebuildTarget(store).receive(late));
    expect([store.usable, firstByte(disk, store, 5)]).to.deep.equal([true, 7]);
  });

  it('has the base beneath what is only logged', () => {
    const disk = formatted();
    const store = opened(disk);
    const target = new RebuildTarget(store);
    runTask(disk, target.receive(reset(store, true)));
    const batch = batchOf(ORIGIN, 5, 8);
    target.noteLogged(batch);
    append(disk, store, batch);
    const data = Buffer.alloc(BLOCK_SIZE, 7);
    runTask(disk, target.receive({ kind: 'base', epoch, session: 1, index: 0, lba: 5, blocks: 1, data }));
    runTask(disk, target.receive({ kind: 'seal', epoch, session: 1, count: 1 }));
    expect(firstByte(disk, store, 5)).to.equal(8);
    runTask(disk, store.truncate(ORIGIN));
    expect(firstByte(disk, store, 5)).to.equal(7);
  });
});
