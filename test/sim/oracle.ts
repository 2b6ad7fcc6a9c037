/**
 * The judge: what a client saw must be explained by one disk with a volatile cache.
 * Every block is a register, every write has a unique value. Between moments at which nothing is under way on a block, all
 * orders that agree with real time are tried (Wing and Gong, 1993). When the client had to begin a new session, the block may
 * hold any value that no completed flush has superseded; what it then turns out to hold is durable.
 * It does not believe: nothing here knows how the engine works.
 */

/** A value of a block; 0 is zeros. */
export type Value = number;

interface Operation {
  readonly kind: 'read' | 'write';
  readonly value: Value;
  readonly invoked: number;
  /** Infinity: nobody knows whether it happened. */
  completed: number;
}

interface BlockState {
  /** What the block may have held when the segment began. */
  possible: Set<Value>;
  segment: Operation[];
  underWay: number;
  /** Writes that may survive a loss. */
  candidates: Operation[];
  /** Since the epoch began nothing was written: what is read is durable. */
  settled: boolean;
  /** A write that was given up may yet be carried out by a server that was only slow. */
  mayChangeLate: boolean;
}

export class Oracle {
  readonly #blocks = new Map<number, BlockState>();
  readonly #everWritten = new Map<number, Set<Value>>();
  #clock = 0;
  /** Set when no intact copy is left: then only values that nobody ever wrote to the block are wrong. */
  relaxed = false;

  #block(lba: number): BlockState {
    let block = this.#blocks.get(lba);
    if (block === undefined) {
      const origin: Operation = { kind: 'write', value: 0, invoked: -1, completed: 0 };
      block = {
        possible: new Set([0]),
        segment: [],
        underWay: 0,
        candidates: [origin],
        settled: false,
        mayChangeLate: false,
      };
      this.#blocks.set(lba, block);
      this.#everWritten.set(lba, new Set([0]));
    }
    return block;
  }

  get now(): number {
    return ++this.#clock;
  }

  beginWrite(lba: number, value: Value): Operation {
    const block = this.#block(lba);
    const operation: Operation = { kind: 'write', value, invoked: this.now, completed: Number.POSITIVE_INFINITY };
    block.segment.push(operation);
    block.candidates.push(operation);
    block.underWay++;
    block.settled = false;
    this.#everWritten.get(lba)!.add(value);
    return operation;
  }

  beginRead(lba: number): number {
    this.#block(lba).underWay++;
    return this.now;
  }

  endWrite(lba: number, operation: Operation): void {
    operation.completed = this.now;
    this.#end(lba);
  }

  endRead(lba: number, invoked: number, value: Value): void {
    const block = this.#block(lba);
    if (!this.#everWritten.get(lba)!.has(value))
      throw new Violation(`block ${lba} returned ${value}, never written there`);
    block.segment.push({ kind: 'read', value, invoked, completed: this.now });
    this.#end(lba);
  }

  #end(lba: number): void {
    const block = this.#block(lba);
    if (--block.underWay > 0) return;
    this.#judge(lba, block);
  }

  /** A flush that began at `since` is complete. */
  flushed(since: number): void {
    for (const block of this.#blocks.values()) supersede(block, since);
  }

  /** A FUA write is complete: as if flushed right after it. */
  forced(lba: number, operation: Operation): void {
    const block = this.#block(lba);
    block.candidates = block.candidates.filter((other) => !(other.completed < operation.invoked));
  }

  /**
   * The client has lost its session: whatever was under way may have happened, whatever was not flushed may be gone. With
   * `silent`, it has given up waiting, and what was under way may also happen yet.
   */
  lost(silent = false): void {
    for (const [lba, block] of this.#blocks) {
      if (silent && block.segment.some(({ completed }) => completed === Number.POSITIVE_INFINITY)) {
        block.mayChangeLate = true;
      }
      this.#judge(lba, block);
      block.underWay = 0;
      block.possible = new Set(block.candidates.map(({ value }) => value));
      block.settled = false;
      // All of them are in the past now: whatever completes next supersedes them.
      const past = this.#clock;
      block.candidates = block.candidates.map((operation) => ({ ...operation, completed: past }));
    }
  }

  /** The new session is with a new epoch: what blocks hold now is what all in-sync members have on their disks. */
  recovered(): void {
    for (const block of this.#blocks.values()) {
      block.settled = !block.mayChangeLate && !block.segment.some(({ kind }) => kind === 'write');
    }
  }

  #judge(lba: number, block: BlockState): void {
    const { segment } = block;
    if (segment.length === 0) return;
    block.segment = [];
    if (this.relaxed) return;
    const ends = linearize(block.possible, segment);
    if (ends.size === 0) throw new Violation(`block ${lba} cannot be explained: ${describe(block.possible, segment)}`);
    block.possible = ends;
    const [only] = ends;
    if (block.settled && ends.size === 1 && segment.some(({ kind }) => kind === 'read')) {
      block.candidates = block.candidates.filter(({ value }) => value === only);
    }
  }
}

export class Violation extends Error {}

/** Forgets writes that are certainly older than one that the flush covers. */
function supersede(block: BlockState, since: number): void {
  const covered = block.candidates.filter(({ completed }) => completed < since);
  if (covered.length === 0) return;
  const newest = Math.max(...covered.map(({ invoked }) => invoked));
  block.candidates = block.candidates.filter(({ completed }) => !(completed < newest));
}

/** The values with which an order of the operations can end that agrees with real time and explains every read. */
function linearize(start: ReadonlySet<Value>, operations: readonly Operation[]): Set<Value> {
  const ends = new Set<Value>();
  const seen = new Set<string>();
  const search = (left: readonly Operation[], value: Value): void => {
    const key = `${value}:${left.map(({ invoked }) => invoked).join()}`;
    if (seen.has(key)) return;
    seen.add(key);
    if (left.every(({ completed }) => completed === Number.POSITIVE_INFINITY)) ends.add(value);
    const horizon = Math.min(...left.map(({ completed }) => completed));
    for (const operation of left) {
      if (operation.invoked > horizon) continue;
      if (operation.kind === 'read' && operation.value !== value) continue;
      search(
        left.filter((other) => other !== operation),
        operation.value,
      );
    }
  };
  for (const value of start) search(operations, value);
  return ends;
}

function describe(possible: ReadonlySet<Value>, segment: readonly Operation[]): string {
  const steps = segment.map(({ kind, value, invoked, completed }) => `${kind} ${value} [${invoked}..${completed}]`);
  return `it held one of ${[...possible].join(', ')}; then ${steps.join(', ')}`;
}
