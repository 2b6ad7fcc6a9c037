/**
 * The kinds that the embedded API server knows. A `Kind<T>` names a resource and carries its type, so that
 * `store.get(pods, …)` is typed; a `KindInfo` is what discovery and the store need to know at run time.
 * Kinds of CustomResourceDefinitions join at run time; ours are declared here for their types only.
 */
import type {
  V1ConfigMap,
  V1CustomResourceDefinition,
  V1Namespace,
  V1ResourceQuota,
  V1Secret,
  V1ServiceAccount,
} from '@kubernetes/client-node';
import type { BlockPool, BlockVolume } from '../../protocol/block-resources.ts';
import type {
  CoreEvent,
  CSIDriver,
  CSINode,
  CSIStorageCapacity,
  KubeObject,
  Lease,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  Raw,
  StorageClass,
  VolumeAttachment,
} from '../../protocol/objects.ts';
import { API_GROUP, API_VERSION, type UnionAttachment, type UnionVolume } from '../../protocol/resources.ts';

type Typed<T> = Raw<Omit<T, keyof KubeObject>> & KubeObject;

export interface Kind<T extends KubeObject = KubeObject> {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  /** Never there: carries the type. */
  readonly shape?: T;
}

export interface KindInfo extends Kind {
  readonly singular: string;
  readonly namespaced: boolean;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  /** Whether `…/status` is a resource of its own. */
  readonly hasStatus: boolean;
  /** Of custom resources: schema, printer columns and selectable fields of the served version. */
  readonly custom?: CustomKind;
}

export interface CustomKind {
  readonly schema: { readonly [key: string]: unknown };
  readonly columns: readonly PrinterColumn[];
  /** `spec.volume` */
  readonly selectableFields: readonly string[];
}

export interface PrinterColumn {
  readonly name: string;
  readonly type: string;
  readonly jsonPath: string;
  readonly format?: string;
  readonly description?: string;
  readonly priority?: number;
}

function kind<T extends KubeObject>(group: string, version: string, name: string, plural: string): Kind<T> {
  return { group, version, kind: name, plural };
}

export const namespaces = kind<Typed<V1Namespace>>('', 'v1', 'Namespace', 'namespaces');
export const nodes = kind<Node>('', 'v1', 'Node', 'nodes');
export const pods = kind<Pod>('', 'v1', 'Pod', 'pods');
export const persistentVolumes = kind<PersistentVolume>('', 'v1', 'PersistentVolume', 'persistentvolumes');
export const persistentVolumeClaims = kind<PersistentVolumeClaim>(
  '',
  'v1',
  'PersistentVolumeClaim',
  'persistentvolumeclaims',
);
export const events = kind<CoreEvent>('', 'v1', 'Event', 'events');
export const configMaps = kind<Typed<V1ConfigMap>>('', 'v1', 'ConfigMap', 'configmaps');
export const secrets = kind<Typed<V1Secret>>('', 'v1', 'Secret', 'secrets');
export const serviceAccounts = kind<Typed<V1ServiceAccount>>('', 'v1', 'ServiceAccount', 'serviceaccounts');
export const resourceQuotas = kind<Typed<V1ResourceQuota>>('', 'v1', 'ResourceQuota', 'resourcequotas');
export const storageClasses = kind<StorageClass>('storage.k8s.io', 'v1', 'StorageClass', 'storageclasses');
export const csiDrivers = kind<CSIDriver>('storage.k8s.io', 'v1', 'CSIDriver', 'csidrivers');
export const csiNodes = kind<CSINode>('storage.k8s.io', 'v1', 'CSINode', 'csinodes');
export const csiStorageCapacities = kind<CSIStorageCapacity>(
  'storage.k8s.io',
  'v1',
  'CSIStorageCapacity',
  'csistoragecapacities',
);
export const volumeAttachments = kind<VolumeAttachment>(
  'storage.k8s.io',
  'v1',
  'VolumeAttachment',
  'volumeattachments',
);
export const leases = kind<Lease>('coordination.k8s.io', 'v1', 'Lease', 'leases');
export const customResourceDefinitions = kind<Typed<V1CustomResourceDefinition>>(
  'apiextensions.k8s.io',
  'v1',
  'CustomResourceDefinition',
  'customresourcedefinitions',
);
export const unionVolumes = kind<UnionVolume>(API_GROUP, API_VERSION, 'UnionVolume', 'unionvolumes');
export const blockPools = kind<BlockPool>(API_GROUP, API_VERSION, 'BlockPool', 'blockpools');
export const blockVolumes = kind<BlockVolume>(API_GROUP, API_VERSION, 'BlockVolume', 'blockvolumes');
export const unionAttachments = kind<UnionAttachment>(API_GROUP, API_VERSION, 'UnionAttachment', 'unionattachments');

interface BuiltInOptions {
  readonly namespaced?: boolean;
  readonly hasStatus?: boolean;
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
}

function builtIn(of: Kind, options: BuiltInOptions): KindInfo {
  return {
    ...of,
    singular: of.kind.toLowerCase(),
    namespaced: options.namespaced ?? false,
    shortNames: options.shortNames ?? [],
    categories: options.categories ?? [],
    hasStatus: options.hasStatus ?? false,
  };
}

export const BUILT_IN_KINDS: readonly KindInfo[] = [
  builtIn(namespaces, { shortNames: ['ns'], hasStatus: true }),
  builtIn(nodes, { shortNames: ['no'], hasStatus: true }),
  builtIn(pods, { namespaced: true, shortNames: ['po'], categories: ['all'], hasStatus: true }),
  builtIn(persistentVolumes, { shortNames: ['pv'], hasStatus: true }),
  builtIn(persistentVolumeClaims, { namespaced: true, shortNames: ['pvc'], hasStatus: true }),
  builtIn(events, { namespaced: true, shortNames: ['ev'] }),
  builtIn(configMaps, { namespaced: true, shortNames: ['cm'] }),
  builtIn(secrets, { namespaced: true }),
  builtIn(serviceAccounts, { namespaced: true, shortNames: ['sa'] }),
  builtIn(resourceQuotas, { namespaced: true, shortNames: ['quota'], hasStatus: true }),
  builtIn(storageClasses, { shortNames: ['sc'] }),
  builtIn(csiDrivers, {}),
  builtIn(csiNodes, {}),
  builtIn(csiStorageCapacities, { namespaced: true }),
  builtIn(volumeAttachments, { hasStatus: true }),
  builtIn(leases, { namespaced: true }),
  builtIn(customResourceDefinitions, {
    shortNames: ['crd', 'crds'],
    categories: ['api-extensions'],
    hasStatus: true,
  }),
];

/** Identifies a kind among all: `pods`, `unionvolumes.union.csi.dev`. Versions of a kind share their objects. */
export function kindKey(of: { readonly group: string; readonly plural: string }): string {
  return of.group ? `${of.plural}.${of.group}` : of.plural;
}

export function apiVersionOf(of: { readonly group: string; readonly version: string }): string {
  return of.group ? `${of.group}/${of.version}` : of.version;
}
