/**
 * Columns of `kubectl get` for each kind, as the real server's printers have them
 * (k8s.io/kubernetes/pkg/printers/internalversion). Pure.
 */
import { DEFAULT_CLASS_ANNOTATION } from './admission.ts';
import { ageOf } from './human-duration.ts';
import { jsonPath } from './json-path.ts';
import { type CustomKind, type KindInfo, kindKey } from './kinds.ts';
import { arrayAt, at, isObject, type StoredObject, textAt } from './objects.ts';
import { podColumns } from './pod-columns.ts';

export type Cell = string | number | boolean | null;

export interface Column {
  readonly name: string;
  readonly type: string;
  readonly format?: string;
  /** 0: always; 1: with `-o wide`. */
  readonly priority: number;
  readonly description?: string;
  readonly cell: (object: StoredObject, nowMs: number) => Cell;
}

export function columnsOf(info: KindInfo): readonly Column[] {
  if (info.custom) return customColumns(info.custom);
  return BUILT_IN_COLUMNS[kindKey(info)] ?? [nameColumn, ageColumn];
}

export function column(name: string, cell: Column['cell'], priority = 0): Column {
  return { name, type: 'string', priority, cell };
}

function text(...path: string[]): Column['cell'] {
  return (object) => textAt(object, ...path) ?? '';
}

function textOr(absent: string, ...path: string[]): Column['cell'] {
  return (object) => textAt(object, ...path) || absent;
}

export const nameColumn: Column = {
  name: 'Name',
  type: 'string',
  format: 'name',
  priority: 0,
  cell: (object) => object.metadata.name,
};
export const ageColumn: Column = column('Age', (object, now) => ageOf(object.metadata.creationTimestamp, now));

function phase(object: StoredObject): string {
  if (object.metadata.deletionTimestamp !== undefined) return 'Terminating';
  return textAt(object, 'status', 'phase') ?? '';
}

const SHORT_MODES: { readonly [mode: string]: string } = {
  ReadWriteOnce: 'RWO',
  ReadOnlyMany: 'ROX',
  ReadWriteMany: 'RWX',
  ReadWriteOncePod: 'RWOP',
};

function accessModes(object: StoredObject, ...path: string[]): string {
  const modes = new Set(arrayAt(object, ...path));
  return Object.keys(SHORT_MODES)
    .filter((mode) => modes.has(mode))
    .map((mode) => SHORT_MODES[mode])
    .join(',');
}

function claimOf(volume: StoredObject): string {
  const claim = at(volume, 'spec', 'claimRef');
  return isObject(claim) ? `${claim.namespace}/${claim.name}` : '';
}

/** Of claims: what is only true once they have a volume. */
function ifBound(cell: Column['cell']): Column['cell'] {
  return (object, now) => (textAt(object, 'spec', 'volumeName') ? cell(object, now) : '');
}

function nodeStatus(node: StoredObject): string {
  const ready = arrayAt(node, 'status', 'conditions').find((condition) => at(condition, 'type') === 'Ready');
  const status = ready === undefined ? 'Unknown' : at(ready, 'status') === 'True' ? 'Ready' : 'NotReady';
  return at(node, 'spec', 'unschedulable') === true ? `${status},SchedulingDisabled` : status;
}

function nodeRoles(node: StoredObject): string {
  const prefix = 'node-role.kubernetes.io/';
  const labels = Object.keys(node.metadata.labels ?? {}).filter((label) => label.startsWith(prefix));
  return (
    labels
      .map((label) => label.slice(prefix.length))
      .sort()
      .join(',') || '<none>'
  );
}

function nodeAddress(type: string): Column['cell'] {
  return (node) => {
    const address = arrayAt(node, 'status', 'addresses').find((item) => at(item, 'type') === type);
    return textAt(address, 'address') || '<none>';
  };
}

function eventObject(event: StoredObject): string {
  return `${(textAt(event, 'involvedObject', 'kind') ?? '').toLowerCase()}/${textAt(event, 'involvedObject', 'name') ?? ''}`;
}

function eventTime(field: string): Column['cell'] {
  return (event, now) =>
    ageOf(textAt(event, field) ?? textAt(event, 'eventTime') ?? textAt(event, 'firstTimestamp'), now);
}

function eventSource(event: StoredObject): string {
  const component = textAt(event, 'source', 'component') ?? textAt(event, 'reportingComponent') ?? '';
  const host = textAt(event, 'source', 'host');
  return host ? `${component}, ${host}` : component;
}

function count(...path: string[]): Column['cell'] {
  return (object) => {
    const value = at(object, ...path);
    return Array.isArray(value) ? value.length : isObject(value) ? Object.keys(value).length : 0;
  };
}

function quotaPart(isLimit: boolean): Column['cell'] {
  return (quota) => {
    const hard = at(quota, 'spec', 'hard');
    return Object.keys(isObject(hard) ? hard : {})
      .sort()
      .filter((resource) => resource.startsWith('limits.') === isLimit)
      .map((resource) => `${resource}: ${textAt(quota, 'status', 'used', resource) ?? '0'}/${textAt(hard, resource)}`)
      .join(', ');
  };
}

