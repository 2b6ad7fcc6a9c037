/**
 * The embedded cluster's objects, with the semantics of a Kubernetes API server: names, resourceVersions, conflicts,
 * finalizers, owner references, watches. The HTTP server is one user of it; the sidecar loop and kubelets of the same
 * process are others, and are subject to the same rules.
 *
 * Every call is synchronous and complete when it returns; whatever is returned is the caller's own copy.
 * Refusals are thrown as StoreError. An object that a `get` does not find is undefined, not an error.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { type Clock, systemClock } from '../../base/clock.ts';
import { type Logger, silentLogger } from '../../base/logger.ts';
import type { KubeObject, ObjectMeta } from '../../protocol/objects.ts';
import { admitCreation, admitDeletion, admitUpdate } from './admission.ts';
import { fillIn } from './defaults.ts';
import { collectGarbage } from './gc.ts';
import type { Change } from './history.ts';
import { type Kind, type KindInfo, kindKey } from './kinds.ts';
import { checkPreconditions, countGeneration, forCreation, forDeletion, forUpdate, isHeld } from './lifecycle.ts';
import { type ApiObject, jsonEqual, type ObjectRef, type StoredObject, timestamp } from './objects.ts';
import { applyPatch, type PatchType } from './patch.ts';
import { followQuotas } from './quota-status.ts';
import { keepOnly, withDefaults } from './schema.ts';
import { eventOf, type Selection, selector, type WatchEvent } from './selection.ts';
import { State } from './state.ts';
import { alreadyExists, invalid, notFound } from './store-error.ts';
import { type ChangeListener, Subscriptions } from './subscriptions.ts';
import { validationErrors } from './validation.ts';

/** T before the server has completed it: apiVersion and kind may be left out, and the name with `generateName`. */
export type Draft<T extends KubeObject> = Omit<T, 'apiVersion' | 'kind' | 'metadata'> & {
  apiVersion?: string;
  kind?: string;
  metadata: Partial<ObjectMeta>;
};

export interface StoreOptions {
  /** Where the journal is kept; without it the objects live in memory alone. */
  readonly directory?: string;
  readonly clock?: Clock;
  readonly log?: Logger;
}

export interface WatchOptions extends Selection {
  /** Absent: starts with an ADDED event for each object that is there. Present: what came after; 410 if forgotten. */
  readonly fromResourceVersion?: string | undefined;
}

export interface Patch {
  readonly type: PatchType;
  readonly body: unknown;
}

export interface WriteOptions {
  /** What to do about fields that a custom resource's schema does not know; they are dropped in any case. */
  readonly onUnknownFields?: ((paths: readonly string[]) => void) | undefined;
  readonly subresource?: 'status' | undefined;
  /** Everything but the write itself. */
  readonly dryRun?: boolean | undefined;
}

export interface DeleteOptions {
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string } | undefined;
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan' | undefined;
  /** Of pods on a node: 0 removes it at once, as kubelet does in the end. */
  readonly gracePeriodSeconds?: number | undefined;
  readonly dryRun?: boolean | undefined;
}

/** `gone`: no longer in the store; otherwise finalizers or a pod's grace period hold it. */
export interface Deletion<T> {
  readonly object: T;
  readonly gone: boolean;
}

export class Store {
  readonly #clock: Clock;
  readonly #state: State;
  readonly #subscriptions: Subscriptions;

  constructor(options: StoreOptions = {}) {
    const log = options.log ?? silentLogger;
    this.#clock = options.clock ?? systemClock;
    this.#state = new State(options.directory, log);
    this.#subscriptions = new Subscriptions(log);
    collectGarbage(this, log);
    followQuotas(this);
  }

  get<T extends KubeObject>(kind: Kind<T>, ref: ObjectRef): T | undefined {
    const info = this.info(kind);
    const found = this.objects(kind).get(objectKey(info, ref));
    return found && own<T>(found);
  }

  list<T extends KubeObject>(kind: Kind<T>, selection: Selection = {}): T[] {
    const selects = selector(kind, selection);
    const found: StoredObject[] = [];
    for (const object of this.objects(kind).values()) if (selects(object)) found.push(object);
    return found.map(own<T>);
  }

