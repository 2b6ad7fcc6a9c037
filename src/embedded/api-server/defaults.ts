/**
 * What a server fills in where a manifest of a built-in kind says nothing. Only what something reads: kubectl's output,
 * the sidecar loop, kubelets. Pure. Source: k8s.io/kubernetes/pkg/apis defaults, and the admission plugins
 * StorageObjectInUseProtection and ServiceAccount.
 */
import { at, isObject, type StoredObject } from './objects.ts';

type Fields = { [key: string]: unknown };

/** Edits `object`, which the caller owns. `isNew`: it is being created, so its status begins too. */
export function fillIn(object: StoredObject, isNew: boolean): void {
  switch (`${object.apiVersion}/${object.kind}`) {
    case 'v1/Namespace':
      if (!isNew) return;
      object.spec = { finalizers: ['kubernetes'] };
      object.status = { phase: 'Active' };
      object.metadata.labels = { ...object.metadata.labels, 'kubernetes.io/metadata.name': object.metadata.name };
      return;
    case 'v1/Pod':
      fillInPod(object, isNew);
      return;
    case 'v1/PersistentVolume':
      object.spec = { persistentVolumeReclaimPolicy: 'Retain', volumeMode: 'Filesystem', ...fields(object.spec) };
      if (isNew) born(object, 'kubernetes.io/pv-protection');
      return;
    case 'v1/PersistentVolumeClaim':
      object.spec = { volumeMode: 'Filesystem', ...fields(object.spec) };
      if (isNew) born(object, 'kubernetes.io/pvc-protection');
      return;
    case 'v1/Secret':
      fillInSecret(object);
      return;
    case 'v1/ResourceQuota':
      if (isNew) object.status = { hard: { ...fields(at(object, 'spec', 'hard')) }, used: {} };
      return;
    case 'storage.k8s.io/v1/StorageClass':
      Object.assign(object, { reclaimPolicy: 'Delete', volumeBindingMode: 'Immediate', ...object });
      return;
    case 'storage.k8s.io/v1/CSIDriver':
      object.spec = { ...CSI_DRIVER_DEFAULTS, ...fields(object.spec) };
      return;
    case 'apiextensions.k8s.io/v1/CustomResourceDefinition':
      fillInDefinition(object, isNew);
      return;
  }
}

const CSI_DRIVER_DEFAULTS = {
  attachRequired: true,
  podInfoOnMount: false,
  requiresRepublish: false,
  storageCapacity: false,
  fsGroupPolicy: 'ReadWriteOnceWithFSType',
  volumeLifecycleModes: ['Persistent'],
  seLinuxMount: false,
};

function fields(value: unknown): Fields {
  return isObject(value) ? value : {};
}

function born(object: StoredObject, finalizer: string): void {
  object.status = { phase: 'Pending' };
  const finalizers = object.metadata.finalizers ?? [];
  if (!finalizers.includes(finalizer)) object.metadata.finalizers = [...finalizers, finalizer];
}

function fillInPod(object: StoredObject, isNew: boolean): void {
  const spec: Fields = {
    restartPolicy: 'Always',
    terminationGracePeriodSeconds: 30,
    dnsPolicy: 'ClusterFirst',
    serviceAccountName: 'default',
    schedulerName: 'default-scheduler',
    enableServiceLinks: true,
    preemptionPolicy: 'PreemptLowerPriority',
    priority: 0,
    securityContext: {},
    ...fields(object.spec),
  };
  for (const list of ['initContainers', 'containers']) {
    const containers = spec[list];
    if (Array.isArray(containers))
      spec[list] = containers.map((container) => (isObject(container) ? fillInContainer(container) : container));
  }
  object.spec = spec;
  if (isNew) object.status = { phase: 'Pending', qosClass: 'BestEffort' };
}

function fillInContainer(container: Fields): Fields {
  const image = typeof container.image === 'string' ? container.image : '';
  const floats = !image.includes('@') && (!/:[^/]*$/.test(image) || image.endsWith(':latest'));
  return {
    resources: {},
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
    imagePullPolicy: floats ? 'Always' : 'IfNotPresent',
    ...container,
  };
}

function fillInSecret(object: StoredObject): void {
  object.type ||= 'Opaque';
  if (!isObject(object.stringData)) return;
  const data: Fields = { ...fields(object.data) };
  for (const [key, value] of Object.entries(object.stringData))
    data[key] = Buffer.from(String(value)).toString('base64');
  object.data = data;
  delete object.stringData;
}

const DEFINITION_FINALIZER = 'customresourcecleanup.apiextensions.k8s.io';

function fillInDefinition(object: StoredObject, isNew: boolean): void {
  const spec: Fields = { conversion: { strategy: 'None' }, ...fields(object.spec) };
  const kind = String(at(spec, 'names', 'kind') ?? '');
  spec.names = { singular: kind.toLowerCase(), listKind: `${kind}List`, ...fields(spec.names) };
  object.spec = spec;
  if (!isNew) return;
  const versions = Array.isArray(spec.versions) ? spec.versions : [];
  const lastTransitionTime = object.metadata.creationTimestamp;
  const condition = (type: string, reason: string, message: string) => ({
    type,
    status: 'True',
    reason,
    message,
    lastTransitionTime,
  });
  object.status = {
    acceptedNames: spec.names,
    storedVersions: versions.filter((version) => at(version, 'storage') === true).map((version) => at(version, 'name')),
    conditions: [
      condition('NamesAccepted', 'NoConflicts', 'no conflicts found'),
      condition('Established', 'InitialNamesAccepted', 'the initial names have been accepted'),
    ],
  };
  object.metadata.finalizers = [...new Set([...(object.metadata.finalizers ?? []), DEFINITION_FINALIZER])];
}
