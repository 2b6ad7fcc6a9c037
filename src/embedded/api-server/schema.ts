/**
 * Structural schemas of custom resources (openAPIV3Schema): defaults, pruning, validation.
 * Spoken: type, nullable, properties, required, additionalProperties, items, enum, pattern, minimum, maximum, lengths,
 * numbers of items, uniqueItems of scalars, default, x-kubernetes-int-or-string, -preserve-unknown-fields,
 * -embedded-resource, list-map keys. Not evaluated: x-kubernetes-validations (CEL); a real API server does.
 * Pure; values are not changed. Wording follows the real server.
 */
import { at, isObject, jsonEqual } from './objects.ts';
import type { StatusCause } from './store-error.ts';

type Schema = { readonly [key: string]: unknown };

/** `value` with the schema's defaults filled in. */
export function withDefaults(schema: Schema, value: unknown): unknown {
  if (Array.isArray(value)) {
    const items = schema.items;
    return isObject(items) ? value.map((item) => withDefaults(items, item)) : value;
  }
  if (!isObject(value)) return value;
  const result = { ...value };
  for (const [name, property] of Object.entries(propertiesOf(schema))) {
    // A null where null is not allowed counts as absent.
    if (result[name] === null && property.nullable !== true && property.default !== undefined) delete result[name];
    if (result[name] === undefined && property.default !== undefined) result[name] = structuredClone(property.default);
    if (result[name] !== undefined) result[name] = withDefaults(property, result[name]);
  }
  const rest = schema.additionalProperties;
  if (isObject(rest))
    for (const name of Object.keys(value))
      if (!(name in propertiesOf(schema))) result[name] = withDefaults(rest, value[name]);
  return result;
}

/** `value` without the fields that the schema does not know; their paths are added to `unknown`. */
export function pruned(schema: Schema, value: unknown, path: string, unknown: string[]): unknown {
  if (Array.isArray(value)) {
    const items = schema.items;
    return isObject(items) ? value.map((item, index) => pruned(items, item, `${path}[${index}]`, unknown)) : value;
  }
  if (!isObject(value)) return value;
  const known = propertiesOf(schema);
  const keepsUnknown = schema['x-kubernetes-preserve-unknown-fields'] === true;
  const result: { [key: string]: unknown } = {};
  for (const [name, item] of Object.entries(value)) {
    const below = path ? `${path}.${name}` : name;
    const rest = schema.additionalProperties;
    if (isImplied(schema, path, name)) result[name] = item;
    else if (Object.hasOwn(known, name)) result[name] = pruned(known[name]!, item, below, unknown);
    else if (isObject(rest)) result[name] = pruned(rest, item, below, unknown);
    else if (keepsUnknown || rest === true) result[name] = item;
    else unknown.push(below);
  }
  return result;
}

/** Drops from `object`, in place, the fields that the schema does not know; their paths are added to `unknown`. */
export function keepOnly<T extends { [key: string]: unknown }>(schema: Schema, object: T, unknown: string[]): T {
  const kept = pruned(schema, object, '', unknown);
  for (const key of Object.keys(object)) if (!isObject(kept) || !Object.hasOwn(kept, key)) delete object[key];
  return Object.assign(object, kept);
}

/** apiVersion, kind and metadata are every object's, whether the schema lists them or not. */
function isImplied(schema: Schema, path: string, name: string): boolean {
  const isResource = path === '' || schema['x-kubernetes-embedded-resource'] === true;
  return isResource && ['apiVersion', 'kind', 'metadata'].includes(name);
}

/** What is wrong with `value`; empty when nothing is. */
export function schemaErrors(schema: Schema, value: unknown, path = ''): StatusCause[] {
  if (value === null && schema.nullable === true) return [];
  const typeError = checkType(schema, value, path);
  if (typeError) return [typeError];
  const errors = checkEnum(schema, value, path);
  if (typeof value === 'string') errors.push(...checkText(schema, value, path));
  else if (typeof value === 'number') errors.push(...checkNumber(schema, value, path));
  else if (Array.isArray(value)) errors.push(...checkList(schema, value, path));
  else if (isObject(value)) errors.push(...checkObject(schema, value, path));
  return errors;
}

function propertiesOf(schema: Schema): { readonly [name: string]: Schema } {
  return isObject(schema.properties) ? (schema.properties as { [name: string]: Schema }) : {};
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value;
}

function checkType(schema: Schema, value: unknown, path: string): StatusCause | undefined {
  const actual = typeOf(value);
  if (schema['x-kubernetes-int-or-string'] === true)
    return ['integer', 'string'].includes(actual) ? undefined : typeInvalid(path, 'integer,string', actual);
  const wanted = schema.type;
  if (typeof wanted !== 'string' || wanted === actual || (wanted === 'number' && actual === 'integer'))
    return undefined;
  return typeInvalid(path, wanted, actual);
}

function typeInvalid(field: string, wanted: string, actual: string): StatusCause {
  const message = `Invalid value: "${actual}": ${field} in body must be of type ${wanted}: "${actual}"`;
  return { reason: 'FieldValueTypeInvalid', field, message };
}

