/**
 * The one writer of the volume: keeps some operations under way against the replica that it takes for the primary, with values
 * that are never used twice, and reports everything to the oracle. When it is told `moved`, or its server dies or is
 * silent, it begins a new session elsewhere and takes whatever was under way for undecided.
 */
import type { ClientAnswer, ClientRequest } from '../../src/block/ports.ts';
import { BLOCK_SIZE } from '../../src/block/units.ts';
import { type Oracle, type Value, Violation } from './oracle.ts';
import type { Queue } from './queue.ts';
import type { Random } from './random.ts';

const RETRY_MS = 30;
/** A server that does not answer for so long is given up, as a client on another machine would. */
const TIMEOUT_MS = 1200;
const ZEROS = Buffer.alloc(BLOCK_SIZE);

interface UnderWay {
  readonly body: ClientRequest;
  readonly done: (data: Uint8Array | undefined) => void;
}

export interface ClientOptions {
  readonly hot: readonly number[];
  readonly operations: number;
  readonly depth: number;
  /** At most so long a pause between two operations. */
  readonly thinkMs: number;
  readonly nodes: number;
  readonly blocks: number;
  readonly growBy: number;
  submit(node: number, request: number, body: ClientRequest): boolean;
  /** Whether EIO from this replica can be explained by its disk. */
  mayBeDamaged(node: number): boolean;
}

export class Client {
  readonly #options: ClientOptions;
  readonly #oracle: Oracle;
  readonly #queue: Queue;
  readonly #random: Random;
  readonly #underWay = new Map<number, UnderWay>();
  #node = 0;
  #nextRequest = 1;
  #nextValue = 1;
  #issued = 0;
  #newestEpoch = 0n;
  /** The newest epoch in which a session has begun. */
  #provenEpoch = 0n;
  /** The epoch that has answered in this session. */
  #sessionEpoch: bigint | undefined;
  #retrying = false;
  #thinking = false;
  #final: number[] | undefined;
  #flushedAtEnd = false;
  #size: number;

  constructor(options: ClientOptions, world: { oracle: Oracle; queue: Queue; random: Random }) {
    this.#options = options;
    this.#size = options.blocks;
    this.#oracle = world.oracle;
    this.#queue = world.queue;
    this.#random = world.random;
  }

  /** The volume's size, as far as it has been answered for. */
  get size(): number {
    return this.#size;
  }

