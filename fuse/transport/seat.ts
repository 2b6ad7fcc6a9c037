/**
 * On which CPU a reader works: on one of its own or, as long as requests come from one thread alone, on that thread's; and how the
 * kernel's scheduler takes it. To wake another CPU for each request, and the caller's for each answer, takes several times what most
 * requests do themselves, on a virtual machine most of all. Requests that move data are many at once, even of one thread: other CPUs are
 * good for these.
 *
 * The kernel wakes a thread on an idle CPU if there is one. That of the reader that wakes it is not idle, so a caller would leave it with
 * every answer; but a CPU on which only SCHED_IDLE threads run counts as idle. So a reader is one while it sits beside its caller.
 *
 * Of many callers one runs on each CPU at any time. An ordinary reader that is woken interrupts it, for one request; a SCHED_BATCH one
 * works when that waits too. A caller alone would wait for whatever else runs on its reader's CPU.
 * Source: kernel/sched/fair.c (select_idle_sibling), sched(7).
 */
import { MAX_READERS } from '../inode/layout.ts';
import { OP } from '../protocol/abi.ts';
import type { Crowd } from './crowd.ts';

/** A thread is alone when this many requests were its own, over at least so long, but for a few among them. */
const ALONE_REQUESTS = 256;
const ALONE_MS = 50;
const ALONE_OTHERS = 8;
/** Beside its caller the reader looks after so many requests whether that is elsewhere, and leaves it when more than so many of them were others'. */
const LOOK_EVERY = 8;
const BESIDE_OTHERS = 3;

/** Words between those of two readers, so that they do not share a cache line. */
const CALLER_STRIDE = 16;

/** The last caller of each reader, for all to see: who has only seen one does not know what the others see. */
export class Callers {
  readonly #words: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
  }

  static memory(): SharedArrayBuffer {
    return new SharedArrayBuffer(MAX_READERS * CALLER_STRIDE * Int32Array.BYTES_PER_ELEMENT);
  }

  /** 0: none. */
  set(reader: number, caller: number): void {
    this.#words[reader * CALLER_STRIDE] = caller;
  }

  /** Whether no reader has another one. */
  areAll(caller: number): boolean {
    for (let at = 0; at < this.#words.length; at += CALLER_STRIDE)
      if (this.#words[at] !== 0 && this.#words[at] !== caller) return false;
    return true;
  }
}

/** Who sits there, and what there is to choose from. */
export interface SeatOptions {
  readonly reader: number;
  readonly callers: Callers;
  readonly crowd: Pick<Crowd, 'sees'>;
  /** The reader's own CPU, or -1: it is not to choose. */
  readonly home: number;
  readonly cpus: readonly number[];
}

/** How the scheduler takes a reader: SCHED_OTHER, SCHED_IDLE beside a caller who is alone, SCHED_BATCH in a crowd (crowd.ts). */
export type Manner = 'ordinary' | 'idle' | 'batch';

/** What a seat decides by, and how: scheduling.ts tells of each. */
export interface Surroundings {
  now(): number;
  sitOn(cpu: number): void;
  mayBeIdle(): boolean;
  become(manner: Manner): void;
  waitsForAnswer(thread: number): boolean;
  cpuOf(thread: number): number;
  forget(): void;
}

export class Seat {
  readonly #surroundings: Surroundings;
  readonly #options: SeatOptions;
  #cpu = -1;
  #manner: Manner = 'ordinary';
  #caller = 0;
  #since = 0;
  #own = 0;
  #others = 0;
  #mannerAtHome: Manner = 'ordinary';

  constructor(surroundings: Surroundings, options: SeatOptions) {
    this.#surroundings = surroundings;
    this.#options = options;
    if (options.home >= 0) this.#sitOn(options.home);
  }

  /** A request of `caller`, a thread's number, has been read and not been answered. 0 is nobody: the kernel, or who is in another PID namespace. */
  sees(caller: number, opcode: number): void {
    if (this.#options.home < 0) return;
    this.#mannerAtHome = this.#options.crowd.sees(opcode) ? 'batch' : 'ordinary';
    if (!this.#isBeside) this.#become(this.#mannerAtHome);
    if (caller === 0) return;
    if (caller === this.#caller && opcode !== OP.READ && opcode !== OP.WRITE) {
      if (++this.#own >= (this.#isBeside ? LOOK_EVERY : ALONE_REQUESTS)) this.#look(caller);
    } else if (++this.#others > (this.#isBeside ? BESIDE_OTHERS : ALONE_OTHERS)) {
      this.#stayHome();
      this.#meets(caller);
    }
  }

  #meets(caller: number): void {
    this.#caller = caller;
    this.#own = this.#others = 0;
    this.#since = this.#surroundings.now();
    this.#options.callers.set(this.#options.reader, caller);
  }

  #look(caller: number): void {
    this.#own = this.#others = 0;
    if (!this.#isBeside && this.#surroundings.now() - this.#since < ALONE_MS) return;
    const cpu = this.#cpuBeside(caller);
    if (!this.#options.cpus.includes(cpu)) {
      this.#stayHome();
      return;
    }
    this.#become('idle');
    this.#sitOn(cpu);
  }

  /** -1: it may not be. */
  #cpuBeside(caller: number): number {
    if (!this.#options.callers.areAll(caller) || !this.#surroundings.mayBeIdle()) return -1;
    // In another PID namespace the number may be somebody else's.
    if (!this.#isBeside && !this.#surroundings.waitsForAnswer(caller)) return -1;
    return this.#surroundings.cpuOf(caller);
  }

  /** The reader has ended. */
  end(): void {
    this.#mannerAtHome = 'ordinary';
    this.#stayHome();
    this.#options.callers.set(this.#options.reader, 0);
  }

  #stayHome(): void {
    this.#surroundings.forget();
    this.#sitOn(this.#options.home);
    this.#become(this.#mannerAtHome);
  }

  get #isBeside(): boolean {
    return this.#manner === 'idle';
  }

  #become(manner: Manner): void {
    if (manner === this.#manner) return;
    this.#manner = manner;
    this.#surroundings.become(manner);
  }

  #sitOn(cpu: number): void {
    if (cpu === this.#cpu) return;
    this.#cpu = cpu;
    this.#surroundings.sitOn(cpu);
  }
}