const BUILT_IN_COLUMNS: { readonly [kindKey: string]: readonly Column[] } = {
  namespaces: [nameColumn, column('Status', text('status', 'phase')), ageColumn],
  nodes: [
    nameColumn,
    column('Status', nodeStatus),
    column('Roles', nodeRoles),
    ageColumn,
    column('Version', text('status', 'nodeInfo', 'kubeletVersion')),
    column('Internal-IP', nodeAddress('InternalIP'), 1),
    column('External-IP', nodeAddress('ExternalIP'), 1),
    column('OS-Image', textOr('<unknown>', 'status', 'nodeInfo', 'osImage'), 1),
    column('Kernel-Version', textOr('<unknown>', 'status', 'nodeInfo', 'kernelVersion'), 1),
    column('Container-Runtime', textOr('<unknown>', 'status', 'nodeInfo', 'containerRuntimeVersion'), 1),
  ],
  pods: podColumns(nameColumn, ageColumn),
  persistentvolumes: [
    nameColumn,
    column('Capacity', text('spec', 'capacity', 'storage')),
    column('Access Modes', (volume) => accessModes(volume, 'spec', 'accessModes')),
    column('Reclaim Policy', text('spec', 'persistentVolumeReclaimPolicy')),
    column('Status', phase),
    column('Claim', claimOf),
    column('StorageClass', text('spec', 'storageClassName')),
    column('VolumeAttributesClass', textOr('<unset>', 'spec', 'volumeAttributesClassName')),
    column('Reason', text('status', 'reason')),
    ageColumn,
    column('VolumeMode', textOr('<unset>', 'spec', 'volumeMode'), 1),
  ],
  persistentvolumeclaims: [
    nameColumn,
    column('Status', phase),
    column('Volume', text('spec', 'volumeName')),
    column('Capacity', ifBound(text('status', 'capacity', 'storage'))),
    column(
      'Access Modes',
      ifBound((claim) => accessModes(claim, 'status', 'accessModes')),
    ),
    column('StorageClass', text('spec', 'storageClassName')),
    column('VolumeAttributesClass', textOr('<unset>', 'spec', 'volumeAttributesClassName')),
    ageColumn,
    column('VolumeMode', textOr('<unset>', 'spec', 'volumeMode'), 1),
  ],
  events: [
    column('Last Seen', eventTime('lastTimestamp')),
    column('Type', text('type')),
    column('Reason', text('reason')),
    column('Object', eventObject),
    column('Subobject', text('involvedObject', 'fieldPath'), 1),
    column('Source', eventSource, 1),
    column('Message', (event) => (textAt(event, 'message') ?? '').trim()),
    column('First Seen', eventTime('firstTimestamp'), 1),
    column('Count', (event) => Number(at(event, 'count') ?? 1), 1),
    { ...nameColumn, priority: 1 },
  ],
  configmaps: [nameColumn, column('Data', count('data')), ageColumn],
  secrets: [nameColumn, column('Type', text('type')), column('Data', count('data')), ageColumn],
  serviceaccounts: [nameColumn, column('Secrets', count('secrets')), ageColumn],
  resourcequotas: [nameColumn, column('Request', quotaPart(false)), column('Limit', quotaPart(true)), ageColumn],
  'storageclasses.storage.k8s.io': [
    {
      ...nameColumn,
      cell: ({ metadata }) =>
        metadata.annotations?.[DEFAULT_CLASS_ANNOTATION] === 'true' ? `${metadata.name} (default)` : metadata.name,
    },
    column('Provisioner', text('provisioner')),
    column('ReclaimPolicy', text('reclaimPolicy')),
    column('VolumeBindingMode', text('volumeBindingMode')),
    column('AllowVolumeExpansion', (object) => object.allowVolumeExpansion === true),
    ageColumn,
  ],
  'csidrivers.storage.k8s.io': [
    nameColumn,
    column('AttachRequired', (driver) => at(driver, 'spec', 'attachRequired') === true),
    column('PodInfoOnMount', (driver) => at(driver, 'spec', 'podInfoOnMount') === true),
    column('StorageCapacity', (driver) => at(driver, 'spec', 'storageCapacity') === true),
    column(
      'TokenRequests',
      (driver) =>
        arrayAt(driver, 'spec', 'tokenRequests')
          .map((request) => textAt(request, 'audience'))
          .join(',') || '<unset>',
    ),
    column('RequiresRepublish', (driver) => at(driver, 'spec', 'requiresRepublish') === true),
    column('Modes', (driver) => arrayAt(driver, 'spec', 'volumeLifecycleModes').join(',')),
    ageColumn,
  ],
  'csinodes.storage.k8s.io': [nameColumn, column('Drivers', count('spec', 'drivers')), ageColumn],
  'volumeattachments.storage.k8s.io': [
    nameColumn,
    column('Attacher', text('spec', 'attacher')),
    column('PV', text('spec', 'source', 'persistentVolumeName')),
    column('Node', text('spec', 'nodeName')),
    column('Attached', (object) => at(object, 'status', 'attached') === true),
    ageColumn,
  ],
  'leases.coordination.k8s.io': [nameColumn, column('Holder', text('spec', 'holderIdentity')), ageColumn],
  'customresourcedefinitions.apiextensions.k8s.io': [
    nameColumn,
    { ...column('Created At', (object) => object.metadata.creationTimestamp), type: 'date' },
  ],
};

function customColumns(custom: CustomKind): readonly Column[] {
  if (custom.columns.length === 0) return [nameColumn, ageColumn];
  const columns = custom.columns.map(
    ({ name, type, jsonPath: path, format, description, priority }): Column => ({
      name,
      type,
      ...(format && { format }),
      ...(description && { description }),
      priority: priority ?? 0,
      cell: (object, now) => customCell(jsonPath(object, path)[0], type, now),
    }),
  );
  return [nameColumn, ...columns];
}

function customCell(value: unknown, type: string, nowMs: number): Cell {
  if (value === undefined || value === null) return null;
  if (type === 'date') return ageOf(String(value), nowMs);
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'string') return value;
  return JSON.stringify(value);
}
