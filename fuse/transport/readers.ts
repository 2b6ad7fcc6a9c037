/**
 * The reader threads of a session: one for each descriptor, and more while some of them wait for a branch that does not
 * answer, so that as many as ever are there for the rest. They end again when the others are back.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { MAX_READERS, WORD } from '../inode/layout.ts';
import { PROGRESS, progressOf } from '../inode/progress.ts';
import type { State } from '../inode/state.ts';
import { hasUnfinished, type OpsConfig, type OpsLogger } from '../ops/context.ts';
import { type PreparedReaders, startReaderThread } from '../reader-threads.ts';
import * as libc from '../sys/libc.ts';
import type { ReaderData, ReaderMessage } from './messages.ts';
import { Callers } from './seat.ts';

/** A thread takes some CPU to start. */
const MAX_SPARE = 4;
const STOPPING_STEP_MS = 1;

export interface ReadersOptions {
  readonly state: State;
  /** A position of scratch memory for this thread. */
  readonly scratch: number;
  readonly config: OpsConfig;
  /** Of meter.ts. */
  readonly meters: SharedArrayBuffer;
  /** Descriptors of one mounted connection. */
  readonly devices: readonly number[];
  readonly log: OpsLogger;
  /** At most as many as there are descriptors. */
  readonly readers?: PreparedReaders | undefined;
}

/** A reader that has been at one request for longer than a moment. */
export interface StuckReader {
  readonly thread: number;
  /** The branch that it entered last, or -1. */
  readonly branch: number;
  /** Whether its request changes something. */
  readonly changes: boolean;
}

export class Readers {
  readonly #options: ReadersOptions;
  readonly #cpus: readonly number[];
  readonly #callers = Callers.memory();
  readonly #running = new Map<number, Worker>();
  /** By thread: the request that it was at when it was last looked at. */
  readonly #seenAt = new Map<number, number>();
  #isEnding = false;
  #isStarting = true;
  readonly #serving = Promise.withResolvers<void>();
  #awaited = 0;
  readonly #ended = Promise.withResolvers<void>();
  #isStopping = false;

  constructor(options: ReadersOptions) {
    this.#options = options;
    this.#cpus = allowedCpus(options.state, options.scratch);
    this.#want(options.devices.length);
    const isNew = options.state.u32[WORD.initialised] === 0;
    // A new mount answers with the first; the others are started when stock is taken, and do not take CPU time from it.
    const first = isNew ? (options.readers?.length ?? 1) : options.devices.length;
    // A reader of a dead server may have been one of those that were started for others.
    for (let thread = 0; thread < MAX_READERS; thread++)
      if (thread < first || hasUnfinished(options.state, thread)) this.#start(thread);
    this.#isStarting = false;
    // INIT is one reader's; what a dead server had begun may be in the buffer of each.
    this.#awaited = isNew ? 1 : this.#running.size;
  }

  /** The kernel's INIT is answered, or what a dead server had begun is finished. */
  get serving(): Promise<void> {
    return this.#serving.promise;
  }

  /** Every reader has stopped, as the connection has ended. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Resolves when what was read is done and nothing more is read, or after so long: the next server finishes the rest. */
  async stop(limitMs: number): Promise<void> {
    this.#isStopping = true;
    this.#want(0);
    const deadline = performance.now() + limitMs;
    const isBusy = (thread: number) => {
      const at = progressOf(thread);
      const { u32 } = this.#options.state;
      return Atomics.load(u32, at + PROGRESS.begun) !== Atomics.load(u32, at + PROGRESS.ended);
    };
    // The first step is for a reader that has just read a request, and is about to say that it begins.
    do await delay(STOPPING_STEP_MS);
    while ([...this.#running.keys()].some(isBusy) && performance.now() < deadline);
  }

  /**
   * To be called every moment: which readers are at the request that they were at the last time. Starts others for them, and those
   * that a new mount has not had yet.
   */
  takeStock(): readonly StuckReader[] {
    const { state, devices } = this.#options;
    const stuck: StuckReader[] = [];
    for (const thread of this.#running.keys()) {
      const at = progressOf(thread);
      const begun = state.u32[at + PROGRESS.begun]!;
      const isBusy = begun !== state.u32[at + PROGRESS.ended]!;
      if (isBusy && this.#seenAt.get(thread) === begun)
        stuck.push({
          thread,
          branch: state.u32[at + PROGRESS.branch]! - 1,
          changes: state.u32[at + PROGRESS.changes] === 1,
        });
      if (isBusy) this.#seenAt.set(thread, begun);
      else this.#seenAt.delete(thread);
    }
    if (this.#isEnding || this.#isStopping) return stuck;
    // While none is free there are more requests than these that will wait.
    const spare = stuck.length === this.#running.size ? Math.min(stuck.length, MAX_SPARE) : 0;
    const wanted = Math.min(MAX_READERS, devices.length + stuck.length + spare);
    this.#want(wanted);
    for (let thread = 0; thread < wanted; thread++) if (!this.#running.has(thread)) this.#start(thread);
    return stuck;
  }

  /** Readers of higher numbers end after the request that they are at; of none, that which waits in read(2) does not begin its next. */
  #want(count: number): void {
    Atomics.store(this.#options.state.u32, WORD.readersWanted, count);
  }

  #start(thread: number): void {
    const { state, config, meters, devices, log } = this.#options;
    const cpu = devices.length > 1 ? (this.#cpus[thread % this.#cpus.length] ?? -1) : -1;
    const deviceFd = devices[thread % devices.length]!;
    const [cpus, callers] = [this.#cpus, this.#callers];
    const data: ReaderData = { thread, deviceFd, cpu, cpus, callers, stateFd: state.fd, config, meters };
    // A prepared one serves once: a later reader of its number is another thread.
    const worker = (this.#isStarting ? this.#options.readers?.[thread] : undefined) ?? startReaderThread();
    worker.postMessage(data);
    this.#running.set(thread, worker);
    worker.on('message', (message: ReaderMessage) => {
      if (message.kind === 'serving') {
        if (--this.#awaited === 0) this.#serving.resolve();
      } else log[message.level](message.event, message.fields);
    });
    let failed = false;
    worker.on('error', (error) => {
      failed = true;
      log.error('reader_failed', { thread, error: error.stack ?? error.message });
    });
    worker.on('exit', () => {
      this.#running.delete(thread);
      // One that was not asked to has ended with the connection.
      if (!failed && thread < this.#options.state.u32[WORD.readersWanted]!) this.#isEnding = true;
      this.#seenAt.delete(thread);
      // Those that were stopped leave a connection to the next server.
      if (this.#running.size === 0 && !this.#isStopping) this.#ended.resolve();
    });
  }
}

/**
 * Numbers of the CPUs that this process may run on, beginning with any of them: several servers on a machine with more CPUs than
 * readers are not to share the first ones.
 */
function allowedCpus(state: State, scratch: number): number[] {
  if (libc.schedGetaffinity(0, libc.CPU_SET_BYTES, state.base + scratch) < 0) return [];
  const cpus: number[] = [];
  for (let cpu = 0; cpu < libc.CPU_SET_BYTES * 8; cpu++)
    if (((state.u8[scratch + (cpu >> 3)]! >> (cpu & 7)) & 1) === 1) cpus.push(cpu);
  const first = Math.floor(Math.random() * cpus.length);
  return [...cpus.slice(first), ...cpus.slice(0, first)];
}
