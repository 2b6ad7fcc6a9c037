/**
 * What a write does to an object's own metadata and status, whatever its kind: names, generations, what may not change,
 * and when an object that is being deleted may go. Pure; source: apiserver's `rest.BeforeCreate` and `rest.BeforeUpdate`.
 */
import { apiVersionOf, type KindInfo } from './kinds.ts';
import { type ApiObject, arrayAt, at, isObject, jsonEqual, type StoredObject, timestamp } from './objects.ts';
import type { DeleteOptions } from './store.ts';
import { badRequest, conflict, invalid, type StatusCause } from './store-error.ts';

export interface Birth {
  readonly uid: string;
  readonly creationTimestamp: string;
  /** Appended to `generateName`. */
  readonly suffix: string;
}

/** Takes ownership of `input`. */
export function forCreation(info: KindInfo, input: ApiObject, birth: Birth): StoredObject {
  checkType(info, input);
  const given = input.metadata ?? {};
  if (given.resourceVersion) throw badRequest('resourceVersion should not be set on objects to be created');
  const name = given.name || (given.generateName ? `${given.generateName}${birth.suffix}` : '');
  if (!name) {
    const cause = {
      reason: 'FieldValueRequired',
      field: 'metadata.name',
      message: 'Required value: name or generateName is required',
    };
    throw invalid(info, '', [cause]);
  }
  const {
    deletionTimestamp: _at,
    deletionGracePeriodSeconds: _grace,
    selfLink: _link,
    managedFields: _fields,
    ...kept
  } = given;
  if (!info.namespaced) delete kept.namespace;
  const metadata: StoredObject['metadata'] = {
    ...kept,
    name,
    uid: birth.uid,
    resourceVersion: '0',
    creationTimestamp: birth.creationTimestamp,
    ...(info.custom && { generation: 1 }),
  };
  const object: StoredObject = { ...input, apiVersion: apiVersionOf(info), kind: info.kind, metadata };
  // Nodes alone are created with their status, by kubelet.
  if (info.hasStatus && info.kind !== 'Node') delete object.status;
  return object;
}

/** The object that `input` asks `before` to become. Takes ownership of `input`. */
export function forUpdate(
  info: KindInfo,
  before: StoredObject,
  input: ApiObject,
  subresource: 'status' | undefined,
): StoredObject {
  checkType(info, input);
  const name = before.metadata.name;
  const given = input.metadata ?? {};
  if (given.name !== undefined && given.name !== name)
    throw badRequest(`the name of the object (${given.name}) does not match the name on the URL (${name})`);
  if (given.uid && given.uid !== before.metadata.uid) {
    const why = `Precondition failed: UID in precondition: ${given.uid}, UID in object meta: ${before.metadata.uid}`;
    throw conflict(info, name, why);
  }
  if (given.resourceVersion && given.resourceVersion !== before.metadata.resourceVersion) {
    const why = 'the object has been modified; please apply your changes to the latest version and try again';
    throw conflict(info, name, why);
  }
  const after = subresource === 'status' ? { ...before, status: input.status } : withMetadata(before, input, given);
  if (after.status === undefined) delete after.status;
  if (subresource !== 'status' && info.hasStatus) {
    if (before.status === undefined) delete after.status;
    else after.status = before.status;
  }
  checkFinalizers(info, before, after);
  return after;
}

/** Of custom resources: counts changes of what is desired. Edits `after`, which is complete. */
export function countGeneration(info: KindInfo, before: StoredObject, after: StoredObject): void {
  if (info.custom && !jsonEqual(desired(before), desired(after)))
    after.metadata = { ...after.metadata, generation: (before.metadata.generation ?? 0) + 1 };
}

function withMetadata(before: StoredObject, input: ApiObject, given: NonNullable<ApiObject['metadata']>): StoredObject {
  const { selfLink: _link, managedFields: _fields, ...kept } = given;
  const metadata = { ...kept, name: before.metadata.name } as StoredObject['metadata'];
  // What the server alone writes.
  for (const field of SERVER_FIELDS) {
    if (before.metadata[field] === undefined) delete metadata[field];
    else Object.assign(metadata, { [field]: before.metadata[field] });
  }
  return { ...input, apiVersion: before.apiVersion, kind: before.kind, metadata };
}

const SERVER_FIELDS = [
  'namespace',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
] as const;

