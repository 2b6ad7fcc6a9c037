import { expect } from 'chai';
import { type Batch, encodeBatch } from '../../../src/block/batch.ts';
import { Log, ringWrites } from '../../../src/block/log.ts';
import { chooseSuperblock, scanLog } from '../../../src/block/recovery.ts';
import { encodeSuperblock, type Superblock } from '../../../src/block/superblock.ts';
import { BLOCK_SIZE, ORIGIN, type Point, toEpoch } from '../../../src/block/units.ts';

const volume = '1'.repeat(32);
const replica = '2'.repeat(32);
const RING = 12;

function batchAfter(previous: Point, blocks: number, epoch = 1): Batch {
  const data = Buffer.alloc(blocks * BLOCK_SIZE, Number(previous.lsn) + 1);
  return encodeBatch({ volume, epoch: toEpoch(epoch), previous }, [{ kind: 'write', lba: 3, data }]);
}

/** A ring with the batches written one after the other from `tail` on, and their places. */
function ringOf(tail: number, sizes: readonly number[]): { ring: Buffer; log: Log } {
  const ring = Buffer.alloc(RING * BLOCK_SIZE);
  const log = new Log(RING, ORIGIN, tail);
  for (const size of sizes) {
    const { batch, position } = log.place(batchAfter(log.last, size));
    for (const write of ringWrites(position, batch.parts, RING)) {
      if (write.kind === 'write') ring.set(write.data, write.offset);
    }
  }
  return { ring, log };
}

describe('scanLog', () => {
  it('finds every batch in order, wherever the ring wraps', () => {
    for (let tail = 0; tail < RING; tail++) {
      const { ring, log } = ringOf(tail, [2, 1, 3, 2]);
      expect(scanLog(ring, { volume, base: ORIGIN, tail })).to.deep.equal({ batches: log.batches, damaged: false });
    }
  });

  it('takes a torn batch at the end for the end, wherever it lies', () => {
    for (let tail = 0; tail < RING; tail++) {
      const { ring, log } = ringOf(tail, [2, 3, 2]);
      const last = log.batches[2]!;
      ring[(((last.position + 2) % RING) + 1) * BLOCK_SIZE - 1]! ^= 1;
      const scan = scanLog(ring, { volume, base: ORIGIN, tail });
      expect(scan).to.deep.equal({ batches: log.batches.slice(0, 2), damaged: false });
    }
  });

  it('calls it damage when a batch is missing before another one', () => {
    for (let tail = 0; tail < RING; tail++) {
      const { ring, log } = ringOf(tail, [2, 3, 2]);
      ring.fill(0, log.batches[1]!.position * BLOCK_SIZE, (log.batches[1]!.position + 1) * BLOCK_SIZE);
      expect(scanLog(ring, { volume, base: ORIGIN, tail }).damaged).to.equal(true);
    }
  });

  it('does not take an older lap of the ring for the log', () => {
    const { ring, log } = ringOf(0, [2, 3]);
    const [first, second] = log.batches;
    const base = first!.batch.end;
    const start = { volume, base, tail: second!.position };
    expect(scanLog(ring, start)).to.deep.equal({ batches: [second], damaged: false });
  });

  it('does not believe a batch of another volume, or one that follows another log', () => {
    const { ring } = ringOf(0, [2]);
    expect(scanLog(ring, { volume: replica, base: ORIGIN, tail: 0 }).batches).to.have.length(0);
    const base = { ...ORIGIN, hash: 'f'.repeat(32) };
    expect(scanLog(ring, { volume, base, tail: 0 }).batches).to.have.length(0);
  });
});

describe('chooseSuperblock', () => {
  const geometry = { blocks: 100, ringBlocks: RING };
  const identity = { volume, replica, geometry };
  const state: Superblock = {
    ...identity,
    sequence: 5n,
    promised: toEpoch(3),
    checkpoint: ORIGIN,
    tail: 0,
    complete: true,
  };
  const newer: Superblock = { ...state, sequence: 6n, promised: toEpoch(4) };
  const damaged = Buffer.alloc(BLOCK_SIZE, 7);
  const slots = (a: Uint8Array, b: Uint8Array) => Buffer.concat([a, b]);

  it('takes the newer of two copies, in either place', () => {
    for (const bytes of [
      slots(encodeSuperblock(state), encodeSuperblock(newer)),
      slots(encodeSuperblock(newer), encodeSuperblock(state)),
    ]) {
      expect(chooseSuperblock(bytes, identity)).to.deep.equal({ ok: true, value: newer });
    }
  });

  it('takes the one that is left when the other is damaged', () => {
    expect(chooseSuperblock(slots(encodeSuperblock(state), damaged), identity)).to.deep.equal({
      ok: true,
      value: state,
    });
    expect(chooseSuperblock(slots(damaged, encodeSuperblock(state)), identity)).to.deep.equal({
      ok: true,
      value: state,
    });
  });

  it('says that a blank disk is blank', () => {
    expect(chooseSuperblock(Buffer.alloc(2 * BLOCK_SIZE), identity)).to.deep.equal({ ok: true, value: undefined });
  });

  it('refuses a disk with two damaged copies, and one of another replica', () => {
    const refusal = (bytes: Uint8Array | undefined, wanted = identity) => {
      const choice = chooseSuperblock(bytes, wanted);
      return choice.ok ? 'taken' : choice.error;
    };
    expect(refusal(slots(damaged, damaged))).to.match(/^both superblocks are damaged; /);
    const both = slots(encodeSuperblock(state), encodeSuperblock(state));
    expect(refusal(both, { ...identity, replica: volume })).to.equal(
      `the disk belongs to replica ${replica} of volume ${volume}; put back the one of replica ${volume}`,
    );
    expect(refusal(undefined)).to.match(/^the superblocks cannot be read; /);
  });
});