function invalidValue(field: string, value: unknown, why: string): StatusCause {
  const message = `Invalid value: ${JSON.stringify(value)}: ${field} in body ${why}`;
  return { reason: 'FieldValueInvalid', field, message };
}

function checkEnum(schema: Schema, value: unknown, field: string): StatusCause[] {
  const allowed = schema.enum;
  if (!Array.isArray(allowed) || allowed.some((item) => jsonEqual(item, value))) return [];
  const supported = allowed.map((item) => JSON.stringify(item)).join(', ');
  const message = `Unsupported value: ${JSON.stringify(value)}: supported values: ${supported}`;
  return [{ reason: 'FieldValueNotSupported', field, message }];
}

function checkText(schema: Schema, value: string, field: string): StatusCause[] {
  const errors: StatusCause[] = [];
  const { pattern, minLength, maxLength, format } = schema;
  if (typeof pattern === 'string' && !compiled(pattern).test(value))
    errors.push(invalidValue(field, value, `should match '${pattern}'`));
  if (typeof minLength === 'number' && [...value].length < minLength)
    errors.push(invalidValue(field, value, `should be at least ${minLength} chars long`));
  if (typeof maxLength === 'number' && [...value].length > maxLength)
    errors.push({ reason: 'FieldValueTooLong', field, message: `Too long: may not be more than ${maxLength} bytes` });
  if (format === 'date-time' && Number.isNaN(Date.parse(value)))
    errors.push(invalidValue(field, value, `must be of type date-time: ${JSON.stringify(value)}`));
  return errors;
}

/** Definitions are written for RE2, which allows escapes that are errors in Unicode mode here. */
function compiled(pattern: string): RegExp {
  try {
    return new RegExp(pattern, 'u');
  } catch {
    return new RegExp(pattern);
  }
}

function checkNumber(schema: Schema, value: number, field: string): StatusCause[] {
  const { minimum, maximum } = schema;
  if (typeof minimum === 'number' && (schema.exclusiveMinimum === true ? value <= minimum : value < minimum))
    return [
      invalidValue(field, value, `should be greater than ${schema.exclusiveMinimum ? '' : 'or equal to '}${minimum}`),
    ];
  if (typeof maximum === 'number' && (schema.exclusiveMaximum === true ? value >= maximum : value > maximum))
    return [
      invalidValue(field, value, `should be less than ${schema.exclusiveMaximum ? '' : 'or equal to '}${maximum}`),
    ];
  return [];
}

function checkList(schema: Schema, value: readonly unknown[], field: string): StatusCause[] {
  const errors: StatusCause[] = [];
  const { minItems, maxItems, items } = schema;
  if (typeof minItems === 'number' && value.length < minItems)
    errors.push(invalidValue(field, value.length, `should have at least ${minItems} items`));
  if (typeof maxItems === 'number' && value.length > maxItems)
    errors.push({
      reason: 'FieldValueTooMany',
      field,
      message: `Too many: ${value.length}: must have at most ${maxItems} items`,
    });
  errors.push(...checkUnique(schema, value, field));
  if (isObject(items)) errors.push(...value.flatMap((item, index) => schemaErrors(items, item, `${field}[${index}]`)));
  return errors;
}

/** List maps have one item per key, sets no value twice. */
function checkUnique(schema: Schema, value: readonly unknown[], field: string): StatusCause[] {
  const listType = schema['x-kubernetes-list-type'];
  const keys = schema['x-kubernetes-list-map-keys'];
  if (listType !== 'set' && !(listType === 'map' && Array.isArray(keys))) return [];
  const seen = new Set<string>();
  const errors: StatusCause[] = [];
  value.forEach((item, index) => {
    const identity = Array.isArray(keys) ? Object.fromEntries(keys.map((key) => [key, at(item, String(key))])) : item;
    const text = JSON.stringify(identity);
    if (seen.has(text))
      errors.push({ reason: 'FieldValueDuplicate', field: `${field}[${index}]`, message: `Duplicate value: ${text}` });
    seen.add(text);
  });
  return errors;
}

function checkObject(schema: Schema, value: { readonly [key: string]: unknown }, path: string): StatusCause[] {
  const errors: StatusCause[] = [];
  const below = (name: string) => (path ? `${path}.${name}` : name);
  const { required, additionalProperties, maxProperties } = schema;
  if (Array.isArray(required))
    for (const name of required)
      if (value[name] === undefined)
        errors.push({ reason: 'FieldValueRequired', field: below(name), message: 'Required value' });
  if (typeof maxProperties === 'number' && Object.keys(value).length > maxProperties)
    errors.push(invalidValue(path, Object.keys(value).length, `should have at most ${maxProperties} properties`));
  const known = propertiesOf(schema);
  for (const [name, item] of Object.entries(value)) {
    if (item === undefined || (path === '' && name === 'metadata')) continue;
    if (Object.hasOwn(known, name)) errors.push(...schemaErrors(known[name]!, item, below(name)));
    else if (isObject(additionalProperties)) errors.push(...schemaErrors(additionalProperties, item, below(name)));
  }
  return errors;
}
