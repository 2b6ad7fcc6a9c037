import { expect } from 'chai';
import { createMeterMemory, LATENCY_BOUNDS_SECONDS, Meter, readMeters } from '../../../fuse/transport/meter.ts';

const LOOKUP = 1;
const RENAME = 12;

describe('Meter', () => {
  it('counts every operation of every reader, and times some', () => {
    const memory = createMeterMemory();
    const meters = [new Meter(memory, 0), new Meter(memory, 1)];
    for (let turn = 0; turn < 700; turn++) for (const meter of meters) meter.end(LOOKUP, meter.begin());
    meters[1]!.end(RENAME, meters[1]!.begin());
    const { operations } = readMeters(memory);
    expect(operations.map(({ operation, count }) => [operation, count])).to.deep.equal([
      ['lookup', 1400],
      ['rename', 1],
    ]);
    const [lookup, rename] = operations;
    expect(lookup!.timed.reduce((sum, count) => sum + count, 0)).to.equal(200);
    expect(lookup!.timed).to.have.length(LATENCY_BOUNDS_SECONDS.length + 1);
    expect(lookup!.seconds).to.be.greaterThan(0);
    expect(rename!.timed.every((count) => count === 0)).to.equal(true);
  });

  it('times what is done in turn evenly', () => {
    const memory = createMeterMemory();
    const meter = new Meter(memory, 0);
    for (let turn = 0; turn < 700; turn++) meter.end(turn % 2 === 0 ? LOOKUP : RENAME, meter.begin());
    const timed = readMeters(memory).operations.map((row) => row.timed.reduce((sum, count) => sum + count, 0));
    expect(timed).to.deep.equal([50, 50]);
  });

  it('sums the names that readers looked up', () => {
    const memory = createMeterMemory();
    new Meter(memory, 0).setLookedUp({ names: 9, remembered: 5, unknown: 3 });
    new Meter(memory, 15).setLookedUp({ names: 10, remembered: 6, unknown: 4 });
    expect(readMeters(memory)).to.deep.equal({
      operations: [],
      lookedUp: { names: 19, remembered: 11, unknown: 7 },
    });
  });
});
