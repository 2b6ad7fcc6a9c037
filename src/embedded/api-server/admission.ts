/**
 * Decisions on a write that need other objects: the namespace, the storage class, quotas.
 * Source: the admission plugins NamespaceLifecycle, DefaultStorageClass, PersistentVolumeClaimResize, ResourceQuota.
 */
import { formatQuantity, parseQuantity } from '../../base/units.ts';
import { type KindInfo, kindKey, namespaces, persistentVolumeClaims, resourceQuotas, storageClasses } from './kinds.ts';
import { at, isObject, type StoredObject, textAt } from './objects.ts';
import { forbidden, notFound } from './store-error.ts';

/** What admission looks at. */
export interface Objects {
  objects(kind: { readonly group: string; readonly plural: string }): ReadonlyMap<string, StoredObject>;
}

/** Throws, or edits `object`, which the caller owns. */
export function admitCreation(all: Objects, info: KindInfo, object: StoredObject): void {
  if (info.namespaced) admitNamespace(all, info, object);
  if (kindKey(info) !== kindKey(persistentVolumeClaims)) return;
  if (at(object, 'spec', 'storageClassName') === undefined) useDefaultClass(all, object);
  admitQuota(all, info, object, undefined);
}

export function admitUpdate(all: Objects, info: KindInfo, before: StoredObject, after: StoredObject): void {
  if (kindKey(info) !== kindKey(persistentVolumeClaims)) return;
  if (sizeOf(after) <= sizeOf(before)) return;
  const storageClass = all.objects(storageClasses).get(textAt(after, 'spec', 'storageClassName') ?? '');
  if (storageClass?.allowVolumeExpansion !== true) {
    const why =
      'only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize';
    throw forbidden(info, after.metadata.name, why);
  }
  admitQuota(all, info, after, before);
}

const IMMORTAL_NAMESPACES = ['default', 'kube-system'];

export function admitDeletion(info: KindInfo, object: StoredObject): void {
  if (kindKey(info) === kindKey(namespaces) && IMMORTAL_NAMESPACES.includes(object.metadata.name))
    throw forbidden(info, object.metadata.name, 'this namespace may not be deleted');
}

function admitNamespace(all: Objects, info: KindInfo, object: StoredObject): void {
  const name = object.metadata.namespace ?? '';
  const namespace = all.objects(namespaces).get(name);
  if (!namespace) throw notFound(namespaces, name);
  if (namespace.metadata.deletionTimestamp !== undefined) {
    const why = `unable to create new content in namespace ${name} because it is being terminated`;
    throw forbidden(info, object.metadata.name, why);
  }
}

export const DEFAULT_CLASS_ANNOTATION = 'storageclass.kubernetes.io/is-default-class';

function useDefaultClass(all: Objects, claim: StoredObject): void {
  for (const storageClass of all.objects(storageClasses).values()) {
    if (storageClass.metadata.annotations?.[DEFAULT_CLASS_ANNOTATION] !== 'true') continue;
    claim.spec = { ...(isObject(claim.spec) ? claim.spec : {}), storageClassName: storageClass.metadata.name };
    return;
  }
}

function sizeOf(claim: StoredObject): bigint {
  const size = parseQuantity(textAt(claim, 'spec', 'resources', 'requests', 'storage') ?? '0');
  return size.ok ? size.value : 0n;
}

/** What the claims of a namespace use of each resource that a quota can name. */
export function claimUsage(claims: Iterable<StoredObject>): Map<string, bigint> {
  const used = new Map<string, bigint>();
  const add = (resource: string, amount: bigint) => used.set(resource, (used.get(resource) ?? 0n) + amount);
  for (const claim of claims) {
    const storageClass = textAt(claim, 'spec', 'storageClassName');
    for (const prefix of ['', ...(storageClass ? [`${storageClass}.storageclass.storage.k8s.io/`] : [])]) {
      add(`${prefix}persistentvolumeclaims`, 1n);
      add(`${prefix}requests.storage`, sizeOf(claim));
    }
  }
  return used;
}

function admitQuota(all: Objects, info: KindInfo, claim: StoredObject, before: StoredObject | undefined): void {
  const { namespace } = claim.metadata;
  const others = [...all.objects(persistentVolumeClaims).values()].filter(
    (other) => other.metadata.namespace === namespace && other.metadata.uid !== before?.metadata.uid,
  );
  const used = claimUsage(before ? [...others, before] : others);
  const next = claimUsage([...others, claim]);
  for (const quota of all.objects(resourceQuotas).values()) {
    if (quota.metadata.namespace !== namespace) continue;
    const hard = at(quota, 'spec', 'hard');
    for (const [resource, limit] of isObject(hard) ? Object.entries(hard) : []) {
      const [wanted, had] = [next.get(resource) ?? 0n, used.get(resource) ?? 0n];
      const most = parseQuantity(String(limit));
      if (!most.ok || wanted <= most.value || wanted <= had) continue;
      const why = `exceeded quota: ${quota.metadata.name}, requested: ${resource}=${formatQuantity(wanted - had)}, used: ${resource}=${formatQuantity(had)}, limited: ${resource}=${limit}`;
      throw forbidden(info, claim.metadata.name, why);
    }
  }
}
