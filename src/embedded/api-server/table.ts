/** Objects as rows: meta.k8s.io Tables, which is what `kubectl get` prints. Pure. */
import { type Column, columnsOf } from './columns.ts';
import type { KindInfo } from './kinds.ts';
import type { StoredObject } from './objects.ts';

export interface TableFormat {
  /** `v1`, or `v1beta1` for clients older than 1.15. */
  readonly version: string;
  /** What each row carries of its object. */
  readonly include: 'None' | 'Metadata' | 'Object';
}

export interface TableContent {
  readonly objects: readonly StoredObject[];
  /** The list's: resourceVersion, continue, remainingItemCount. */
  readonly metadata: { readonly [field: string]: unknown };
  /** Later events of a watch go without them. */
  readonly withColumns: boolean;
}

export function tableOf(info: KindInfo, format: TableFormat, content: TableContent, nowMs: number): unknown {
  const columns = columnsOf(info);
  return {
    kind: 'Table',
    apiVersion: `meta.k8s.io/${format.version}`,
    metadata: content.metadata,
    columnDefinitions: content.withColumns ? columns.map(definition) : [],
    rows: content.objects.map((object) => ({
      cells: columns.map(({ cell }) => cell(object, nowMs)),
      object: included(object, format),
    })),
  };
}

function definition({ name, type, format, description, priority }: Column): unknown {
  return { name, type, format: format ?? '', description: description ?? '', priority };
}

function included(object: StoredObject, { include, version }: TableFormat): unknown {
  switch (include) {
    case 'None':
      return undefined;
    case 'Object':
      return object;
    case 'Metadata':
      return { kind: 'PartialObjectMetadata', apiVersion: `meta.k8s.io/${version}`, metadata: object.metadata };
  }
}

/** The table asked for in an Accept header, in the client's order of preference; undefined: plain objects. */
export function requestedTable(accept: string | undefined, includeObject: string | null): TableFormat | undefined {
  const first = (accept ?? '')
    .split(',')
    .map(parameters)
    .find(({ type, as }) => isJson(type) && (!as || as === 'Table'));
  if (first?.as !== 'Table' || first.g !== 'meta.k8s.io') return undefined;
  const include = includeObject === 'None' || includeObject === 'Object' ? includeObject : 'Metadata';
  return { version: first.v === 'v1beta1' ? 'v1beta1' : 'v1', include };
}

function isJson(type: string | undefined): boolean {
  return type === 'application/json' || type === 'application/*' || type === '*/*';
}

function parameters(range: string): { readonly [name: string]: string | undefined } {
  const [type = '', ...rest] = range.split(';').map((part) => part.trim());
  return Object.fromEntries([['type', type], ...rest.map((part) => part.split('=', 2))]);
}
