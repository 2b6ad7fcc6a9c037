/** When a union that waits is looked at again. */
import { expect } from 'chai';
import { BRANCHES_AVAILABLE } from '../../../src/union/branches-available.ts';
import { nextLookMs } from '../../../src/union/next-look.ts';

const START = Date.parse('2026-01-01T00:00:00Z');

function condition(type: string, status: 'True' | 'False', second = 0) {
  const lastTransitionTime = new Date(START + second * 1000).toISOString();
  return { type, status, reason: 'Test', message: '', lastTransitionTime };
}

const at = (second: number) => new Date(START + second * 1000).toISOString();

describe('nextLookMs', () => {
  it('is later the longer it has waited, within limits', () => {
    const waits = [condition('Ready', 'False'), condition('Resized', 'True')];
    const seconds = [0, 3, 20, 60, 3600];
    expect(seconds.map((second) => nextLookMs(waits, at(second)))).to.deep.equal([
      2_000, 2_000, 10_000, 30_000, 30_000,
    ]);
  });

  it('counts from what changed last', () => {
    const waits = [condition('Ready', 'False'), condition('Resized', 'False', 100)];
    expect(nextLookMs(waits, at(110))).to.equal(5_000);
  });

  it('is never for a union that waits for nothing, or for a branch that fails', () => {
    expect(nextLookMs([condition('Ready', 'True')], at(10))).to.equal(undefined);
    expect(nextLookMs([condition(BRANCHES_AVAILABLE, 'False')], at(10))).to.equal(undefined);
  });
});
