import { expect } from 'chai';
import { formatTable, judge, medians } from '../../bench/table.ts';

describe('medians', () => {
  it('takes the middle sample, or the mean of the two in the middle, of each phase that was run', () => {
    expect(medians([{ create: 9 }, { create: 1 }, { create: 2, unlink: 4 }])).to.deep.equal({ create: 2, unlink: 4 });
    expect(medians([{ create: 1 }, { create: 4 }])).to.deep.equal({ create: 2.5 });
    expect(medians([])).to.deep.equal({});
  });
});

describe('judge', () => {
  it('holds the union against each peer that has a bar for the phase', () => {
    const found = judge({ mergerfs: { missing_cold: 10 }, null: { missing_cold: 40 }, union: { missing_cold: 30 } });
    expect(found.map(({ against, reached, met }) => ({ against, reached, met }))).to.deep.equal([
      { against: 'mergerfs', reached: 3, met: true },
      { against: 'null', reached: 0.75, met: false },
    ]);
  });

  it('judges nothing without the peer or the union', () => {
    expect(judge({ union: { create: 1 } })).to.deep.equal([]);
    expect(judge({ mergerfs: { create: 1 } })).to.deep.equal([]);
  });
});

describe('formatTable', () => {
  it('has a row for each phase that anybody ran, and a dash where one did not', () => {
    const table = formatTable({
      native: { create: 50_000, rename: 1000 },
      mergerfs: { create: 10_000 },
      union: { create: 15_000 },
    });
    expect(table.split('\n')).to.deep.equal([
      '                    native  mergerfs  union  union compared',
      'create 4 KiB (k/s)    50.0      10.0   15.0  1.50 × mergerfs (below bar 2)',
      'rename (k/s)           1.0         –      –',
    ]);
  });
});
