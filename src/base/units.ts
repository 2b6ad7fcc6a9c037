/**
 * Branded numbers and Kubernetes quantities.
 * Quantities: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/ (decimal and binary
 * suffixes, exponents; we round up to whole bytes as Kubernetes does for capacities).
 */
import { err, ok, type Result } from './result.ts';

export type Bytes = bigint & { readonly brand: 'Bytes' };

export function bytes(value: bigint | number): Bytes {
  return BigInt(value) as Bytes;
}

const SUFFIXES: Readonly<Record<string, readonly [numerator: bigint, denominator: bigint]>> = {
  n: [1n, 1_000_000_000n],
  u: [1n, 1_000_000n],
  m: [1n, 1000n],
  '': [1n, 1n],
  k: [1000n, 1n],
  M: [1000n ** 2n, 1n],
  G: [1000n ** 3n, 1n],
  T: [1000n ** 4n, 1n],
  P: [1000n ** 5n, 1n],
  E: [1000n ** 6n, 1n],
  Ki: [1024n, 1n],
  Mi: [1024n ** 2n, 1n],
  Gi: [1024n ** 3n, 1n],
  Ti: [1024n ** 4n, 1n],
  Pi: [1024n ** 5n, 1n],
  Ei: [1024n ** 6n, 1n],
};

/** Parses a Kubernetes quantity as bytes, rounding up. The error is a message without the quantity's origin. */
export function parseQuantity(text: string): Result<Bytes, string> {
  const match = /^([+-]?)(\d+)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)$/.exec(text.trim());
  if (!match) return err(`"${text}" is not a size; write bytes or a number with a unit, such as 10Gi`);
  const [, sign, whole, fraction = '', exponent, suffix = ''] = match;
  if (sign === '-') return err(`"${text}" is negative; a size must be positive`);
  let [numerator, denominator] = SUFFIXES[suffix]!;
  if (exponent !== undefined) {
    const power = Number(exponent);
    if (Math.abs(power) > 30) return err(`"${text}" is out of range`);
    if (power >= 0) numerator = 10n ** BigInt(power);
    else denominator = 10n ** BigInt(-power);
  }
  const scaled = BigInt(whole! + fraction) * numerator;
  const divisor = denominator * 10n ** BigInt(fraction.length);
  return ok(bytes((scaled + divisor - 1n) / divisor));
}

const BINARY_UNITS = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'] as const;

/** The shortest exact Kubernetes quantity with a binary suffix: 1073741824 is "1Gi", 1000 is "1000". */
export function formatQuantity(value: bigint): string {
  let unit = 0;
  while (value !== 0n && value % 1024n === 0n && unit < BINARY_UNITS.length - 1) {
    value /= 1024n;
    unit++;
  }
  return `${value}${BINARY_UNITS[unit]}`;
}

/** For people: three significant digits with a binary unit, "1.5 GiB". */
export function formatBytes(value: bigint | number): string {
  let amount = Number(value);
  let unit = 0;
  while (amount >= 1024 && unit < BINARY_UNITS.length - 1) {
    amount /= 1024;
    unit++;
  }
  const digits = unit === 0 || amount >= 100 ? 0 : amount >= 10 ? 1 : 2;
  return `${amount.toFixed(digits)} ${BINARY_UNITS[unit]}B`;
}
