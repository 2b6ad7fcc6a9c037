/**
 * A local copy of all objects of a kind, kept true by list and watch, and listeners that hear of changes.
 * The copy is always a little late: read live before creating or deleting anything that matters.
 * Ends only with its signal. A watch that ends, breaks, or falls silent is started again where it was, with jittered
 * back-off; a version that the server no longer has (410), and every now and then nothing at all, is met with a new list.
 * Watch protocol: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
 */
import { type Clock, systemClock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { KubeObject } from '../protocol/objects.ts';
import { ApiStatusError, type KubeClient } from './client.ts';
import { type Kind, keyOf, pathOf } from './kinds.ts';
import { listPage, parseObject, type Selection } from './repository.ts';

/** How long we ask the server to keep one watch. */
const WATCH_SECONDS = 300;
/** Bookmarks come every minute or so: a watch that is silent for longer is taken for dead. */
const SILENCE_LIMIT_MS = 150_000;
/** A list although nothing seems wrong, against events that were lost without a trace. */
const RELIST_MS = 15 * 60_000;
const BACKOFF = { baseMs: 100, maxMs: 30_000 } as const;

export type Change<T> =
  | { readonly kind: 'added'; readonly key: string; readonly object: T }
  | { readonly kind: 'modified'; readonly key: string; readonly object: T; readonly previous: T }
  /** `object` is the last that was seen of it. */
  | { readonly kind: 'deleted'; readonly key: string; readonly object: T };

export type ChangeListener<T> = (change: Change<T>) => void;

export interface Informer<T extends KubeObject> {
  readonly kind: Kind<T>;
  /** Runs until the signal aborts; never rejects. Once per informer. */
  start(signal: AbortSignal): Promise<void>;
  /** The first list has arrived. */
  readonly hasSynced: boolean;
  synced(signal: AbortSignal): Promise<void>;
  get(key: string): T | undefined;
  list(): readonly T[];
  /** Objects already known are reported as added at once. Returns the way to stop listening. */
  onChange(listener: ChangeListener<T>): () => void;
}

export interface InformerOptions<T extends KubeObject> {
  readonly client: KubeClient;
  readonly kind: Kind<T>;
  readonly selection?: Selection;
  readonly log: Logger;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** For tests. */
  readonly silenceLimitMs?: number;
}

export function createInformer<T extends KubeObject>(options: InformerOptions<T>): Informer<T> {
  return new WatchingInformer(options);
}

class WatchingInformer<T extends KubeObject> implements Informer<T> {
  readonly kind: Kind<T>;
  readonly #options: InformerOptions<T>;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #objects = new Map<string, T>();
  readonly #listeners = new Set<ChangeListener<T>>();
  readonly #firstList = Promise.withResolvers<void>();
  #hasSynced = false;
  /** Where to watch from; undefined asks for a list first. */
  #resourceVersion: string | undefined;

  constructor(options: InformerOptions<T>) {
    this.kind = options.kind;
    this.#options = options;
    this.#log = options.log.child({ informer: options.kind.name });
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
  }

  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  synced(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = () => reject(signal.reason);
      if (signal.aborted) return stop();
      signal.addEventListener('abort', stop, { once: true });
      void this.#firstList.promise.then(() => {
        signal.removeEventListener('abort', stop);
        resolve();
      });
    });
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  list(): readonly T[] {
    return [...this.#objects.values()];
  }

  onChange(listener: ChangeListener<T>): () => void {
    this.#listeners.add(listener);
    for (const [key, object] of this.#objects) this.#tell(listener, { kind: 'added', key, object });
    return () => this.#listeners.delete(listener);
  }

  async start(signal: AbortSignal): Promise<void> {
    let failures = 0;
    let relistAt = 0;
    while (!signal.aborted) {
      const startedAt = this.#clock.now();
      try {
        if (this.#resourceVersion === undefined || startedAt >= relistAt) {
          await this.#relist(signal);
          relistAt = startedAt + RELIST_MS * (0.8 + 0.4 * this.#random());
        }
        await this.#watch(signal);
        // A server that ends every watch at once must not make us spin.
        failures = this.#clock.now() - startedAt < 1000 ? failures + 1 : 0;
      } catch (error) {
        if (signal.aborted) return;
        failures = this.#clock.now() - startedAt < 1000 ? failures + 1 : 1;
        if (isGone(error)) this.#resourceVersion = undefined;
        const event = failures > 2 ? 'warn' : 'debug';
        this.#log[event]('informer.restart', { failures, message: messageOf(error) });
      }
      await this.#pause(failures, signal);
    }
  }

  async #pause(failures: number, signal: AbortSignal): Promise<void> {
    if (failures === 0) return;
    const full = Math.min(BACKOFF.maxMs, BACKOFF.baseMs * 2 ** Math.min(failures - 1, 30));
    await this.#clock.sleep(full * (0.5 + this.#random() / 2), signal).catch(() => {});
  }

  async #relist(signal: AbortSignal): Promise<void> {
    const { client, kind, selection = {} } = this.#options;
    const items: T[] = [];
    let continueToken: string | undefined;
    let resourceVersion: string;
    do {
      const page = await listPage({ client, kind, selection, ...(continueToken && { continueToken }) }, signal);
      items.push(...page.items);
      ({ resourceVersion, continueToken } = page);
    } while (continueToken !== '');

    const gone = new Set(this.#objects.keys());
    for (const object of items) {
      gone.delete(keyOf(object.metadata));
      this.#put(object);
    }
    for (const key of gone) this.#remove(key);
    this.#resourceVersion = resourceVersion;
    this.#hasSynced = true;
    this.#firstList.resolve();
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { client, kind, selection = {}, silenceLimitMs = SILENCE_LIMIT_MS } = this.#options;
    const query = {
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: this.#resourceVersion,
      timeoutSeconds: String(Math.round(WATCH_SECONDS * (0.8 + 0.4 * this.#random()))),
      labelSelector: selection.labelSelector,
      fieldSelector: selection.fieldSelector,
    };
    const path = pathOf(kind, { namespace: selection.namespace });
    for await (const line of client.lines({ method: 'GET', path, query, idleLimitMs: silenceLimitMs }, signal)) {
      this.#apply(line);
    }
  }

  #apply(line: unknown): void {
    const { type, object } = line as { type?: unknown; object?: unknown };
    if (type === 'ERROR') {
      const { code, message } = object as { code?: unknown; message?: unknown };
      throw new ApiStatusError(Number(code ?? 500), String(message ?? 'the watch failed'));
    }
    if (type === 'BOOKMARK') {
      // Bookmarks carry nothing but a version: they have no name, so they are not parsed as objects.
      const { metadata } = object as { metadata?: { resourceVersion?: string } };
      this.#resourceVersion = metadata?.resourceVersion ?? this.#resourceVersion;
      return;
    }
    const parsed = parseObject(this.kind, object);
    if (type === 'DELETED') this.#remove(keyOf(parsed.metadata), parsed);
    else this.#put(parsed);
    this.#resourceVersion = parsed.metadata.resourceVersion ?? this.#resourceVersion;
  }

  #put(object: T): void {
    const key = keyOf(object.metadata);
    const previous = this.#objects.get(key);
    if (previous?.metadata.resourceVersion === object.metadata.resourceVersion && previous !== undefined) return;
    this.#objects.set(key, object);
    if (previous === undefined) this.#announce({ kind: 'added', key, object });
    else this.#announce({ kind: 'modified', key, object, previous });
  }

  #remove(key: string, last?: T): void {
    const known = this.#objects.get(key);
    if (known === undefined) return;
    this.#objects.delete(key);
    this.#announce({ kind: 'deleted', key, object: last ?? known });
  }

  #announce(change: Change<T>): void {
    for (const listener of this.#listeners) this.#tell(listener, change);
  }

  #tell(listener: ChangeListener<T>, change: Change<T>): void {
    try {
      listener(change);
    } catch (error) {
      this.#log.error('informer.listener', { key: change.key, message: messageOf(error) });
    }
  }
}

/** The version we asked to watch from is no longer kept. */
function isGone(error: unknown): boolean {
  return error instanceof ApiStatusError && error.status === 410;
}
