/** The kinds served now: the built-in ones and those of CustomResourceDefinitions. */
import { BUILT_IN_KINDS, type CustomKind, type KindInfo, kindKey, type PrinterColumn } from './kinds.ts';
import { arrayAt, at, isObject, type StoredObject, textAt } from './objects.ts';

export class Registry {
  readonly #kinds = new Map<string, KindInfo>();

  constructor() {
    for (const info of BUILT_IN_KINDS) this.#kinds.set(kindKey(info), info);
  }

  get(key: string): KindInfo | undefined {
    return this.#kinds.get(key);
  }

  all(): readonly KindInfo[] {
    return [...this.#kinds.values()];
  }

  /** Follows a change of a CustomResourceDefinition. */
  follow(before: StoredObject | undefined, after: StoredObject | undefined): void {
    const old = before && customKind(before);
    if (old) this.#kinds.delete(kindKey(old));
    const info = after && customKind(after);
    if (info) this.#kinds.set(kindKey(info), info);
  }
}

/** The kind that a definition makes: its storage version, the only one served. */
export function customKind(definition: StoredObject): KindInfo | undefined {
  const spec = definition.spec;
  const version = arrayAt(spec, 'versions').find((item) => at(item, 'storage') === true);
  const group = textAt(spec, 'group');
  const plural = textAt(spec, 'names', 'plural');
  const kind = textAt(spec, 'names', 'kind');
  const name = textAt(version, 'name');
  if (!group || !plural || !kind || !name || at(version, 'served') === false) return undefined;
  return {
    group,
    version: name,
    kind,
    plural,
    singular: textAt(spec, 'names', 'singular') || kind.toLowerCase(),
    namespaced: at(spec, 'scope') !== 'Cluster',
    shortNames: texts(at(spec, 'names', 'shortNames')),
    categories: texts(at(spec, 'names', 'categories')),
    hasStatus: isObject(at(version, 'subresources', 'status')),
    custom: customPart(version),
  };
}

function customPart(version: unknown): CustomKind {
  const schema = at(version, 'schema', 'openAPIV3Schema');
  const columns = arrayAt(version, 'additionalPrinterColumns').filter(isPrinterColumn);
  const selectableFields = arrayAt(version, 'selectableFields').flatMap((item) => {
    const path = textAt(item, 'jsonPath');
    return path === undefined ? [] : [path.replace(/^\./, '')];
  });
  return { schema: isObject(schema) ? schema : {}, columns, selectableFields };
}

function isPrinterColumn(value: unknown): value is PrinterColumn {
  return ['name', 'type', 'jsonPath'].every((field) => typeof at(value, field) === 'string');
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}
