/**
 * The last changes, for watches that start in the past and for lists of an earlier resourceVersion.
 * Bounded: what falls out makes `reaches` false, and the client is told 410 to list again.
 */
import type { StoredObject } from './objects.ts';
import { expired } from './store-error.ts';

/** One committed change; exactly one of created, changed, deleted, by which of the two objects are there. */
export interface Change {
  /** The change's own number; objects carry it, deleted ones too. */
  readonly resourceVersion: number;
  readonly kindKey: string;
  readonly before: StoredObject | undefined;
  readonly after: StoredObject | undefined;
}

const MAXIMUM_CHANGES = 1000;

export class History {
  #changes: Change[] = [];
  /** Every change after this number is remembered. */
  #floor: number;

  constructor(resourceVersion: number) {
    this.#floor = resourceVersion;
  }

  add(change: Change): void {
    this.#changes.push(change);
    // In bulk, so that shifting costs little.
    if (this.#changes.length >= 2 * MAXIMUM_CHANGES) {
      this.#changes = this.#changes.slice(-MAXIMUM_CHANGES);
      this.#floor = this.#changes[0]!.resourceVersion - 1;
    }
  }

  /** Changes after `resourceVersion`, oldest first; 410 when they are not all known any more. */
  since(resourceVersion: number): readonly Change[] {
    if (resourceVersion < this.#floor)
      throw expired(`too old resource version: ${resourceVersion} (${this.#floor}); list again`);
    const first = this.#changes.findIndex((change) => change.resourceVersion > resourceVersion);
    return first < 0 ? [] : this.#changes.slice(first);
  }
}
