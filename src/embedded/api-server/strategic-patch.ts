/**
 * Strategic merge patch: a JSON merge patch in which some lists are merged by a key of their items
 * (k8s.io/apimachinery/pkg/util/strategicpatch). Pure.
 * Directives: `$patch: replace|delete|merge`, `$retainKeys`, `$deleteFromPrimitiveList/<list>`, `$setElementOrder/<list>`.
 * A real server reads the merge keys from its Go types; here is the part of that table that our kinds need.
 */
import { isObject, jsonEqual } from './objects.ts';
import { badRequest } from './store-error.ts';

type Fields = { [key: string]: unknown };

/** Key of the items of a merged list; '' for a list of plain values that is merged as a set. */
type MergeKeys = { readonly [path: string]: string };

const CONTAINER_KEYS: MergeKeys = {
  env: 'name',
  ports: 'containerPort',
  volumeMounts: 'mountPath',
  volumeDevices: 'devicePath',
};

function ofContainers(list: string): MergeKeys {
  const keys: { [path: string]: string } = { [`spec.${list}`]: 'name' };
  for (const [field, key] of Object.entries(CONTAINER_KEYS)) keys[`spec.${list}.${field}`] = key;
  return keys;
}

const COMMON_KEYS: MergeKeys = {
  'metadata.ownerReferences': 'uid',
  'metadata.finalizers': '',
  'status.conditions': 'type',
};

const KEYS_OF_KIND: { readonly [kind: string]: MergeKeys } = {
  Pod: {
    ...ofContainers('containers'),
    ...ofContainers('initContainers'),
    'spec.volumes': 'name',
    'spec.imagePullSecrets': 'name',
    'spec.hostAliases': 'ip',
    'spec.topologySpreadConstraints': 'topologyKey',
    'spec.schedulingGates': 'name',
    'spec.resourceClaims': 'name',
    'status.podIPs': 'ip',
    'status.hostIPs': 'ip',
  },
  Node: { 'spec.podCIDRs': '', 'status.addresses': 'type' },
  ServiceAccount: { secrets: 'name' },
  CSINode: { 'spec.drivers': 'name' },
};

/** `kind` is that of the object, of a built-in group. */
export function applyStrategicPatch(target: unknown, patch: unknown, kind: string): unknown {
  const keys = { ...COMMON_KEYS, ...KEYS_OF_KIND[kind] };
  if (!isObject(patch)) throw badRequest('a strategic merge patch is an object');
  return mergeObject(isObject(target) ? target : {}, patch, '', keys) ?? {};
}

/** Undefined: the object is to go. */
function mergeObject(target: Fields, patch: Fields, path: string, keys: MergeKeys): Fields | undefined {
  const directive = patch.$patch;
  if (directive === 'delete') return undefined;
  if (directive === 'replace') return withoutDirectives(patch);
  if (directive !== undefined && directive !== 'merge')
    throw badRequest(`unknown $patch directive ${JSON.stringify(directive)}; use replace, delete or merge`);
  const result: Fields = { ...target };
  if (Array.isArray(patch.$retainKeys))
    for (const key of Object.keys(result)) if (!patch.$retainKeys.includes(key)) delete result[key];
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith('$')) continue;
    const merged = mergeField(result[key], value, path ? `${path}.${key}` : key, keys);
    if (merged === undefined) delete result[key];
    else result[key] = merged;
  }
  for (const [key, value] of Object.entries(patch)) applyListDirective(result, key, value, path, keys);
  return result;
}

function mergeField(target: unknown, value: unknown, path: string, keys: MergeKeys): unknown {
  if (value === null) return undefined;
  if (isObject(value)) return mergeObject(isObject(target) ? target : {}, value, path, keys);
  if (!Array.isArray(value)) return value;
  const key = keys[path];
  if (key === undefined) return value;
  const items = Array.isArray(target) ? target : [];
  return key === '' ? mergeSet(items, value) : mergeList(items, value, { key, path, keys });
}

function mergeSet(target: readonly unknown[], patch: readonly unknown[]): unknown[] {
  return [...target, ...patch.filter((value) => !target.some((item) => jsonEqual(item, value)))];
}

interface ListKeys {
  readonly key: string;
  readonly path: string;
  readonly keys: MergeKeys;
}

function mergeList(target: readonly unknown[], patch: readonly unknown[], { key, path, keys }: ListKeys): unknown[] {
  if (patch.some((item) => isObject(item) && item.$patch === 'replace'))
    return patch.filter((item) => !(isObject(item) && item.$patch === 'replace'));
  const result = [...target];
  for (const item of patch) {
    if (!isObject(item) || item[key] === undefined)
      throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${key} (in ${path})`);
    const index = result.findIndex((old) => isObject(old) && jsonEqual(old[key], item[key]));
    const old = index < 0 ? {} : result[index];
    const merged = mergeObject(isObject(old) ? old : {}, item, path, keys);
    if (merged === undefined) {
      if (index >= 0) result.splice(index, 1);
    } else if (index < 0) result.push(merged);
    else result[index] = merged;
  }
  return result;
}

function applyListDirective(result: Fields, directive: string, value: unknown, path: string, keys: MergeKeys): void {
  const match = /^\$(deleteFromPrimitiveList|setElementOrder)\/(.+)$/.exec(directive);
  if (!match || !Array.isArray(value)) return;
  const [, action, list = ''] = match;
  const items = result[list];
  if (!Array.isArray(items)) return;
  if (action === 'deleteFromPrimitiveList') {
    result[list] = items.filter((item) => !value.some((gone) => jsonEqual(gone, item)));
    return;
  }
  const key = keys[path ? `${path}.${list}` : list] ?? '';
  const identity = (item: unknown) => (key && isObject(item) ? item[key] : item);
  result[list] = inOrder(items, value.map(identity), identity);
}

/** Items named in `order` in that order; each other one stays behind the item it followed. */
function inOrder(
  items: readonly unknown[],
  order: readonly unknown[],
  identity: (item: unknown) => unknown,
): unknown[] {
  const rank = (item: unknown) => order.findIndex((wanted) => jsonEqual(wanted, identity(item)));
  let last = -1;
  return items
    .map((item, index) => ({ item, index, rank: rank(item) }))
    .map((entry) => {
      if (entry.rank >= 0) last = entry.rank;
      return entry.rank >= 0 ? { ...entry, after: 0 } : { ...entry, rank: last, after: 1 };
    })
    .sort((a, b) => a.rank - b.rank || a.after - b.after || a.index - b.index)
    .map((entry) => entry.item);
}

function withoutDirectives(patch: Fields): Fields {
  return Object.fromEntries(Object.entries(patch).filter(([key]) => !key.startsWith('$')));
}
