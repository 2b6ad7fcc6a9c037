import { expect } from 'chai';
import { BufferPool } from '../../../src/host/buffers.ts';

const KIB = 1024;

describe('BufferPool', () => {
  it('gives out again what has come back whole, in however many parts', () => {
    const pool = new BufferPool();
    const first = pool.take(64 * KIB);
    pool.give(first.subarray(0, 48 * KIB));
    const second = pool.take(64 * KIB);
    expect(second.buffer).to.not.equal(first.buffer);
    pool.give(first.subarray(48 * KIB));
    expect(pool.take(64 * KIB).buffer).to.equal(first.buffer);
    expect(pool.take(64 * KIB).buffer).to.not.be.oneOf([first.buffer, second.buffer]);
  });

  it('keeps nothing that it has not given out', () => {
    const pool = new BufferPool();
    const strange = Buffer.allocUnsafeSlow(64 * KIB);
    pool.give(strange);
    expect(pool.take(64 * KIB).buffer).to.not.equal(strange.buffer);
  });

  it('lets go of what was not needed for a while, and only of that', () => {
    const pool = new BufferPool();
    const buffers = [1, 2, 3].map(() => pool.take(64 * KIB));
    for (const buffer of buffers) pool.give(buffer);
    pool.shrink();
    // One at a time is needed.
    for (let turn = 0; turn < 5; turn++) pool.give(pool.take(64 * KIB));
    pool.shrink();
    expect(buffers.map(({ length }) => length).sort()).to.deep.equal([0, 0, 64 * KIB]);
    pool.shrink();
    pool.shrink();
    expect(buffers.map(({ length }) => length)).to.deep.equal([0, 0, 0]);
  });
});