/** Everything whose change makes a new generation. */
function desired(object: StoredObject): unknown {
  const { metadata: _metadata, status: _status, ...rest } = object;
  return rest;
}

function checkType(info: KindInfo, input: ApiObject): void {
  if (!isObject(input)) throw badRequest('the body of the request is not an object');
  const apiVersion = apiVersionOf(info);
  if (input.apiVersion !== undefined && input.apiVersion !== apiVersion)
    throw badRequest(
      `the API version in the data (${input.apiVersion}) does not match the expected API version (${apiVersion})`,
    );
  if (input.kind !== undefined && input.kind !== info.kind)
    throw badRequest(`${input.kind} in the data does not match the expected kind ${info.kind}`);
  if (input.metadata !== undefined && !isObject(input.metadata)) throw badRequest('metadata is not an object');
}

function checkFinalizers(info: KindInfo, before: StoredObject, after: StoredObject): void {
  if (before.metadata.deletionTimestamp === undefined) return;
  const known = before.metadata.finalizers ?? [];
  const added = (after.metadata.finalizers ?? []).filter((finalizer) => !known.includes(finalizer));
  if (added.length === 0) return;
  const cause: StatusCause = {
    reason: 'FieldValueForbidden',
    field: 'metadata.finalizers',
    message: `Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`,
  };
  throw invalid(info, before.metadata.name, [cause]);
}

/** Whether something still holds an object that is being deleted. */
export function isHeld(object: StoredObject): boolean {
  if ((object.metadata.finalizers ?? []).length > 0) return true;
  if ((object.metadata.deletionGracePeriodSeconds ?? 0) > 0) return true;
  return object.kind === 'Namespace' && object.apiVersion === 'v1' && arrayAt(object, 'spec', 'finalizers').length > 0;
}

/** Seconds that kubelet has to stop a pod; 0 for everything that nothing runs. */
export function gracePeriodOf(object: StoredObject, asked: number | undefined): number {
  if (object.kind !== 'Pod' || object.apiVersion !== 'v1') return 0;
  const phase = at(object, 'status', 'phase');
  if (!at(object, 'spec', 'nodeName') || phase === 'Succeeded' || phase === 'Failed') return 0;
  const own = at(object, 'spec', 'terminationGracePeriodSeconds');
  return Math.max(0, asked ?? (typeof own === 'number' ? own : 30));
}

const PROPAGATION_FINALIZERS = ['orphan', 'foregroundDeletion'];

/** `before` as one that is being deleted; not yet gone while `isHeld`. */
export function forDeletion(before: StoredObject, options: DeleteOptions, nowMs: number): StoredObject {
  const finalizers = (before.metadata.finalizers ?? []).filter(
    (finalizer) => !options.propagationPolicy || !PROPAGATION_FINALIZERS.includes(finalizer),
  );
  if (options.propagationPolicy === 'Orphan') finalizers.push('orphan');
  if (options.propagationPolicy === 'Foreground') finalizers.push('foregroundDeletion');
  const earlier = before.metadata.deletionTimestamp;
  const asked = gracePeriodOf(before, options.gracePeriodSeconds);
  // A second delete may shorten the grace period, never lengthen it.
  const grace = earlier === undefined ? asked : Math.min(before.metadata.deletionGracePeriodSeconds ?? 0, asked);
  const deletionTimestamp = earlier ?? timestamp(nowMs + grace * 1000);
  const metadata = { ...before.metadata, deletionTimestamp, deletionGracePeriodSeconds: grace };
  if (finalizers.length > 0) metadata.finalizers = finalizers;
  else delete metadata.finalizers;
  const after: StoredObject = { ...before, metadata };
  if (before.kind === 'Namespace' && before.apiVersion === 'v1') after.status = { phase: 'Terminating' };
  return after;
}

export function checkPreconditions(info: KindInfo, object: StoredObject, options: DeleteOptions): void {
  const { name } = object.metadata;
  for (const [field, label] of [
    ['uid', 'UID'],
    ['resourceVersion', 'ResourceVersion'],
  ] as const) {
    const wanted = options.preconditions?.[field];
    if (wanted === undefined || wanted === object.metadata[field]) continue;
    const why = `Precondition failed: ${label} in precondition: ${wanted}, ${label} in object meta: ${object.metadata[field]}`;
    throw conflict(info, name, why);
  }
}
