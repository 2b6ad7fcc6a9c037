/**
 * Sequences of disk operations written as generators: straight-line code that stays a pure step function.
 * A task yields operations to be done at once, or a condition to wait for, and is resumed by the event that completes them.
 * A failed write, discard or sync is fatal: `onFatal` is called and no task is ever resumed again, so no task can forget
 * an error. A failed read is for the task to judge.
 */
import type { DiskOperation, DiskOutcome } from './ports.ts';

type Wait = readonly DiskOperation[] | (() => boolean);

export type Task<T = void> = Generator<Wait, T, readonly DiskOutcome[]>;

interface Waiting {
  readonly task: Task;
  readonly operations: readonly DiskOperation[];
  readonly outcomes: DiskOutcome[];
  missing: number;
}

export class Tasks {
  readonly #issue: (id: number, operation: DiskOperation) => void;
  readonly #onFatal: (reason: string) => void;
  readonly #inFlight = new Map<number, { readonly waiting: Waiting; readonly index: number }>();
  #blocked: { readonly task: Task; readonly ready: () => boolean }[] = [];
  #nextId = 1;
  #dead = false;

  constructor(issue: (id: number, operation: DiskOperation) => void, onFatal: (reason: string) => void) {
    this.#issue = issue;
    this.#onFatal = onFatal;
  }

  start(task: Task): void {
    this.#resume(task, []);
  }

  complete(id: number, outcome: DiskOutcome): void {
    const entry = this.#inFlight.get(id);
    if (this.#dead || entry === undefined) return;
    this.#inFlight.delete(id);
    const { waiting, index } = entry;
    const operation = waiting.operations[index]!;
    if (!outcome.ok && operation.kind !== 'read' && operation.kind !== 'hole') {
      this.#dead = true;
      this.#onFatal(`${operation.kind} of ${operation.area} failed with ${outcome.error}`);
      return;
    }
    waiting.outcomes[index] = outcome;
    if (--waiting.missing === 0) this.#resume(waiting.task, waiting.outcomes);
  }

  /** Resumes every task whose condition holds, until none does. */
  poll(): void {
    for (let index = 0; index < this.#blocked.length && !this.#dead; ) {
      const { task, ready } = this.#blocked[index]!;
      if (ready()) {
        this.#blocked.splice(index, 1);
        this.#resume(task, []);
        index = 0;
      } else index++;
    }
  }

  #resume(task: Task, outcomes: readonly DiskOutcome[]): void {
    if (this.#dead) return;
    let next = task.next(outcomes);
    while (!next.done && Array.isArray(next.value) && next.value.length === 0) next = task.next([]);
    if (next.done) return;
    if (typeof next.value === 'function') {
      this.#blocked.push({ task, ready: next.value });
      return;
    }
    const operations = next.value;
    const waiting: Waiting = { task, operations, outcomes: [], missing: operations.length };
    operations.forEach((operation, index) => {
      const id = this.#nextId++;
      this.#inFlight.set(id, { waiting, index });
      this.#issue(id, operation);
    });
  }
}

export function* until(ready: () => boolean): Task {
  if (!ready()) yield ready;
}

export function* perform(operations: readonly DiskOperation[]): Task {
  yield operations;
}

/** The bytes of each read, or undefined where it failed. */
export function* readAll(
  reads: readonly Extract<DiskOperation, { kind: 'read' }>[],
): Task<readonly (Uint8Array | undefined)[]> {
  if (reads.length === 0) return [];
  const outcomes = yield reads;
  return outcomes.map((outcome) => (outcome.ok ? outcome.data : undefined));
}
