/** Small makers of Kubernetes objects for tests of planning. */
import type { Node, PersistentVolume, PersistentVolumeClaim, Pod, StorageClass } from '../../src/protocol/objects.ts';
import type { ClassFacts } from '../../src/union/branches.ts';
import type { VolumeRequest } from '../../src/union/spec.ts';

export const GIB = 1024n ** 3n;
export const MIB = 1024n ** 2n;

export function storageClass(name: string, fields: Partial<StorageClass> = {}): StorageClass {
  return {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name },
    provisioner: 'lower.example.com',
    volumeBindingMode: 'Immediate',
    allowVolumeExpansion: true,
    ...fields,
  };
}

export interface ClaimFields {
  readonly annotations?: Record<string, string>;
  readonly storageClassName?: string;
  readonly size?: string;
  readonly modes?: string[];
  readonly volumeMode?: string;
  readonly volumeName?: string;
  readonly deleting?: boolean;
}

export function claim(name: string, fields: ClaimFields = {}): PersistentVolumeClaim {
  const { annotations = {}, size = '1Gi', modes = ['ReadWriteOnce'], volumeMode = 'Filesystem', volumeName } = fields;
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: {
      name,
      namespace: 'shop',
      uid: `uid-${name}`,
      resourceVersion: '1',
      annotations,
      ...(fields.deleting ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
    },
    spec: {
      accessModes: modes,
      volumeMode,
      resources: { requests: { storage: size } },
      storageClassName: fields.storageClassName ?? 'fast',
      ...(volumeName === undefined ? {} : { volumeName }),
    },
    ...(volumeName === undefined
      ? {}
      : { status: { phase: 'Bound', capacity: { storage: size }, accessModes: modes } }),
  };
}

export function persistentVolume(name: string, spec: NonNullable<PersistentVolume['spec']> = {}): PersistentVolume {
  return { apiVersion: 'v1', kind: 'PersistentVolume', metadata: { name, uid: `uid-${name}` }, spec };
}

/** A volume that nodes with these labels can reach. */
export function volumeOn(name: string, key: string, values: string[]): PersistentVolume {
  const nodeSelectorTerms = [{ matchExpressions: [{ key, operator: 'In', values }] }];
  return persistentVolume(name, { nodeAffinity: { required: { nodeSelectorTerms } } });
}

export function node(name: string, labels: Record<string, string>): Node {
  return { apiVersion: 'v1', kind: 'Node', metadata: { name, labels } };
}

export function podUsing(
  claimName: string,
  fields: { name?: string; phase?: string; labels?: Record<string, string> } = {},
): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: fields.name ?? 'app', namespace: 'shop', labels: fields.labels ?? {} },
    spec: { containers: [], volumes: [{ name: 'data', persistentVolumeClaim: { claimName } }] },
    status: { phase: fields.phase ?? 'Running' },
  };
}

export function volumeRequest(fields: Partial<VolumeRequest> = {}): VolumeRequest {
  return {
    name: 'pvc-1',
    capacity: { requiredBytes: 4n * GIB, limitBytes: 0n },
    accessModes: ['ReadWriteOnce'],
    volumeMode: 'Filesystem',
    mountOptions: [],
    parameters: {
      lowerStorageClassName: 'fast',
      branches: '4',
      'csi.storage.k8s.io/pvc/name': 'files',
      'csi.storage.k8s.io/pvc/namespace': 'shop',
    },
    ...fields,
  };
}

export function classFacts(fields: Partial<ClassFacts> = {}): ClassFacts {
  const none = { claims: [], pods: [], adoptedVolumes: [], nodes: [] };
  return { storageClasses: [storageClass('fast'), storageClass('slow')], ...none, ...fields };
}
