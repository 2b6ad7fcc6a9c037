/**
 * How many operations the readers did, how long some of them took, and how many names the index did not know: plain numbers in
 * shared memory, a row for each reader and operation, so that nobody waits for anybody. Times are from the request's arrival
 * at the reader to the end of its reply; the kernel's queue is not in them. Looking at the clock twice costs 0.2 µs, as much
 * as a system call, so only every seventh operation is timed: seven, because programs repeat a few operations in turn.
 */
import { performance } from 'node:perf_hooks';
import { MAX_READERS } from '../inode/layout.ts';
import { OP, OP_COUNT } from '../protocol/abi.ts';

/** Upper bounds, in seconds; one more bucket is above them all. */
export const LATENCY_BOUNDS_SECONDS: readonly number[] = [
  10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 1e-3, 5e-3, 25e-3, 100e-3, 1, 10,
];
const BOUNDS_MS = LATENCY_BOUNDS_SECONDS.map((seconds) => seconds * 1000);
const BUCKETS = BOUNDS_MS.length + 1;
const TIMED_ONE_IN = 7;
/** Per operation: its buckets, the milliseconds in all, and how often it was done. */
const ROW = BUCKETS + 2;
/** Behind the operations of a reader, padded so that no two readers share a cache line. */
const READER = OP_COUNT * ROW + 8;
const [NAMES_AT, REMEMBERED_AT, UNKNOWN_AT] = [OP_COUNT * ROW, OP_COUNT * ROW + 1, OP_COUNT * ROW + 2];

export interface OperationMeasurement {
  /** As the kernel calls it, in lower case: `lookup`. */
  readonly operation: string;
  readonly count: number;
  /** Of those that were timed: how many in each bucket, and the seconds of all. */
  readonly timed: readonly number[];
  readonly seconds: number;
}

export interface Measurements {
  /** Of operations that were done at least once. */
  readonly operations: readonly OperationMeasurement[];
  readonly lookedUp: LookedUp;
}

/** Names that were looked up; those answered from memory alone, and those for which the branches had to be asked. */
export interface LookedUp {
  readonly names: number;
  readonly remembered: number;
  readonly unknown: number;
}

export function createMeterMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(MAX_READERS * READER * Float64Array.BYTES_PER_ELEMENT);
}

/** One reader's. */
export class Meter {
  readonly #values: Float64Array;
  #untilTimed = TIMED_ONE_IN;

  constructor(memory: SharedArrayBuffer, thread: number) {
    this.#values = new Float64Array(memory, thread * READER * Float64Array.BYTES_PER_ELEMENT, READER);
  }

  /** To be called when a request has arrived; its answer is for `end`. */
  begin(): number {
    if (--this.#untilTimed > 0) return 0;
    this.#untilTimed = TIMED_ONE_IN;
    return performance.now();
  }

  end(opcode: number, begun: number): void {
    if (opcode >= OP_COUNT) return;
    const row = opcode * ROW;
    this.#values[row + BUCKETS + 1]! += 1;
    if (begun === 0) return;
    const ms = performance.now() - begun;
    let bucket = 0;
    while (bucket < BUCKETS - 1 && ms > BOUNDS_MS[bucket]!) bucket++;
    this.#values[row + bucket]! += 1;
    this.#values[row + BUCKETS]! += ms;
  }

  setLookedUp({ names, remembered, unknown }: LookedUp): void {
    this.#values[NAMES_AT] = names;
    this.#values[REMEMBERED_AT] = remembered;
    this.#values[UNKNOWN_AT] = unknown;
  }
}

const NAMES = new Map<number, string>(Object.entries(OP).map(([name, opcode]) => [opcode, name.toLowerCase()]));

/** Of all readers together. */
export function readMeters(memory: SharedArrayBuffer): Measurements {
  const values = new Float64Array(memory);
  const sumOf = (offset: number) => {
    let sum = 0;
    for (let thread = 0; thread < MAX_READERS; thread++) sum += values[thread * READER + offset]!;
    return sum;
  };
  const operations: OperationMeasurement[] = [];
  for (let opcode = 0; opcode < OP_COUNT; opcode++) {
    const row = opcode * ROW;
    const count = sumOf(row + BUCKETS + 1);
    if (count === 0) continue;
    const operation = NAMES.get(opcode) ?? `opcode_${opcode}`;
    const timed = Array.from({ length: BUCKETS }, (_, bucket) => sumOf(row + bucket));
    operations.push({ operation, count, timed, seconds: sumOf(row + BUCKETS) / 1000 });
  }
  const lookedUp = { names: sumOf(NAMES_AT), remembered: sumOf(REMEMBERED_AT), unknown: sumOf(UNKNOWN_AT) };
  return { operations, lookedUp };
}
