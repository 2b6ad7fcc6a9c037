/** Where each kind lives in the API, with its type: what a repository or an informer is made for. */
import type { BlockPool, BlockVolume } from '../protocol/block-resources.ts';
import type {
  CoreEvent,
  CSINode,
  CSIStorageCapacity,
  KubeObject,
  Lease,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  StorageClass,
  VolumeAttachment,
} from '../protocol/objects.ts';
import { API_GROUP, API_VERSION, type UnionAttachment, type UnionVolume } from '../protocol/resources.ts';

export interface Kind<T extends KubeObject> {
  /** `v1`, `storage.k8s.io/v1`, … */
  readonly apiVersion: string;
  readonly name: string;
  /** Lower-case plural, as in paths. */
  readonly plural: string;
  readonly namespaced: boolean;
  /** Never present: it carries T for inference. */
  readonly type?: T;
}

/** One object's place; `namespace` exactly for namespaced kinds. */
export interface ObjectRef {
  readonly namespace?: string | undefined;
  readonly name: string;
}

export const POD: Kind<Pod> = namespaced('v1', 'Pod', 'pods');
export const PERSISTENT_VOLUME_CLAIM: Kind<PersistentVolumeClaim> = namespaced(
  'v1',
  'PersistentVolumeClaim',
  'persistentvolumeclaims',
);
export const PERSISTENT_VOLUME: Kind<PersistentVolume> = cluster('v1', 'PersistentVolume', 'persistentvolumes');
export const NODE: Kind<Node> = cluster('v1', 'Node', 'nodes');
export const EVENT: Kind<CoreEvent> = namespaced('v1', 'Event', 'events');
export const STORAGE_CLASS: Kind<StorageClass> = cluster('storage.k8s.io/v1', 'StorageClass', 'storageclasses');
export const CSI_STORAGE_CAPACITY: Kind<CSIStorageCapacity> = namespaced(
  'storage.k8s.io/v1',
  'CSIStorageCapacity',
  'csistoragecapacities',
);
export const VOLUME_ATTACHMENT: Kind<VolumeAttachment> = cluster(
  'storage.k8s.io/v1',
  'VolumeAttachment',
  'volumeattachments',
);
export const CSI_NODE: Kind<CSINode> = cluster('storage.k8s.io/v1', 'CSINode', 'csinodes');
export const LEASE: Kind<Lease> = namespaced('coordination.k8s.io/v1', 'Lease', 'leases');
export const UNION_VOLUME: Kind<UnionVolume> = cluster(`${API_GROUP}/${API_VERSION}`, 'UnionVolume', 'unionvolumes');
export const UNION_ATTACHMENT: Kind<UnionAttachment> = cluster(
  `${API_GROUP}/${API_VERSION}`,
  'UnionAttachment',
  'unionattachments',
);

export const BLOCK_VOLUME: Kind<BlockVolume> = cluster(`${API_GROUP}/${API_VERSION}`, 'BlockVolume', 'blockvolumes');
export const BLOCK_POOL: Kind<BlockPool> = cluster(`${API_GROUP}/${API_VERSION}`, 'BlockPool', 'blockpools');

function namespaced(apiVersion: string, name: string, plural: string) {
  return { apiVersion, name, plural, namespaced: true };
}

function cluster(apiVersion: string, name: string, plural: string) {
  return { apiVersion, name, plural, namespaced: false };
}

/** `namespace/name`, or `name` of a cluster-scoped object: the key of informers and work queues. */
export function keyOf(ref: ObjectRef): string {
  return ref.namespace === undefined || ref.namespace === '' ? ref.name : `${ref.namespace}/${ref.name}`;
}

/** The inverse of keyOf. */
export function refOf(key: string): ObjectRef {
  const slash = key.indexOf('/');
  return slash < 0 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

/** The API path of a kind, of one namespace of it, or of one object; names are escaped, never trusted. */
export function pathOf<T extends KubeObject>(kind: Kind<T>, place: { namespace?: string | undefined; name?: string }) {
  const root = kind.apiVersion.includes('/') ? `/apis/${kind.apiVersion}` : `/api/${kind.apiVersion}`;
  const inNamespace =
    kind.namespaced && place.namespace !== undefined ? `/namespaces/${encodeURIComponent(place.namespace)}` : '';
  const one = place.name === undefined ? '' : `/${encodeURIComponent(place.name)}`;
  return `${root}${inNamespace}/${kind.plural}${one}`;
}
