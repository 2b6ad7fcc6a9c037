/** A directory of Kubernetes manifests, read and created as `kubectl apply -f DIRECTORY` would the first time. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LineCounter, parseAllDocuments } from 'yaml';
import { messageOf, UnionError } from '../../base/errors.ts';
import { apiVersionOf, type Kind } from '../../embedded/api-server/kinds.ts';
import type { Store } from '../../embedded/api-server/store.ts';

export interface Manifest {
  readonly file: string;
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

/** All objects of a directory's YAML files, in the order of file names. Throws an error with file, line and column. */
export function readManifests(directory: string): Manifest[] {
  const files = listFiles(directory);
  if (files.length === 0)
    throw new UnionError('NOT_FOUND', `${directory} has no YAML files; name a directory with manifests`);
  return files.flatMap((file) => parseManifests(file, readFileSync(file, 'utf8')));
}

function listFiles(directory: string): string[] {
  try {
    const names = readdirSync(directory).filter((name) => /\.ya?ml$/.test(name));
    return names.sort().map((name) => join(directory, name));
  } catch (cause) {
    throw new UnionError('NOT_FOUND', `cannot read the directory ${directory}: ${messageOf(cause)}`, { cause });
  }
}

export function parseManifests(file: string, text: string): Manifest[] {
  const lines = new LineCounter();
  return parseAllDocuments(text, { lineCounter: lines }).flatMap((document) => {
    const problem = document.errors[0];
    if (problem !== undefined) {
      const { line, col } = lines.linePos(problem.pos[0]);
      const reason = problem.message.split('\n')[0]!.replace(/ at line .*$/, '');
      throw new UnionError('INVALID_ARGUMENT', `${file}:${line}:${col}: ${reason}`);
    }
    const object: unknown = document.toJS();
    if (object === null) return [];
    if (!isManifest(object)) {
      const { line } = lines.linePos(document.range[0]);
      throw new UnionError('INVALID_ARGUMENT', `${file}:${line}: an object needs apiVersion, kind and metadata.name`);
    }
    return [{ ...object, file }];
  });
}

function isManifest(value: unknown): value is Omit<Manifest, 'file'> {
  if (typeof value !== 'object') return false;
  const { apiVersion, kind, metadata } = value as Partial<Manifest>;
  return typeof apiVersion === 'string' && typeof kind === 'string' && typeof metadata?.name === 'string';
}

/** Creates what is not there yet. Throws an error that names file and object. */
export function createManifests(store: Store, manifests: readonly Manifest[]): void {
  for (const { file, ...object } of manifests) {
    const kind = kindOf(store, object.apiVersion, object.kind);
    if (kind === undefined) {
      const message = `${file}: the embedded cluster has no ${object.kind} of ${object.apiVersion}; take it out`;
      throw new UnionError('INVALID_ARGUMENT', message);
    }
    const namespace = store.info(kind).namespaced ? (object.metadata.namespace ?? 'default') : undefined;
    const metadata = { ...object.metadata, ...(namespace !== undefined && { namespace }) };
    if (store.get(kind, metadata) !== undefined) continue;
    try {
      store.create(kind, { ...object, metadata });
    } catch (cause) {
      const message = `${file}: cannot create ${object.kind} ${object.metadata.name}: ${messageOf(cause)}`;
      throw new UnionError('INVALID_ARGUMENT', message, { cause });
    }
  }
}

function kindOf(store: Store, apiVersion: string, kind: string): Kind | undefined {
  return store.kinds.find((known) => known.kind === kind && apiVersionOf(known) === apiVersion);
}