  get #hot(): readonly number[] {
    return this.#options.hot.filter((lba) => lba < this.#size);
  }

  get hasIssuedAll(): boolean {
    return this.#issued >= this.#options.operations;
  }

  get isDone(): boolean {
    return this.#flushedAtEnd;
  }

  /** From now on: read every block once, then flush. */
  finish(): void {
    this.#issued = this.#options.operations;
    this.#final ??= [...this.#hot];
    this.pump();
  }

  pump(): void {
    // A session begins with one read: nothing is wasted on a server that does not serve.
    const depth = this.#sessionEpoch === undefined ? 1 : this.#options.depth;
    while (!this.#retrying && this.#underWay.size < depth) {
      if (this.#sessionEpoch === undefined && this.#final === undefined) {
        if (!this.hasIssuedAll) this.#read(this.#random.pick(this.#hot), 1);
        return;
      }
      if (!this.hasIssuedAll) {
        if (this.#thinking) return;
        this.#issued++;
        this.#issueRandom();
        if (this.#random.chance(0.3)) this.#think();
      } else if (this.#final === undefined) return;
      else if (this.#final.length > 0) this.#read(this.#final.pop()!, 1);
      else if (this.#underWay.size === 0 && !this.#flushedAtEnd) this.#flush(() => (this.#flushedAtEnd = true));
      else return;
    }
  }

  #think(): void {
    this.#thinking = true;
    this.#queue.after(this.#random.next() * this.#options.thinkMs, () => {
      this.#thinking = false;
      this.pump();
    });
  }

  #issueRandom(): void {
    const { growBy, blocks: first } = this.#options;
    if (growBy > 0 && this.#size === first && this.#random.chance(0.05)) {
      this.#resize(first + growBy);
      return;
    }
    const lba = this.#random.pick(this.#hot);
    const blocks = Math.min(this.#random.pick([1, 1, 1, 2, 5]), this.#size - lba);
    const dice = this.#random.next();
    if (dice < 0.3) this.#read(lba, blocks);
    else if (dice < 0.45) this.#flush(() => {});
    else if (dice < 0.57)
      this.#change(
        lba,
        Array.from({ length: blocks }, () => 0),
        true,
      );
    else
      this.#change(
        lba,
        Array.from({ length: blocks }, () => this.#nextValue++),
        false,
      );
  }

  #read(lba: number, blocks: number): void {
    const begun = Array.from({ length: blocks }, (_, index) => this.#oracle.beginRead(lba + index));
    this.#submit({ kind: 'read', lba, blocks }, (data) => {
      if (data?.length !== blocks * BLOCK_SIZE) throw new Violation('a read was answered without its data');
      begun.forEach((invoked, index) => {
        const value = readValue(data.subarray(index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE), lba + index);
        this.#oracle.endRead(lba + index, invoked, value);
      });
    });
  }

  #change(lba: number, values: readonly Value[], zero: boolean): void {
    const fua = this.#random.chance(0.25);
    const begun = values.map((value, index) => this.#oracle.beginWrite(lba + index, value));
    const body: ClientRequest = zero
      ? { kind: this.#random.pick(['zero', 'trim'] as const), lba, blocks: values.length, fua }
      : { kind: 'write', lba, data: Buffer.concat(values.map(contentOf)), fua };
    this.#submit(body, () => {
      begun.forEach((operation, index) => {
        if (fua) this.#oracle.forced(lba + index, operation);
        this.#oracle.endWrite(lba + index, operation);
      });
    });
  }

  #resize(blocks: number): void {
    const since = this.#oracle.now;
    this.#submit({ kind: 'resize', blocks }, () => {
      this.#oracle.flushed(since);
      this.#size = blocks;
    });
  }

  #flush(then: () => void): void {
    const since = this.#oracle.now;
    this.#submit({ kind: 'flush' }, () => {
      this.#oracle.flushed(since);
      then();
    });
  }

  #submit(body: ClientRequest, done: UnderWay['done']): void {
    const request = this.#nextRequest++;
    this.#underWay.set(request, { body, done });
    if (!this.#options.submit(this.#node, request, body)) this.#moveOn();
    this.#queue.after(TIMEOUT_MS, () => {
      if (this.#underWay.has(request)) this.#moveOn('silent');
    });
  }

  answered(node: number, request: number, answer: ClientAnswer): void {
    if (answer.ok) {
      if (answer.epoch < this.#newestEpoch) {
        throw new Violation(
          `node-${node} answered in epoch ${answer.epoch} after epoch ${this.#newestEpoch} had answered`,
        );
      }
      this.#newestEpoch = answer.epoch;
    }
    const entry = this.#underWay.get(request);
    if (entry === undefined) return;
    if (answer.ok) {
      if (this.#sessionEpoch === undefined && answer.epoch > this.#provenEpoch) {
        this.#provenEpoch = answer.epoch;
        this.#oracle.recovered();
      }
      this.#sessionEpoch ??= answer.epoch;
      if (answer.epoch !== this.#sessionEpoch) {
        // The same server, but it has lost its seat and won it again: what was not flushed may be gone.
        this.#moveOn();
        return;
      }
      this.#underWay.delete(request);
      entry.done(answer.data);
      this.pump();
      return;
    }
    if (answer.error === 'out-of-range' && !this.#oracle.relaxed)
      throw new Violation('a request within the volume was refused as out of range');
    if (answer.error === 'damaged' && !this.#options.mayBeDamaged(node)) {
      throw new Violation(`node-${node} reports damage although its disk never lied`);
    }
    this.#moveOn();
  }

  serverDown(node: number): void {
    if (node === this.#node) this.#moveOn();
  }

  #moveOn(why: 'told' | 'silent' = 'told'): void {
    // What the end of the run still wants to see is asked for again.
    for (const { body } of this.#underWay.values()) {
      if (this.#final && body.kind === 'read') this.#final.push(body.lba);
    }
    this.#underWay.clear();
    this.#sessionEpoch = undefined;
    this.#oracle.lost(why === 'silent');
    this.#node = (this.#node + 1) % this.#options.nodes;
    if (this.#retrying) return;
    this.#retrying = true;
    this.#queue.after(RETRY_MS, () => {
      this.#retrying = false;
      this.pump();
    });
  }
}

/** A block full of one number; zeros for 0. */
export function contentOf(value: Value): Buffer {
  const block = Buffer.alloc(BLOCK_SIZE);
  if (value !== 0) {
    block.writeUInt32LE(value, 0);
    block.writeUInt32LE(~value >>> 0, 4);
    block.copyWithin(8, 0, 8);
    for (let filled = 16; filled < BLOCK_SIZE; filled *= 2) block.copyWithin(filled, 0, filled);
  }
  return block;
}

export function readValue(data: Uint8Array, lba: number): Value {
  if (ZEROS.equals(data)) return 0;
  const value = Buffer.from(data.buffer, data.byteOffset, 4).readUInt32LE(0);
  if (!contentOf(value).equals(data)) throw new Violation(`block ${lba} returned a mixture of writes`);
  return value;
}
