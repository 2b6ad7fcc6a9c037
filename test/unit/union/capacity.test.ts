/** Splitting and growing capacity, by example; the laws are in test/property/capacity.test.ts. */
import { expect } from 'chai';
import { bytes } from '../../../src/base/units.ts';
import type { BranchSize } from '../../../src/protocol/branch-list.ts';
import { growCapacity, requiredCapacity, splitCapacity } from '../../../src/union/capacity.ts';
import { GIB, MIB } from '../../support/union-objects.ts';

const rest: BranchSize = { kind: 'rest' };
const percent = (value: number): BranchSize => ({ kind: 'percent', basisPoints: BigInt(value * 100) });
const fixed = (size: bigint): BranchSize => ({ kind: 'bytes', bytes: bytes(size) });
const range = (requiredBytes: bigint, limitBytes = 0n) => ({ requiredBytes, limitBytes });

function split(...args: Parameters<typeof splitCapacity>) {
  const result = splitCapacity(...args);
  return result.ok ? result.value : result.error;
}

describe('requiredCapacity', () => {
  it('takes 1 GiB for a request without a size, or the limit if that is less', () => {
    expect(requiredCapacity(range(0n))).to.deep.equal({ ok: true, value: GIB });
    expect(requiredCapacity(range(0n, MIB))).to.deep.equal({ ok: true, value: MIB });
  });

  it('refuses a limit below what is required', () => {
    const error = { code: 'INVALID_ARGUMENT', message: '2Gi are required and the limit is 1Gi; raise the limit' };
    expect(requiredCapacity(range(2n * GIB, GIB))).to.deep.equal({ ok: false, error });
  });
});

describe('splitCapacity', () => {
  it('splits evenly, rounded up to whole MiB', () => {
    expect(split(range(GIB), [rest, rest, rest], 0n)).to.deep.equal([342n * MIB, 342n * MIB, 342n * MIB]);
  });

  it('gives shares of the request, fixed sizes as they are, and what is left to the rest', () => {
    expect(split(range(10n * GIB), [percent(20), fixed(3n * GIB), rest], 0n)).to.deep.equal([
      2n * GIB,
      3n * GIB,
      5n * GIB,
    ]);
  });

  it('counts what adopted claims hold', () => {
    expect(split(range(10n * GIB), [rest, rest], 4n * GIB)).to.deep.equal([3n * GIB, 3n * GIB]);
  });

  it('makes no branch smaller than the minimum', () => {
    expect(split(range(MIB), [rest, percent(1)], 0n)).to.deep.equal([16n * MIB, 16n * MIB]);
  });

  it('takes rounding back under a tight limit', () => {
    const third = (GIB + 2n) / 3n;
    const sizes = split(range(GIB, GIB), [rest, rest, rest], 0n) as readonly bigint[];
    expect(sizes.reduce((sum, size) => sum + size)).to.equal(GIB);
    expect(sizes[2]! < third).to.equal(true);
  });

  it('refuses a limit below the minimums', () => {
    expect(split(range(MIB, 20n * MIB), [rest, rest], 0n)).to.deep.equal({
      code: 'OUT_OF_RANGE',
      message: 'the branches need at least 32Mi, and the limit is 20Mi; raise the limit or use fewer branches',
    });
  });

  it('refuses sizes that do not add up to the request', () => {
    expect(split(range(10n * GIB), [fixed(4n * GIB), percent(50)], 0n)).to.deep.equal({
      code: 'OUT_OF_RANGE',
      message:
        'the branches add up to 9Gi of the 10Gi asked for; ask for less, raise a size, or add a branch without one to take the rest',
    });
  });
});

describe('growCapacity', () => {
  it('grows in proportion', () => {
    const branches = [
      { sizeBytes: GIB, growable: true },
      { sizeBytes: 3n * GIB, growable: true },
    ];
    expect(growCapacity(range(8n * GIB), branches)).to.deep.equal({ ok: true, value: [2n * GIB, 6n * GIB] });
  });

  it('leaves alone what cannot grow', () => {
    const branches = [
      { sizeBytes: GIB, growable: false },
      { sizeBytes: GIB, growable: true },
    ];
    expect(growCapacity(range(4n * GIB), branches)).to.deep.equal({ ok: true, value: [GIB, 3n * GIB] });
  });

  it('refuses when nothing can grow', () => {
    const result = growCapacity(range(4n * GIB), [{ sizeBytes: GIB, growable: false }]);
    expect(result.ok ? '' : result.error.message).to.match(/^no branch can grow; add a branch/);
  });
});
