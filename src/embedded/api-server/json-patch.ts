/** JSON patch, RFC 6902, with JSON pointers, RFC 6901. Pure: the document is not changed. All operations or none. */
import { isObject, jsonEqual } from './objects.ts';
import { badRequest, StoreError } from './store-error.ts';

interface Operation {
  readonly op: string;
  readonly path: string;
  readonly from: string;
  readonly value: unknown;
}

export function applyJsonPatch(document: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw badRequest('a JSON patch is a list of operations');
  // The root sits in a holder, so that it can be replaced like any other value.
  const holder: { [key: string]: unknown } = { root: structuredClone(document) };
  patch.forEach((item, index) => {
    try {
      applyOne(holder, parseOperation(item));
    } catch (error) {
      if (!(error instanceof PatchFailure)) throw error;
      throw new StoreError(
        422,
        'Invalid',
        `the server rejected our request due to an error in our request: operation ${index}: ${error.message}`,
      );
    }
  });
  return holder.root;
}

class PatchFailure extends Error {}

function parseOperation(value: unknown): Operation {
  if (!isObject(value) || typeof value.op !== 'string' || typeof value.path !== 'string')
    throw new PatchFailure('an operation needs "op" and "path"');
  const { op, path, from } = value;
  if (['add', 'replace', 'test'].includes(op) && !('value' in value)) throw new PatchFailure(`${op} needs "value"`);
  if (['move', 'copy'].includes(op) && typeof from !== 'string') throw new PatchFailure(`${op} needs "from"`);
  return { op, path, from: typeof from === 'string' ? from : '', value: value.value };
}

function applyOne(holder: { [key: string]: unknown }, { op, path, from, value }: Operation): void {
  switch (op) {
    case 'add':
      add(locate(holder, path), structuredClone(value));
      return;
    case 'remove':
      remove(locate(holder, path));
      return;
    case 'replace': {
      const place = locate(holder, path);
      read(place);
      replace(place, structuredClone(value));
      return;
    }
    case 'move':
      if (path.startsWith(`${from}/`)) throw new PatchFailure(`cannot move ${from} into itself`);
      move(holder, from, path);
      return;
    case 'copy':
      add(locate(holder, path), structuredClone(read(locate(holder, from))));
      return;
    case 'test':
      if (!jsonEqual(read(locate(holder, path)), value)) throw new PatchFailure(`testing value ${path} failed`);
      return;
    default:
      throw new PatchFailure(`unknown operation ${JSON.stringify(op)}`);
  }
}

/** `path` is looked up after the removal, as RFC 6902 says. */
function move(holder: { [key: string]: unknown }, from: string, path: string): void {
  const value = remove(locate(holder, from));
  add(locate(holder, path), value);
}

interface Place {
  readonly parent: unknown[] | { [key: string]: unknown };
  readonly key: string;
  readonly path: string;
}

function locate(holder: { [key: string]: unknown }, path: string): Place {
  if (path !== '' && !path.startsWith('/')) throw new PatchFailure(`${JSON.stringify(path)} is not a JSON pointer`);
  const keys = [
    'root',
    ...path
      .split('/')
      .slice(1)
      .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~')),
  ];
  let parent: unknown = holder;
  for (const key of keys.slice(0, -1)) parent = child(parent, key, path);
  if (!Array.isArray(parent) && !isObject(parent)) throw new PatchFailure(`${path} does not exist`);
  return { parent, key: keys.at(-1)!, path };
}

function child(parent: unknown, key: string, path: string): unknown {
  if (Array.isArray(parent) && isIndex(key) && Number(key) < parent.length) return parent[Number(key)];
  if (isObject(parent) && Object.hasOwn(parent, key)) return parent[key];
  throw new PatchFailure(`${path} does not exist`);
}

function isIndex(key: string): boolean {
  return /^(0|[1-9]\d*)$/.test(key);
}

function read({ parent, key, path }: Place): unknown {
  return child(parent, key, path);
}

function add({ parent, key, path }: Place, value: unknown): void {
  if (!Array.isArray(parent)) {
    define(parent, key, value);
    return;
  }
  if (key !== '-' && !(isIndex(key) && Number(key) <= parent.length))
    throw new PatchFailure(`${path} is out of bounds`);
  parent.splice(key === '-' ? parent.length : Number(key), 0, value);
}

function replace({ parent, key }: Place, value: unknown): void {
  if (Array.isArray(parent)) parent[Number(key)] = value;
  else define(parent, key, value);
}

function remove(place: Place): unknown {
  const value = read(place);
  if (Array.isArray(place.parent)) place.parent.splice(Number(place.key), 1);
  else delete place.parent[place.key];
  return value;
}

/** Assignment, also of `__proto__`, which is a field like any other here. */
function define(parent: { [key: string]: unknown }, key: string, value: unknown): void {
  Object.defineProperty(parent, key, { value, writable: true, enumerable: true, configurable: true });
}
