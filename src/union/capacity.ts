/**
 * Capacity: how a union's size is split over new branches, and how growth is.
 * Invariants: the parts and what adopted claims hold add up to at least what is required; no part is below
 * MIN_BRANCH_BYTES; the sum passes the limit never; without a limit a larger request makes no part smaller.
 * Sizes are rounded up to whole MiB, as most lower drivers do anyway, and the rounding is taken back under a tight limit.
 */
import { ok, type Result } from '../base/result.ts';
import { formatQuantity } from '../base/units.ts';
import { type BranchSize, MIN_BRANCH_BYTES } from '../protocol/branch-list.ts';
import { type PlanError, refuse } from './plan-error.ts';

/** CSI's capacity range; 0n is "not given". */
export interface CapacityRange {
  readonly requiredBytes: bigint;
  readonly limitBytes: bigint;
}

/** For requests that name no size. */
export const DEFAULT_CAPACITY_BYTES = 1024n ** 3n;

const MEBIBYTE = 1024n ** 2n;

/** What a request means by its range. */
export function requiredCapacity(range: CapacityRange): Result<bigint, PlanError> {
  const { requiredBytes, limitBytes } = range;
  if (requiredBytes < 0n || limitBytes < 0n) {
    return refuse(
      'INVALID_ARGUMENT',
      `capacity ${requiredBytes} to ${limitBytes} bytes is negative; ask for a positive size`,
    );
  }
  if (limitBytes > 0n && requiredBytes > limitBytes) {
    const pair = `${formatQuantity(requiredBytes)} are required and the limit is ${formatQuantity(limitBytes)}`;
    return refuse('INVALID_ARGUMENT', `${pair}; raise the limit`);
  }
  if (requiredBytes > 0n) return ok(requiredBytes);
  return ok(limitBytes > 0n && limitBytes < DEFAULT_CAPACITY_BYTES ? limitBytes : DEFAULT_CAPACITY_BYTES);
}

/** Sizes of new branches, one for each of `sizes`, in order. */
export function splitCapacity(
  range: CapacityRange,
  sizes: readonly BranchSize[],
  adoptedBytes: bigint,
): Result<readonly bigint[], PlanError> {
  const required = requiredCapacity(range);
  if (!required.ok) return required;
  const total = required.value;
  const parts = sizes.map((size) => {
    if (size.kind === 'bytes') return size.bytes as bigint;
    return size.kind === 'percent' ? atLeastMinimum(ceilDivide(total * size.basisPoints, 10_000n)) : 0n;
  });
  const rests = BigInt(sizes.filter((size) => size.kind === 'rest').length);
  const left = total - adoptedBytes - sum(parts);
  const rest = atLeastMinimum(left > 0n && rests > 0n ? ceilDivide(left, rests) : 0n);
  const rounded = parts.map((part, index) => (sizes[index]!.kind === 'rest' ? rest : part));
  const have = sum(rounded) + adoptedBytes;
  if (have < total) {
    const message = `the branches add up to ${formatQuantity(have)} of the ${formatQuantity(total)} asked for`;
    return refuse(
      'OUT_OF_RANGE',
      `${message}; ask for less, raise a size, or add a branch without one to take the rest`,
    );
  }
  return withinLimit(rounded, {
    limitBytes: range.limitBytes,
    fixedBytes: adoptedBytes,
    floor: (index) => (sizes[index]!.kind === 'bytes' ? rounded[index]! : MIN_BRANCH_BYTES),
  });
}

/** A branch as far as growing it is concerned. */
export interface GrowingBranch {
  readonly sizeBytes: bigint;
  readonly growable: boolean;
}

/** New sizes, in order, each growable branch in proportion to what it has. */
export function growCapacity(
  range: CapacityRange,
  branches: readonly GrowingBranch[],
): Result<readonly bigint[], PlanError> {
  const current = sum(branches.map((branch) => branch.sizeBytes));
  const required = requiredCapacity(range);
  if (!required.ok) return required;
  const increase = required.value - current;
  const sizes = branches.map((branch) => branch.sizeBytes);
  if (increase <= 0n) return ok(sizes);
  const growable = sum(branches.filter((branch) => branch.growable).map((branch) => branch.sizeBytes));
  if (growable === 0n) {
    return refuse(
      'OUT_OF_RANGE',
      'no branch can grow; add a branch, or see that a lower class allows volume expansion',
    );
  }
  const grown = branches.map(({ sizeBytes, growable: grows }) =>
    grows ? roundUp(sizeBytes + ceilDivide(increase * sizeBytes, growable)) : sizeBytes,
  );
  return withinLimit(grown, { limitBytes: range.limitBytes, fixedBytes: 0n, floor: (index) => sizes[index]! });
}

interface Limit {
  readonly limitBytes: bigint;
  readonly fixedBytes: bigint;
  /** The least size that a branch may be cut to. */
  floor(index: number): bigint;
}

/** Cuts what rounding and minimums added beyond the limit, from the last branch on. */
function withinLimit(sizes: readonly bigint[], limit: Limit): Result<readonly bigint[], PlanError> {
  if (limit.limitBytes === 0n) return ok(sizes);
  let excess = sum(sizes) + limit.fixedBytes - limit.limitBytes;
  const cut = [...sizes];
  for (let index = cut.length - 1; index >= 0 && excess > 0n; index--) {
    const spare = cut[index]! - limit.floor(index);
    if (spare <= 0n) continue;
    cut[index] = spare < excess ? limit.floor(index) : cut[index]! - excess;
    excess -= spare;
  }
  if (excess <= 0n) return ok(cut);
  const least = formatQuantity(sum(cut) + limit.fixedBytes);
  const message = `the branches need at least ${least}, and the limit is ${formatQuantity(limit.limitBytes)}`;
  return refuse('OUT_OF_RANGE', `${message}; raise the limit or use fewer branches`);
}

function atLeastMinimum(size: bigint): bigint {
  const rounded = roundUp(size);
  if (rounded < MIN_BRANCH_BYTES) return MIN_BRANCH_BYTES;
  return rounded;
}

function roundUp(size: bigint): bigint {
  return ceilDivide(size, MEBIBYTE) * MEBIBYTE;
}

function ceilDivide(value: bigint, divisor: bigint): bigint {
  return (value + divisor - 1n) / divisor;
}

export function sum(values: readonly bigint[]): bigint {
  return values.reduce((total, value) => total + value, 0n);
}
