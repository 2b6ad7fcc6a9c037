/**
 * The Kubernetes kinds we read and write, as they are on the wire.
 * client-node's own types turn timestamps into Date, which is true only of its typed clients; we read raw JSON, where they
 * are RFC 3339 strings. Objects here always have apiVersion, kind and a name: the adapter checks that as it reads them.
 */
import type {
  CoreV1Event,
  V1CSIDriver,
  V1CSINode,
  V1CSIStorageCapacity,
  V1LabelSelector,
  V1Lease,
  V1Node,
  V1ObjectMeta,
  V1PersistentVolume,
  V1PersistentVolumeClaim,
  V1Pod,
  V1StorageClass,
  V1VolumeAttachment,
} from '@kubernetes/client-node';

/** T with every Date as the string it is in JSON. */
export type Raw<T> = T extends Date
  ? string
  : T extends readonly (infer Item)[]
    ? Raw<Item>[]
    : T extends object
      ? { [Key in keyof T]: Raw<T[Key]> }
      : T;

export type ObjectMeta = Raw<Omit<V1ObjectMeta, 'name'>> & { name: string };

/** What every object has. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
}

type Typed<T> = Raw<Omit<T, keyof KubeObject>> & KubeObject;

export type Pod = Typed<V1Pod>;
export type PersistentVolumeClaim = Typed<V1PersistentVolumeClaim>;
export type PersistentVolume = Typed<V1PersistentVolume>;
export type Node = Typed<V1Node>;
export type CoreEvent = Typed<CoreV1Event>;
export type StorageClass = Typed<V1StorageClass>;
export type VolumeAttachment = Typed<V1VolumeAttachment>;
export type CSIDriver = Typed<V1CSIDriver>;
export type CSINode = Typed<V1CSINode>;
export type CSIStorageCapacity = Typed<V1CSIStorageCapacity>;
export type LabelSelector = Raw<V1LabelSelector>;
export type Lease = Typed<V1Lease>;
