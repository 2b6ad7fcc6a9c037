/**
 * Errands: what may have to wait for a branch and is no request: looking at branches, learning what is on them. Done by threads
 * of their own, one at a time each: while one waits for a branch that hangs, another one is started for the rest, up to
 * MAX_ERRANDS. Threads without work end after a while.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { MAIN_THREAD, MAX_ERRANDS, MAX_READERS } from '../inode/layout.ts';
import type { State } from '../inode/state.ts';
import type { OpsLogger } from '../ops/context.ts';
import type { Errand, ErrandAnswer, ErrandData, ErrandMessage } from './messages.ts';

/** After this long an errand may be waiting for a branch. */
const MOMENT_MS = 100;
const CLOSE_LIMIT_MS = 1_000;
const IDLE_MS = 10_000;

interface Job {
  readonly errand: Errand;
  readonly onBegun: () => void;
  readonly done: PromiseWithResolvers<ErrandAnswer>;
}

interface Runner {
  readonly worker: Worker;
  readonly thread: number;
  readonly ended: Promise<void>;
  job: Job | undefined;
  /** When it began with its job; infinity as long as it has not. */
  begunAt: number;
}

export class Errands {
  readonly #options: Omit<ErrandData, 'thread' | 'stateFd'> & {
    readonly state: State;
    readonly log: { readonly current: OpsLogger };
  };
  readonly #runners: Runner[] = [];
  readonly #queue: Job[] = [];
  #idle: NodeJS.Timeout | undefined;
  #isClosed = false;
  #isStartPlanned = false;

  /** `log` may change. */
  constructor(
    options: Omit<ErrandData, 'thread' | 'stateFd'> & {
      readonly state: State;
      readonly log: { readonly current: OpsLogger };
    },
  ) {
    this.#options = options;
  }

  /** Rejects when the errand failed in a way that it does not tell of itself, or the union is closed. */
  run(errand: Errand, onBegun = () => {}): Promise<ErrandAnswer> {
    if (this.#isClosed) return Promise.reject(new Error('the union is closed'));
    const job: Job = { errand, onBegun, done: Promise.withResolvers() };
    this.#queue.push(job);
    this.#dispatch();
    return job.done.promise;
  }

  /** Ends the threads. False when one of them has not ended soon, because it waits for a branch; one that only starts is waited for. */
  async close(): Promise<boolean> {
    this.#isClosed = true;
    clearTimeout(this.#idle);
    for (const { done } of this.#queue.splice(0)) done.reject(new Error('the union is closed'));
    for (const { worker } of this.#runners) worker.postMessage('end');
    const closedAt = performance.now();
    const isStuck = ({ begunAt }: Runner) => performance.now() - Math.max(begunAt, closedAt) > CLOSE_LIMIT_MS;
    while (this.#runners.length > 0 && !this.#runners.some(isStuck))
      await Promise.race([Promise.all(this.#runners.map(({ ended }) => ended)), delay(MOMENT_MS)]);
    return this.#runners.length === 0;
  }

  #dispatch(): void {
    if (this.#queue.length === 0) return;
    const free = this.#runners.find(({ job }) => job === undefined);
    if (free !== undefined) this.#give(free, this.#queue.shift()!);
    else if (this.#runners.length === 0) this.#start();
    else this.#startLater();
  }

  /** When every thread has been at its errand for more than a moment: not while one is only starting. */
  #startLater(): void {
    if (this.#isStartPlanned) return;
    this.#isStartPlanned = true;
    setTimeout(() => {
      this.#isStartPlanned = false;
      if (this.#queue.length === 0 || this.#isClosed) return;
      const latest = performance.now() - MOMENT_MS;
      if (this.#runners.every(({ begunAt }) => begunAt <= latest)) this.#start();
      else this.#startLater();
    }, MOMENT_MS).unref();
  }

  #start(): void {
    const taken = new Set(this.#runners.map(({ thread }) => thread));
    const threads = Array.from({ length: MAX_ERRANDS }, (_, index) => MAX_READERS + index);
    const thread = threads.find((number) => number < MAIN_THREAD && !taken.has(number));
    if (thread === undefined) return;
    const { state, log, ...options } = this.#options;
    const file = new URL(`./errand${import.meta.url.slice(import.meta.url.lastIndexOf('.'))}`, import.meta.url);
    const workerData: ErrandData = { ...options, thread, stateFd: state.fd };
    const worker = new Worker(file, { workerData, resourceLimits: { maxYoungGenerationSizeMb: 4 } });
    const ended = new Promise<void>((resolve) => worker.on('exit', () => resolve()));
    const runner: Runner = { worker, thread, ended, job: undefined, begunAt: Number.POSITIVE_INFINITY };
    this.#runners.push(runner);
    worker.unref();
    worker.on('message', (message: ErrandMessage) => {
      if (message.kind === 'log') log.current[message.level](message.event, message.fields);
      else if (message.kind === 'begun') this.#begin(runner);
      else this.#finish(runner, message.answer);
    });
    worker.on('error', (error) => log.current.error('errand_failed', { error: error.stack ?? error.message }));
    worker.on('exit', () => this.#drop(runner));
    this.#dispatch();
  }

  #give(runner: Runner, job: Job): void {
    runner.job = job;
    runner.worker.postMessage(job.errand);
    clearTimeout(this.#idle);
  }

  #begin(runner: Runner): void {
    runner.begunAt = performance.now();
    runner.job?.onBegun();
  }

  #finish(runner: Runner, answer: ErrandAnswer): void {
    runner.job?.done.resolve(answer);
    runner.job = undefined;
    runner.begunAt = Number.POSITIVE_INFINITY;
    this.#dispatch();
    if (this.#runners.some(({ job }) => job !== undefined)) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      for (const { worker, job } of this.#runners) if (job === undefined) worker.postMessage('end');
    }, IDLE_MS).unref();
  }

  #drop(runner: Runner): void {
    this.#runners.splice(this.#runners.indexOf(runner), 1);
    runner.job?.done.reject(new Error('the thread that did the errand has ended'));
    if (!this.#isClosed) this.#dispatch();
  }
}
