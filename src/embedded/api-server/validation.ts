/**
 * What makes an object invalid, kind by kind: names for all, the immutable fields that people run into for built-in
 * kinds, schemas for custom ones. Pure. Built-in kinds have no schemas here: an unknown field of theirs is kept as it is.
 */
import { parseQuantity } from '../../base/units.ts';
import { BUILT_IN_KINDS, type KindInfo, kindKey } from './kinds.ts';
import { arrayAt, at, isObject, jsonEqual, type StoredObject, textAt } from './objects.ts';
import { schemaErrors } from './schema.ts';
import type { StatusCause } from './store-error.ts';

/** `before` absent: creation. */
export function validationErrors(info: KindInfo, after: StoredObject, before?: StoredObject): StatusCause[] {
  const errors = before ? [] : metadataErrors(info, after);
  errors.push(...mapErrors(after));
  if (info.custom) return [...errors, ...schemaErrors(info.custom.schema, after)];
  const check = CHECKS[kindKey(info)];
  return check ? [...errors, ...check(after, before)] : errors;
}

function required(field: string, detail = ''): StatusCause {
  return { reason: 'FieldValueRequired', field, message: `Required value${detail && `: ${detail}`}` };
}

function invalidField(field: string, value: unknown, why: string): StatusCause {
  return { reason: 'FieldValueInvalid', field, message: `Invalid value: ${JSON.stringify(value)}: ${why}` };
}

function forbiddenField(field: string, why: string): StatusCause {
  return { reason: 'FieldValueForbidden', field, message: `Forbidden: ${why}` };
}

const LABEL = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
const SUBDOMAIN = `${LABEL}(\\.${LABEL})*`;
const SUBDOMAIN_RULE = `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '${SUBDOMAIN}')`;
const LABEL_RULE = `a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc', regex used for validation is '${LABEL}')`;

function metadataErrors(info: KindInfo, object: StoredObject): StatusCause[] {
  const { name } = object.metadata;
  const isLabel = kindKey(info) === 'namespaces';
  if (name.length > (isLabel ? 63 : 253))
    return [invalidField('metadata.name', name, `must be no more than ${isLabel ? 63 : 253} bytes`)];
  const matches = new RegExp(`^${isLabel ? LABEL : SUBDOMAIN}$`).test(name);
  return matches ? [] : [invalidField('metadata.name', name, isLabel ? LABEL_RULE : SUBDOMAIN_RULE)];
}

const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;

/** Labels and annotations are maps of texts; label values are short. */
function mapErrors(object: StoredObject): StatusCause[] {
  const errors: StatusCause[] = [];
  for (const field of ['labels', 'annotations'] as const) {
    const map: unknown = object.metadata[field] ?? {};
    if (!isObject(map)) {
      errors.push(invalidField(`metadata.${field}`, map, 'must be a map of texts'));
      continue;
    }
    for (const [key, value] of Object.entries(map)) {
      if (typeof value !== 'string')
        errors.push(invalidField(`metadata.${field}`, value, `the value of ${key} must be a text; quote it`));
      else if (field === 'labels' && (value.length > 63 || !LABEL_VALUE.test(value)))
        errors.push(
          invalidField(
            'metadata.labels',
            value,
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character, in at most 63 characters",
          ),
        );
    }
  }
  return errors;
}

type Check = (after: StoredObject, before: StoredObject | undefined) => StatusCause[];

const CHECKS: { readonly [kindKey: string]: Check } = {
  pods: podErrors,
  persistentvolumeclaims: claimErrors,
  persistentvolumes: volumeErrors,
  'storageclasses.storage.k8s.io': classErrors,
  'volumeattachments.storage.k8s.io': attachmentErrors,
  'customresourcedefinitions.apiextensions.k8s.io': definitionErrors,
};

function podErrors(after: StoredObject, before: StoredObject | undefined): StatusCause[] {
  if (before) {
    const frozen = (pod: StoredObject) => {
      const {
        nodeName: _node,
        activeDeadlineSeconds: _deadline,
        tolerations: _tolerations,
        ...spec
      } = isObject(pod.spec) ? pod.spec : {};
      const containers = arrayAt(spec, 'containers').map((item) => (isObject(item) ? { ...item, image: '' } : item));
      return { ...spec, containers };
    };
    const node = textAt(before, 'spec', 'nodeName');
    const moved = node && node !== textAt(after, 'spec', 'nodeName');
    if (!moved && jsonEqual(frozen(before), frozen(after))) return [];
    const why =
      'pod updates may not change fields other than `spec.containers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations`';
    return [forbiddenField('spec', why)];
  }
  const containers = arrayAt(after, 'spec', 'containers');
  if (containers.length === 0) return [required('spec.containers')];
  const errors: StatusCause[] = [];
  const volumes = new Set(arrayAt(after, 'spec', 'volumes').map((volume) => at(volume, 'name')));
  containers.forEach((container, index) => {
    const path = `spec.containers[${index}]`;
    if (!textAt(container, 'name')) errors.push(required(`${path}.name`));
    if (!textAt(container, 'image')) errors.push(required(`${path}.image`));
    arrayAt(container, 'volumeMounts').forEach((mount, place) => {
      const field = `${path}.volumeMounts[${place}]`;
      if (!textAt(mount, 'mountPath')) errors.push(required(`${field}.mountPath`));
      if (!volumes.has(at(mount, 'name')))
        errors.push({
          reason: 'FieldValueNotFound',
          field: `${field}.name`,
          message: `Not found: ${JSON.stringify(at(mount, 'name'))}`,
        });
    });
  });
  return errors;
}

