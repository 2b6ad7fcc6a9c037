/**
 * What the store is, without its rules: objects by kind, the counter that numbers every change, the journal that makes
 * them last, and the changes of late. A change is in the journal before anything else shows it.
 */
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { type Change, History } from './history.ts';
import { Journal, type JournalEntry } from './journal.ts';
import { customResourceDefinitions, type KindInfo, kindKey } from './kinds.ts';
import { deepFreeze, type StoredObject } from './objects.ts';
import { Registry } from './registry.ts';
import { expired, StoreError } from './store-error.ts';

export class State {
  readonly #journal: Journal | undefined;
  readonly #objects = new Map<string, Map<string, StoredObject>>();
  readonly #registry = new Registry();
  readonly #history: History;
  readonly #log: Logger;
  #resourceVersion: number;

  /** Without a directory the objects live in memory alone. */
  constructor(directory: string | undefined, log: Logger) {
    const opened = directory === undefined ? undefined : Journal.open(directory);
    this.#journal = opened?.journal;
    this.#log = log;
    this.#resourceVersion = opened?.state.resourceVersion ?? 0;
    for (const entry of opened?.state.entries ?? []) this.#apply(entry);
    for (const definition of this.objects(kindKey(customResourceDefinitions)).values())
      this.#registry.follow(undefined, definition);
    this.#history = new History(this.#resourceVersion);
  }

  get resourceVersion(): number {
    return this.#resourceVersion;
  }

  get kinds(): readonly KindInfo[] {
    return this.#registry.all();
  }

  /** 404 when the kind is not served: its definition is missing. */
  info(key: string): KindInfo {
    const info = this.#registry.get(key);
    if (!info) throw new StoreError(404, 'NotFound', `the server could not find the requested resource: ${key}`);
    return info;
  }

  /** By object key; the objects are frozen. */
  objects(key: string): ReadonlyMap<string, StoredObject> {
    return this.#objects.get(key) ?? new Map();
  }

  /** Every remembered change after a resourceVersion; 410 when some are forgotten or it is of another life. */
  since(resourceVersion: string): readonly Change[] {
    const from = Number(resourceVersion);
    if (!Number.isSafeInteger(from) || from < 0)
      throw new StoreError(400, 'BadRequest', `invalid resource version ${JSON.stringify(resourceVersion)}`);
    if (from > this.#resourceVersion)
      throw expired(`too large resource version: ${from}, current: ${this.#resourceVersion}; list again`);
    return this.#history.since(from);
  }

  /** Numbers and keeps a change: without `before` a creation, without `after` a deletion. */
  commit(info: KindInfo, objectKey: string, before: StoredObject | undefined, after: StoredObject | undefined): Change {
    const resourceVersion = this.#resourceVersion + 1;
    const number = String(resourceVersion);
    const object = after && deepFreeze({ ...after, metadata: { ...after.metadata, resourceVersion: number } });
    const entry = { resourceVersion, kindKey: kindKey(info), objectKey, ...(object && { object }) };
    this.#journal?.append(entry);
    this.#resourceVersion = resourceVersion;
    this.#apply(entry);
    if (entry.kindKey === kindKey(customResourceDefinitions)) this.#registry.follow(before, object);
    const change: Change = { resourceVersion, kindKey: entry.kindKey, before, after: object };
    this.#history.add(change);
    this.#compactIfWorthwhile();
    return change;
  }

  close(): void {
    this.#journal?.close();
  }

  #apply(entry: JournalEntry): void {
    const ofKind = this.#objects.get(entry.kindKey) ?? new Map<string, StoredObject>();
    this.#objects.set(entry.kindKey, ofKind);
    if (entry.object) ofKind.set(entry.objectKey, deepFreeze(entry.object));
    else ofKind.delete(entry.objectKey);
  }

  #compactIfWorthwhile(): void {
    let live = 0;
    for (const ofKind of this.#objects.values()) live += ofKind.size;
    if (!this.#journal?.shouldCompact(live)) return;
    const entries: JournalEntry[] = [];
    for (const [key, ofKind] of this.#objects)
      for (const [objectKey, object] of ofKind)
        entries.push({ resourceVersion: Number(object.metadata.resourceVersion), kindKey: key, objectKey, object });
    try {
      this.#journal.compact({ resourceVersion: this.#resourceVersion, entries });
    } catch (error) {
      // The change itself is kept; the longer file does no harm.
      this.#log.warn('journal-compaction-failed', { error: messageOf(error) });
    }
  }
}
