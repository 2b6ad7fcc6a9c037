/**
 * Garbage collection, in process: dependents of owners that are gone, foreground and orphaning deletes, the contents of
 * namespaces and of CustomResourceDefinitions that are being deleted.
 * Stateless: acts on what is there now, at the start and after each change, so a restart in the middle loses nothing.
 * Source: kube-controller-manager's garbagecollector and namespace controllers.
 */
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Change } from './history.ts';
import { apiVersionOf, customResourceDefinitions, type KindInfo, kindKey, namespaces } from './kinds.ts';
import { arrayAt, isObject, jsonEqual, type StoredObject } from './objects.ts';
import { customKind } from './registry.ts';
import type { Store } from './store.ts';
import { StoreError } from './store-error.ts';

type OwnerReference = NonNullable<StoredObject['metadata']['ownerReferences']>[number];

/** Runs until the store is closed. */
export function collectGarbage(store: Store, log: Logger): void {
  const collector = new Collector(store);
  store.subscribe(undefined, undefined, (changes) => {
    for (const change of changes) {
      try {
        collector.follow(change);
      } catch (error) {
        // Somebody else was quicker: their change comes round again.
        if (error instanceof StoreError && (error.code === 404 || error.code === 409)) continue;
        log.error('garbage-collection-failed', { kind: change.kindKey, error: messageOf(error) });
      }
    }
  });
}

class Collector {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  follow({ kindKey: key, before, after }: Change): void {
    if (after) this.#followWritten(key, before, after);
    else if (before) this.#followRemoved(before);
  }