  create<T extends KubeObject>(kind: Kind<T>, object: Draft<T>, options: WriteOptions = {}): T {
    const info = this.info(kind);
    const created = forCreation(info, structuredClone(object) as ApiObject, {
      uid: randomUUID(),
      creationTimestamp: timestamp(this.#clock.now()),
      suffix: randomBytes(3).toString('hex').slice(0, 5),
    });
    this.#complete(info, created, undefined, options);
    const key = objectKey(info, created.metadata);
    if (this.objects(kind).has(key)) throw alreadyExists(info, created.metadata.name);
    return own<T>(options.dryRun ? created : this.#commit(info, key, undefined, created));
  }

  /** 409 when `object` carries a resourceVersion or uid that is not the current one. */
  update<T extends KubeObject>(kind: Kind<T>, object: T, options: WriteOptions = {}): T {
    const { info, key, before } = this.#find(kind, object.metadata);
    const after = forUpdate(info, before, structuredClone(object) as unknown as ApiObject, options.subresource);
    this.#complete(info, after, before, options);
    if (jsonEqual(before, after)) return own<T>(before);
    countGeneration(info, before, after);
    if (options.dryRun) return own<T>(after);
    const goes = after.metadata.deletionTimestamp !== undefined && !isHeld(after);
    return own<T>(goes ? this.#commit(info, key, after, undefined) : this.#commit(info, key, before, after));
  }

  /** Reads, changes and writes in one step, so it never conflicts. `change` edits its argument or returns another. */
  modify<T extends KubeObject>(
    kind: Kind<T>,
    ref: ObjectRef,
    change: (object: T) => T | undefined,
    options: WriteOptions = {},
  ): T {
    const object = own<T>(this.#find(kind, ref).before);
    return this.update(kind, change(object) ?? object, options);
  }

  /** As `modify`, the change given in one of the patch formats. A resourceVersion in the patch must be the current one. */
  patch<T extends KubeObject>(kind: Kind<T>, ref: ObjectRef, patch: Patch, options: WriteOptions = {}): T {
    const { before } = this.#find(kind, ref);
    const patched = applyPatch(structuredClone(before), patch.body, patch.type);
    return this.update(kind, patched as unknown as T, options);
  }

  delete<T extends KubeObject>(kind: Kind<T>, ref: ObjectRef, options: DeleteOptions = {}): Deletion<T> {
    const { info, key, before } = this.#find(kind, ref);
    admitDeletion(info, before);
    checkPreconditions(info, before, options);
    const after = forDeletion(before, options, this.#clock.now());
    if (options.dryRun) return { object: own<T>(after), gone: !isHeld(after) };
    if (!isHeld(after)) return { object: own<T>(this.#commit(info, key, before, undefined)), gone: true };
    const unchanged = jsonEqual(before, after);
    return { object: own<T>(unchanged ? before : this.#commit(info, key, before, after)), gone: false };
  }

  /** Tells `listener` of every change, in order, never from inside a write. Returns what ends the watch. */
  watch<T extends KubeObject>(
    kind: Kind<T>,
    options: WatchOptions,
    listener: (event: WatchEvent<T>) => void,
  ): () => void {
    const selects = selector(kind, options);
    return this.subscribe(kind, options.fromResourceVersion, (changes) => {
      for (const change of changes) {
        const event = eventOf(change, selects);
        if (event) listener({ type: event.type, object: own<T>(event.object) });
      }
    });
  }

  get resourceVersion(): string {
    return String(this.#state.resourceVersion);
  }

  get kinds(): readonly KindInfo[] {
    return this.#state.kinds;
  }

  /** What is known of a kind; 404 when it is not served (its definition is missing). */
  info(kind: Kind): KindInfo {
    return this.#state.info(kindKey(kind));
  }

  close(): void {
    this.#subscriptions.close();
    this.#state.close();
  }

  /** For the server and the garbage collector: the stored objects themselves, frozen. */
  objects(kind: { readonly group: string; readonly plural: string }): ReadonlyMap<string, StoredObject> {
    return this.#state.objects(kindKey(kind));
  }

  /** For the server and the garbage collector: changes of one kind, or of all. */
  subscribe(kind: Kind | undefined, fromResourceVersion: string | undefined, listener: ChangeListener): () => void {
    const key = kind && kindKey(kind);
    return this.#subscriptions.add(key, this.#past(kind, fromResourceVersion), listener);
  }

  #past(kind: Kind | undefined, fromResourceVersion: string | undefined): readonly Change[] {
    if (fromResourceVersion !== undefined) return this.changesSince(fromResourceVersion);
    const lists = kind ? [kind] : this.kinds;
    return lists.flatMap((of) =>
      [...this.objects(of).values()].map((after) => ({
        resourceVersion: Number(after.metadata.resourceVersion),
        kindKey: kindKey(of),
        before: undefined,
        after,
      })),
    );
  }

  /** For the server: every remembered change after a resourceVersion; 410 when some are forgotten. */
  changesSince(resourceVersion: string): readonly Change[] {
    return this.#state.since(resourceVersion);
  }

  #find(kind: Kind, ref: ObjectRef): { info: KindInfo; key: string; before: StoredObject } {
    const info = this.info(kind);
    const key = objectKey(info, ref);
    const before = this.objects(kind).get(key);
    if (!before) throw notFound(info, ref.name);
    return { info, key, before };
  }

  /** Defaults, admission, validation of an object that is about to be written. */
  #complete(info: KindInfo, object: StoredObject, before: StoredObject | undefined, options: WriteOptions): void {
    if (info.custom) {
      const unknown: string[] = [];
      Object.assign(object, withDefaults(info.custom.schema, keepOnly(info.custom.schema, object, unknown)));
      if (unknown.length > 0) options.onUnknownFields?.(unknown);
    } else fillIn(object, before === undefined);
    if (!before) admitCreation(this, info, object);
    const errors = validationErrors(info, object, before);
    if (errors.length > 0) throw invalid(info, object.metadata.name, errors);
    if (before) admitUpdate(this, info, before, object);
  }

  #commit(
    info: KindInfo,
    key: string,
    before: StoredObject | undefined,
    after: StoredObject | undefined,
  ): StoredObject {
    const change = this.#state.commit(info, key, before, after);
    this.#subscriptions.publish(change);
    return (change.after ?? before)!;
  }
}

/** The registry vouches for the type: objects of a kind are only ever written through that kind. */
function own<T extends KubeObject>(object: StoredObject): T {
  return structuredClone(object) as unknown as T;
}

/** Sorts as `kubectl get -A` shows: by namespace, then name. */
export function objectKey(
  info: KindInfo,
  ref: { readonly namespace?: string | undefined; readonly name: string },
): string {
  return info.namespaced ? `${ref.namespace ?? ''}/${ref.name}` : ref.name;
}