const ACCESS_MODES = ['ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOnce', 'ReadWriteOncePod'];

function accessModeErrors(object: StoredObject): StatusCause[] {
  const modes = arrayAt(object, 'spec', 'accessModes');
  if (modes.length === 0) return [required('spec.accessModes', 'at least 1 access mode is required')];
  return modes
    .filter((mode) => !ACCESS_MODES.includes(String(mode)))
    .map((mode) => ({
      reason: 'FieldValueNotSupported',
      field: 'spec.accessModes',
      message: `Unsupported value: ${JSON.stringify(mode)}: supported values: ${ACCESS_MODES.map((item) => JSON.stringify(item)).join(', ')}`,
    }));
}

function sizeErrors(object: StoredObject, ...path: string[]): StatusCause[] {
  const field = path.join('.');
  const text = textAt(object, ...path);
  if (text === undefined) return [required(field)];
  const size = parseQuantity(text);
  if (!size.ok) return [invalidField(field, text, size.error)];
  return size.value > 0n ? [] : [invalidField(field, text, 'must be greater than zero')];
}

function claimErrors(after: StoredObject, before: StoredObject | undefined): StatusCause[] {
  const errors = [...accessModeErrors(after), ...sizeErrors(after, 'spec', 'resources', 'requests', 'storage')];
  if (!before) return errors;
  const frozen = (claim: StoredObject) => {
    const { resources: _resources, volumeName, storageClassName, ...spec } = isObject(claim.spec) ? claim.spec : {};
    // A claim gets its volume, and an unclassed one its class, once.
    const late = isObject(before.spec) ? before.spec : {};
    return {
      ...spec,
      volumeName: late.volumeName && volumeName,
      storageClassName: late.storageClassName && storageClassName,
    };
  };
  const bound = textAt(before, 'spec', 'volumeName');
  const [old, asked] = [before, after].map((claim) => textAt(claim, 'spec', 'resources', 'requests', 'storage') ?? '');
  if (!jsonEqual(frozen(before), frozen(after)) || (!bound && old !== asked)) {
    const why =
      'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims';
    errors.push(forbiddenField('spec', why));
  }
  const floor = parseQuantity(textAt(before, 'status', 'capacity', 'storage') ?? '0');
  const size = parseQuantity(asked ?? '');
  if (old !== asked && floor.ok && size.ok && size.value < floor.value)
    errors.push(forbiddenField('spec.resources.requests.storage', 'field can not be less than status.capacity'));
  return errors;
}

function volumeErrors(after: StoredObject): StatusCause[] {
  return [...accessModeErrors(after), ...sizeErrors(after, 'spec', 'capacity', 'storage')];
}

function classErrors(after: StoredObject, before: StoredObject | undefined): StatusCause[] {
  const errors: StatusCause[] = [];
  if (!textAt(after, 'provisioner')) errors.push(required('provisioner'));
  for (const field of before ? ['parameters', 'provisioner', 'reclaimPolicy', 'volumeBindingMode'] : [])
    if (!jsonEqual(before?.[field], after[field]))
      errors.push(forbiddenField(field, `updates to ${field} are forbidden.`));
  const { parameters } = after;
  for (const [key, value] of isObject(parameters) ? Object.entries(parameters) : [])
    if (typeof value !== 'string') errors.push(invalidField(`parameters.${key}`, value, 'must be a text; quote it'));
  return errors;
}

function attachmentErrors(after: StoredObject, before: StoredObject | undefined): StatusCause[] {
  if (before && !jsonEqual(before.spec, after.spec)) return [invalidField('spec', after.spec, 'field is immutable')];
  return ['attacher', 'nodeName']
    .filter((field) => !textAt(after, 'spec', field))
    .map((field) => required(`spec.${field}`));
}

function definitionErrors(after: StoredObject): StatusCause[] {
  const errors: StatusCause[] = [];
  const name = `${textAt(after, 'spec', 'names', 'plural')}.${textAt(after, 'spec', 'group')}`;
  if (after.metadata.name !== name)
    errors.push(invalidField('metadata.name', after.metadata.name, 'must be spec.names.plural+"."+spec.group'));
  if (BUILT_IN_KINDS.some((info) => kindKey(info) === name))
    errors.push(forbiddenField('spec.names', `${name} is built in; choose another group or plural`));
  const versions = arrayAt(after, 'spec', 'versions');
  if (versions.filter((version) => at(version, 'storage') === true).length !== 1)
    errors.push(
      invalidField('spec.versions', versions.length, 'must have exactly one version marked as storage version'),
    );
  versions.forEach((version, index) => {
    if (!isObject(at(version, 'schema', 'openAPIV3Schema')))
      errors.push(required(`spec.versions[${index}].schema.openAPIV3Schema`, 'schemas are required'));
  });
  return errors;
}