  #followWritten(key: string, before: StoredObject | undefined, after: StoredObject): void {
    const references = after.metadata.ownerReferences ?? [];
    if (references.length > 0 && !jsonEqual(before?.metadata.ownerReferences, references))
      this.#checkOwners(key, after);
    if (after.metadata.deletionTimestamp === undefined) return;
    const finalizers = after.metadata.finalizers ?? [];
    if (finalizers.includes('orphan')) this.#orphan(key, after);
    if (finalizers.includes('foregroundDeletion')) this.#deleteInForeground(key, after);
    if (key === kindKey(namespaces)) this.#emptyNamespace(after.metadata.name);
    if (key === kindKey(customResourceDefinitions)) this.#emptyDefinition(after);
  }

  #followRemoved(before: StoredObject): void {
    for (const [info, dependent] of this.#dependentsOf(before.metadata.uid))
      this.#checkOwners(kindKey(info), dependent);
    for (const reference of before.metadata.ownerReferences ?? []) {
      const owner = this.#ownerOf(before, reference);
      if (isObject(owner) && isWaiting(owner.object)) this.#deleteInForeground(kindKey(owner.info), owner.object);
    }
    if (before.metadata.namespace) this.#emptyNamespace(before.metadata.namespace);
    for (const definition of this.#store.objects(customResourceDefinitions).values()) {
      const info = definition.metadata.deletionTimestamp === undefined ? undefined : customKind(definition);
      if (info?.kind === before.kind && apiVersionOf(info) === before.apiVersion) this.#emptyDefinition(definition);
    }
  }

  /** Deletes a dependent when none of its owners is there any more; forgets single owners that are gone. */
  #checkOwners(key: string, dependent: StoredObject): void {
    const current = this.#current(key, dependent);
    if (!current) return;
    const { info, object } = current;
    const references = object.metadata.ownerReferences ?? [];
    const present = references.filter((reference) => this.#ownerOf(object, reference) !== 'absent');
    if (references.length === 0 || present.length === references.length) return;
    if (present.length === 0) {
      if (object.metadata.deletionTimestamp === undefined) this.#delete(info, object, 'Background');
      return;
    }
    this.#store.modify(info, object.metadata, (copy) => {
      copy.metadata.ownerReferences = present;
    });
  }

  #deleteInForeground(key: string, owner: StoredObject): void {
    let blocked = false;
    for (const [info, dependent] of this.#dependentsOf(owner.metadata.uid)) {
      const references = dependent.metadata.ownerReferences ?? [];
      const others = references.filter((reference) => reference.uid !== owner.metadata.uid);
      if (others.some((reference) => this.#ownerOf(dependent, reference) !== 'absent')) {
        this.#store.modify(info, dependent.metadata, (copy) => {
          copy.metadata.ownerReferences = others;
        });
        continue;
      }
      if (dependent.metadata.deletionTimestamp === undefined) this.#delete(info, dependent, 'Foreground');
      const still = this.#current(kindKey(info), dependent);
      const mine = references.find((reference) => reference.uid === owner.metadata.uid);
      blocked ||= still !== undefined && mine?.blockOwnerDeletion === true;
    }
    if (!blocked) this.#release(key, owner, 'foregroundDeletion');
  }

  #orphan(key: string, owner: StoredObject): void {
    for (const [info, dependent] of this.#dependentsOf(owner.metadata.uid))
      this.#store.modify(info, dependent.metadata, (copy) => {
        copy.metadata.ownerReferences =
          copy.metadata.ownerReferences?.filter(({ uid }) => uid !== owner.metadata.uid) ?? [];
      });
    this.#release(key, owner, 'orphan');
  }

  #emptyNamespace(name: string): void {
    const namespace = this.#store.objects(namespaces).get(name);
    if (namespace?.metadata.deletionTimestamp === undefined) return;
    const within: [KindInfo, StoredObject][] = [];
    for (const [info, object] of this.#everything())
      if (object.metadata.namespace === name) within.push([info, object]);
    for (const [info, object] of within)
      if (object.metadata.deletionTimestamp === undefined) this.#delete(info, object, 'Background');
    if (within.some(([info, object]) => this.#current(kindKey(info), object))) return;
    if (arrayAt(namespace, 'spec', 'finalizers').length > 0)
      this.#store.modify(namespaces, { name }, (copy) => {
        copy.spec = { ...copy.spec, finalizers: [] };
      });
  }

  #emptyDefinition(definition: StoredObject): void {
    const info = customKind(definition);
    if (info) {
      for (const object of this.#store.objects(info).values())
        if (object.metadata.deletionTimestamp === undefined) this.#delete(info, object, 'Background');
      if (this.#store.objects(info).size > 0) return;
    }
    this.#release(kindKey(customResourceDefinitions), definition, 'customresourcecleanup.apiextensions.k8s.io');
  }

  #release(key: string, object: StoredObject, finalizer: string): void {
    const current = this.#current(key, object);
    if (!current?.object.metadata.finalizers?.includes(finalizer)) return;
    this.#store.modify(current.info, object.metadata, (copy) => {
      copy.metadata.finalizers = copy.metadata.finalizers?.filter((item) => item !== finalizer) ?? [];
    });
  }

  #delete(info: KindInfo, object: StoredObject, propagationPolicy: 'Background' | 'Foreground'): void {
    const hasDependents = propagationPolicy === 'Foreground' && this.#dependentsOf(object.metadata.uid).length > 0;
    this.#store.delete(info, object.metadata, {
      preconditions: { uid: object.metadata.uid },
      propagationPolicy: hasDependents ? 'Foreground' : 'Background',
    });
  }

  *#everything(): Generator<[KindInfo, StoredObject]> {
    for (const info of this.#store.kinds) for (const object of this.#store.objects(info).values()) yield [info, object];
  }

  #dependentsOf(uid: string): [KindInfo, StoredObject][] {
    const found: [KindInfo, StoredObject][] = [];
    for (const [info, object] of this.#everything())
      if (object.metadata.ownerReferences?.some((reference) => reference.uid === uid)) found.push([info, object]);
    return found;
  }

  /** The object as it is now, unless it is gone or another took its name. */
  #current(key: string, object: StoredObject): { info: KindInfo; object: StoredObject } | undefined {
    const info = this.#store.kinds.find((kind) => kindKey(kind) === key);
    const now = info && this.#lookUp(info, object.metadata.namespace, object.metadata.name);
    return now?.metadata.uid === object.metadata.uid ? { info: info!, object: now } : undefined;
  }

  #lookUp(info: KindInfo, namespace: string | undefined, name: string): StoredObject | undefined {
    return this.#store.objects(info).get(info.namespaced ? `${namespace ?? ''}/${name}` : name);
  }

  /** 'unknown': its kind is not served, so nothing can be said; taken for present. */
  #ownerOf(
    dependent: StoredObject,
    reference: OwnerReference,
  ): { info: KindInfo; object: StoredObject } | 'absent' | 'unknown' {
    const info = this.#store.kinds.find(
      (kind) => kind.kind === reference.kind && apiVersionOf(kind) === reference.apiVersion,
    );
    if (!info) return 'unknown';
    const object = this.#lookUp(info, dependent.metadata.namespace, reference.name);
    return object?.metadata.uid === reference.uid ? { info, object } : 'absent';
  }
}

function isWaiting(owner: StoredObject): boolean {
  return (
    owner.metadata.deletionTimestamp !== undefined && (owner.metadata.finalizers ?? []).includes('foregroundDeletion')
  );
}
