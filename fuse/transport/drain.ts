/**
 * The removal of a branch while the union is mounted: passes over it (ops/drain.ts) until nothing of the union is left on it, then
 * its end (ops/retire.ts). It goes on as long as somebody asks for it, and is taken up again where it was, by this server or the
 * next one: what is done is on the branches, and that the branch is draining is in its record.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { BranchTable } from '../branch/table.ts';
import { UnionFsError } from '../errors.ts';
import type { State } from '../inode/state.ts';
import type { OpsLogger } from '../ops/context.ts';
import { DrainProgress, type LeftFile, type Remainder } from '../ops/drain-progress.ts';
import type { Cleared } from '../ops/retire.ts';
import type { Errands } from './errands.ts';
import { requestsEnded, type Watch } from './watch.ts';

/** After this long without being asked it stops, behind the file at hand. */
const LEASE_MS = 3_000;
/** Between passes that leave something: at least, and in relation to what the pass took. */
const REST_MS = 500;
const REST_SHARE = 4;

export interface Removal {
  /** `moving` to other branches; `waiting` for what the last pass could not move; `removed`; `failed`: see `message`. */
  readonly phase: 'moving' | 'waiting' | 'removed' | 'failed';
  readonly message: string;
  readonly movedFiles: number;
  readonly movedBytes: number;
  /** Some of what the last pass could not move; how many there are, and how many of them only have to be closed. */
  readonly left: readonly LeftFile[];
  readonly leftCount: number;
  readonly openCount: number;
  /** Files that other branches hide, which stay on it as they are; `kept` are names in its `.union` that were set aside. */
  readonly hiddenCount: number;
  readonly kept: readonly string[];
}

interface Means {
  readonly state: State;
  readonly table: BranchTable;
  readonly errands: Errands;
  readonly watch: Watch;
  readonly volumeId: string | undefined;
}

/** Of the session that is served. */
interface Serving {
  readonly device: number;
  readonly log: OpsLogger;
}

/** A union's removals: one at a time. */
export class Removals {
  readonly #means: Means & { readonly isReadOnly: boolean };
  #last: Drain | undefined;

  constructor(means: Means & { readonly isReadOnly: boolean }) {
    this.#means = means;
  }

  /** Begins, or keeps going, and tells how far it is. Throws UnionFsError. */
  ask(id: string, serving: Serving): Removal {
    const { table, isReadOnly } = this.#means;
    const isThere = table.list().some((branch) => branch.id === id);
    if (this.#last?.id === id && (this.#last.hasNews || !isThere)) return this.#last.ask();
    const { index, mode } = table.find(id);
    if (this.#last?.isUnderway)
      throw new UnionFsError('EBUSY', `branch ${this.#last.id} is being removed; remove one after the other`);
    if (isReadOnly || mode === 'RO')
      throw new UnionFsError('EROFS', `branch ${id} is read-only, so that its files cannot move; set it to NC first`);
    if (table.list().length === 1)
      throw new UnionFsError('EINVAL', `branch ${id} is the only one; unmount the union instead`);
    this.#last = new Drain(id, index, { ...this.#means, ...serving });
    return this.#last.ask();
  }

  /** Throws UnionFsError while the branch is being removed. */
  checkFree(id: string): void {
    if (this.#last?.id === id && this.#last.isUnderway)
      throw new UnionFsError('EBUSY', `branch ${id} is being removed; end that first`);
  }
}

class Drain {
  readonly id: string;
  readonly #index: number;
  readonly #options: Means & Serving;
  readonly #progress = new DrainProgress();
  #phase: Removal['phase'] = 'moving';
  #message = '';
  #last: Remainder | undefined;
  #cleared: Cleared | undefined;
  #askedAt = performance.now();
  #isRunning = true;
  /** That it has failed. */
  #isTold = false;

  constructor(id: string, index: number, options: Means & Serving) {
    this.id = id;
    this.#index = index;
    this.#options = options;
    options.table.drain(index);
    void this.#run()
      .catch((error: unknown) => {
        this.#phase = 'failed';
        this.#message = error instanceof Error ? error.message : String(error);
        options.log.error('branch_not_removed', { branch: options.table.entries[index]!.path, error: this.#message });
      })
      .finally(() => {
        this.#isRunning = false;
      });
  }

  /** Otherwise it is done, or another one goes on. */
  get isUnderway(): boolean {
    return this.#isRunning;
  }

  /** Whether there is something to tell before another one may go on. */
  get hasNews(): boolean {
    return this.#isRunning || (this.#phase === 'failed' && !this.#isTold);
  }

  /** How far it is. Asking keeps it going. */
  ask(): Removal {
    this.#askedAt = performance.now();
    this.#isTold = this.#phase === 'failed';
    const { left = [], leftCount = 0, openCount = 0, hiddenCount = 0 } = this.#last ?? {};
    return {
      phase: this.#phase,
      message: this.#message,
      movedFiles: this.#progress.files,
      movedBytes: this.#progress.bytes,
      ...{ left, leftCount, openCount, hiddenCount: this.#cleared?.files ?? hiddenCount },
      kept: this.#cleared?.kept ?? [],
    };
  }

  get #isWanted(): boolean {
    return performance.now() - this.#askedAt < LEASE_MS;
  }

  async #run(): Promise<void> {
    const lease = setInterval(() => {
      this.#progress.isStopped = !this.#isWanted;
    }, LEASE_MS / 10);
    try {
      while (this.#isWanted && !this.#progress.isStopped) {
        const began = performance.now();
        const remainder = await this.#pass();
        this.#last = remainder ?? this.#last;
        if (remainder?.isRetired) return await this.#finish(remainder);
        if (remainder !== undefined && remainder.leftCount > 0) this.#phase = 'waiting';
        await delay(Math.max(REST_MS, REST_SHARE * (performance.now() - began)));
      }
    } finally {
      clearInterval(lease);
    }
  }

  /** Undefined when a request that began before has not ended: it may be about to make something there. */
  async #pass(): Promise<Remainder | undefined> {
    const { state, table, errands, device } = this.#options;
    const renames = table.renames(this.#index);
    if (!(await requestsEnded(state))) return undefined;
    const progress = this.#progress.memory;
    return (await errands.run({ kind: 'drain', index: this.#index, renames, progress, device })).remainder;
  }

  async #finish({ hiddenDirectories }: Remainder): Promise<void> {
    const { state, table, errands, watch, volumeId, device } = this.#options;
    const index = this.#index;
    // Who knew the branch before may still be using it, or looking at it.
    while (!(await requestsEnded(state)));
    await watch.remove(index);
    const { cleared } = await errands.run({ kind: 'clear', index, hidden: hiddenDirectories, volumeId, device });
    this.#cleared = cleared;
    table.remove(index);
    this.#phase = 'removed';
  }
}
