import { expect } from 'chai';
import {
  atLeast,
  atMost,
  type Comparison,
  formatTable,
  formatVerdicts,
  judge,
  medians,
  withBound,
} from '../../bench/table.ts';

const bar = (phase: Comparison['phase'], against: string, ratio: number): Comparison => ({
  phase,
  of: 'union',
  against,
  ratio,
});

describe('medians', () => {
  it('takes the middle sample, or the mean of the two in the middle, of each phase that was run', () => {
    expect(medians([{ create: 9 }, { create: 1 }, { create: 2, unlink: 4 }])).to.deep.equal({ create: 2, unlink: 4 });
    expect(medians([{ create: 1 }, { create: 4 }])).to.deep.equal({ create: 2.5 });
    expect(medians([])).to.deep.equal({});
  });
});

describe('judge', () => {
  it('holds one entry against another where there is a bar', () => {
    const measured = { mergerfs: { missing_cold: 10 }, null: { missing_cold: 40 }, union: { missing_cold: 30 } };
    const found = judge(measured, [bar('missing_cold', 'mergerfs', 2), bar('missing_cold', 'null', 0.85)]);
    expect(found.map(({ unit, reached, met }) => ({ unit, reached, met }))).to.deep.equal([
      { unit: '× mergerfs', reached: 3, met: true },
      { unit: '× null', reached: 0.75, met: false },
    ]);
  });

  it('judges nothing without both', () => {
    expect(judge({ union: { create: 1 } }, [bar('create', 'mergerfs', 2)])).to.deep.equal([]);
    expect(judge({ mergerfs: { create: 1 } }, [bar('create', 'mergerfs', 2)])).to.deep.equal([]);
  });
});

describe('withBound', () => {
  it('puts the requests and the native operation one after the other; what is remembered needs the requests alone', () => {
    const measured = withBound({ native: { create: 4, stat_cold: 8 }, null: { create: 4, stat_cold: 2 } });
    expect(measured['null + native']).to.deep.equal({ create: 2, stat_cold: 2 });
  });

  it('does so for each setting that both were measured in', () => {
    const measured = withBound({
      'native, 4 clients': { create: 4 },
      'null, 4 clients': { create: 4 },
      null: { create: 8 },
    });
    expect(measured['null + native, 4 clients']).to.deep.equal({ create: 2 });
    expect(measured).not.to.have.property('null + native');
  });

  it('tells with each bar what was to be had', () => {
    const measured = { native: { create: 4 }, null: { create: 4 }, mergerfs: { create: 2 }, union: { create: 1.5 } };
    const limit = { of: 'null + native', against: 'mergerfs' };
    const [verdict] = judge(withBound(measured), [{ ...bar('create', 'mergerfs', 2), limit }]);
    expect(verdict).to.include({ reached: 0.75, limit: 1 });
  });

  it('adds nothing where one of the two is missing', () => {
    expect(withBound({ native: { create: 4 } })).to.deep.equal({ native: { create: 4 } });
  });
});

describe('formatTable', () => {
  it('has a row for each phase that anybody ran, and a dash where one did not', () => {
    const measured = {
      native: { create: 50_000, rename: 1000 },
      mergerfs: { create: 10_000 },
      union: { create: 15_000 },
    };
    expect(formatTable(measured, [bar('create', 'mergerfs', 2)]).split('\n')).to.deep.equal([
      '                    native  mergerfs  union',
      'create 4 KiB (k/s)    50.0      10.0   15.0  1.50 × mergerfs (below bar 2)',
      'rename (k/s)           1.0         –      –',
    ]);
  });
});

describe('formatVerdicts', () => {
  it('says of each bar whether it is reached, and what was to be had', () => {
    const lines = formatVerdicts([
      atLeast('rename', 2.5, 2, '× mergerfs'),
      atLeast('create', 1.4, 2, '× mergerfs', 1.7),
      atLeast('unlink', 1.4, 1.5, '× mergerfs', 1.7),
      atMost('start', 250, 300, 'ms'),
    ]).split('\n');
    expect(lines).to.deep.equal([
      'rename  2.50 × mergerfs    ≥ 2  ok',
      'create  1.40 × mergerfs    ≥ 2  below; about 1.70 is to be had',
      'unlink  1.40 × mergerfs  ≥ 1.5  below',
      'start            250 ms  ≤ 300  ok',
    ]);
  });
});
