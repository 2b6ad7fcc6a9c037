/** Laws of splitting and growing capacity. */
import { expect } from 'chai';
import fc from 'fast-check';
import { bytes } from '../../src/base/units.ts';
import { type BranchSize, MIN_BRANCH_BYTES } from '../../src/protocol/branch-list.ts';
import { growCapacity, splitCapacity, sum } from '../../src/union/capacity.ts';

const TIB = 1024n ** 4n;
const size: fc.Arbitrary<BranchSize> = fc.oneof(
  fc.constant<BranchSize>({ kind: 'rest' }),
  fc.bigInt({ min: 1n, max: 400n }).map((basisPoints): BranchSize => ({ kind: 'percent', basisPoints })),
  fc.bigInt({ min: MIN_BRANCH_BYTES, max: TIB }).map((value): BranchSize => ({ kind: 'bytes', bytes: bytes(value) })),
);
const sizes = fc.array(size, { minLength: 1, maxLength: 64 });
const capacity = fc.bigInt({ min: 1n, max: 64n * TIB });

describe('splitCapacity', () => {
  it('adds up to at least what is required, within the limit, each part at least the minimum', () => {
    fc.assert(
      fc.property(sizes, capacity, fc.option(capacity), capacity, (parts, requiredBytes, above, adopted) => {
        const limitBytes = above === null ? 0n : requiredBytes + above;
        const result = splitCapacity({ requiredBytes, limitBytes }, parts, adopted);
        if (!result.ok) {
          expect(result.error.code).to.equal('OUT_OF_RANGE');
          return;
        }
        expect(result.value).to.have.length(parts.length);
        const total = sum(result.value) + adopted;
        expect(total >= requiredBytes).to.equal(true);
        if (limitBytes > 0n) expect(total <= limitBytes).to.equal(true);
        for (const part of result.value) expect(part >= MIN_BRANCH_BYTES).to.equal(true);
        result.value.forEach((part, index) => {
          const asked = parts[index]!;
          if (asked.kind === 'bytes') expect(part).to.equal(asked.bytes);
        });
      }),
    );
  });

  it('always succeeds without a limit when some branch takes the rest', () => {
    fc.assert(
      fc.property(sizes, capacity, (parts, requiredBytes) => {
        expect(splitCapacity({ requiredBytes, limitBytes: 0n }, [...parts, { kind: 'rest' }], 0n).ok).to.equal(true);
      }),
    );
  });

  it('makes no part smaller for a larger request, shares aside from the rest', () => {
    const evenly = fc.integer({ min: 1, max: 64 });
    fc.assert(
      fc.property(evenly, capacity, capacity, (count, requiredBytes, more) => {
        const parts = Array<BranchSize>(count).fill({ kind: 'rest' });
        const small = splitCapacity({ requiredBytes, limitBytes: 0n }, parts, 0n);
        const large = splitCapacity({ requiredBytes: requiredBytes + more, limitBytes: 0n }, parts, 0n);
        if (!small.ok || !large.ok) throw new Error('refused');
        small.value.forEach((part, index) => {
          expect(large.value[index]! >= part).to.equal(true);
        });
      }),
    );
  });
});

describe('growCapacity', () => {
  const branch = fc.record({ sizeBytes: fc.bigInt({ min: MIN_BRANCH_BYTES, max: TIB }), growable: fc.boolean() });

  it('shrinks nothing, leaves alone what cannot grow, and adds up to what is required', () => {
    fc.assert(
      fc.property(fc.array(branch, { minLength: 1, maxLength: 64 }), capacity, (branches, requiredBytes) => {
        const result = growCapacity({ requiredBytes, limitBytes: 0n }, branches);
        if (!result.ok) {
          expect(branches.some(({ growable }) => growable)).to.equal(false);
          return;
        }
        expect(sum(result.value) >= requiredBytes).to.equal(true);
        branches.forEach(({ sizeBytes, growable }, index) => {
          const after = result.value[index]!;
          expect(growable ? after >= sizeBytes : after === sizeBytes).to.equal(true);
        });
      }),
    );
  });
});
