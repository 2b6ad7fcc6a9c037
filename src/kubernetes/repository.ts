/**
 * Typed reads and writes of one kind.
 * Expected outcomes are values: an absent object is undefined, a lost race is a WriteFailure. All else is thrown as
 * UnionError: UNAVAILABLE where trying again helps, INVALID_ARGUMENT and PERMISSION_DENIED where it does not.
 * Every write is a compare-and-swap where the object or patch carries a resourceVersion.
 */
import { UnionError } from '../base/errors.ts';
import { err, ok, type Result } from '../base/result.ts';
import type { KubeObject } from '../protocol/objects.ts';
import { type ApiRequest, type ApiResponse, type KubeClient, statusMessage } from './client.ts';
import { type Kind, type ObjectRef, pathOf } from './kinds.ts';

/** Objects asked for at once by list. */
const PAGE_SIZE = 500;

export interface WriteFailure {
  /** CONFLICT: someone else wrote first (or a precondition does not hold): read again and decide anew. */
  readonly kind: 'NOT_FOUND' | 'ALREADY_EXISTS' | 'CONFLICT';
  readonly message: string;
}

export interface Selection {
  /** All namespaces without it. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
}

/** A value in a field selector: comma, equals sign and backslash have a meaning there. */
export function fieldValue(text: string): string {
  return text.replace(/[\\,=]/g, '\\$&');
}

export interface DeleteOptions {
  /** Only this very object, not a later one of the same name. */
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
  readonly gracePeriodSeconds?: number;
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan';
}

export interface Repository<T extends KubeObject> {
  readonly kind: Kind<T>;
  get(ref: ObjectRef, signal: AbortSignal): Promise<T | undefined>;
  list(selection: Selection, signal: AbortSignal): Promise<T[]>;
  create(object: T, signal: AbortSignal): Promise<Result<T, WriteFailure>>;
  /** Replaces all but status. */
  update(object: T, signal: AbortSignal): Promise<Result<T, WriteFailure>>;
  /** Replaces status alone. */
  updateStatus(object: T, signal: AbortSignal): Promise<Result<T, WriteFailure>>;
  /** JSON merge patch; `metadata.resourceVersion` in it makes it a compare-and-swap, null removes a field. */
  patchMerge(ref: ObjectRef, patch: object, signal: AbortSignal): Promise<Result<T, WriteFailure>>;
  patchStatusMerge(ref: ObjectRef, patch: object, signal: AbortSignal): Promise<Result<T, WriteFailure>>;
  /** Asks for deletion; an absent object is ok. Finalizers may keep it for a while. */
  delete(ref: ObjectRef, options: DeleteOptions, signal: AbortSignal): Promise<Result<void, WriteFailure>>;
}

export function createRepository<T extends KubeObject>(client: KubeClient, kind: Kind<T>): Repository<T> {
  const one = async (request: ApiRequest, signal: AbortSignal): Promise<Result<T, WriteFailure>> => {
    const response = await client.request(request, signal);
    const failed = writeFailure(request, response);
    return failed === undefined ? ok(parseObject(kind, response.body)) : err(failed);
  };
  const merge = (path: string, patch: object, signal: AbortSignal) =>
    one({ method: 'PATCH', path, body: patch, contentType: 'application/merge-patch+json' }, signal);

  return {
    kind,
    async get(ref, signal) {
      const result = await one({ method: 'GET', path: pathOf(kind, ref) }, signal);
      if (result.ok) return result.value;
      if (result.error.kind === 'NOT_FOUND') return undefined;
      throw new UnionError('UNAVAILABLE', result.error.message);
    },
    async list(selection, signal) {
      const items: T[] = [];
      let page: ListPage<T> | undefined;
      do {
        page = await listPage({ client, kind, selection, ...(page && { continueToken: page.continueToken }) }, signal);
        items.push(...page.items);
      } while (page.continueToken !== '');
      return items;
    },
    create: (object, signal) =>
      one(
        { method: 'POST', path: pathOf(kind, { namespace: object.metadata.namespace ?? undefined }), body: object },
        signal,
      ),
    update: (object, signal) => one({ method: 'PUT', path: pathOf(kind, object.metadata), body: object }, signal),
    updateStatus: (object, signal) =>
      one({ method: 'PUT', path: `${pathOf(kind, object.metadata)}/status`, body: object }, signal),
    patchMerge: (ref, patch, signal) => merge(pathOf(kind, ref), patch, signal),
    patchStatusMerge: (ref, patch, signal) => merge(`${pathOf(kind, ref)}/status`, patch, signal),
    async delete(ref, options, signal) {
      const { uid, resourceVersion, ...rest } = options;
      const preconditions = {
        ...(uid !== undefined && { uid }),
        ...(resourceVersion !== undefined && { resourceVersion }),
      };
      const body = { apiVersion: 'v1', kind: 'DeleteOptions', ...rest, preconditions };
      const request: ApiRequest = { method: 'DELETE', path: pathOf(kind, ref), body };
      const failed = writeFailure(request, await client.request(request, signal));
      return failed === undefined || failed.kind === 'NOT_FOUND' ? ok(undefined) : err(failed);
    },
  };
}

export interface ListPage<T> {
  readonly items: readonly T[];
  readonly resourceVersion: string;
  /** Empty on the last page. */
  readonly continueToken: string;
}

export async function listPage<T extends KubeObject>(
  input: { client: KubeClient; kind: Kind<T>; selection: Selection; continueToken?: string },
  signal: AbortSignal,
): Promise<ListPage<T>> {
  const { client, kind, selection, continueToken } = input;
  const request: ApiRequest = {
    method: 'GET',
    path: pathOf(kind, { namespace: selection.namespace }),
    query: {
      limit: String(PAGE_SIZE),
      continue: continueToken,
      labelSelector: selection.labelSelector,
      fieldSelector: selection.fieldSelector,
    },
  };
  const response = await client.request(request, signal);
  if (response.status !== 200) throw thrown(request, response);
  const list = response.body;
  if (!isRecord(list) || !Array.isArray(list.items) || !isRecord(list.metadata)) {
    throw new UnionError('INTERNAL', `the API server's answer to ${request.path} is not a list`);
  }
  return {
    items: list.items.map((item) => parseObject(kind, item)),
    resourceVersion: String(list.metadata.resourceVersion ?? ''),
    continueToken: String(list.metadata.continue ?? ''),
  };
}

/** Checks what every object must have; items of lists come without apiVersion and kind, which are added. */
export function parseObject<T extends KubeObject>(kind: Kind<T>, value: unknown): T {
  if (!isRecord(value) || !isRecord(value.metadata) || typeof value.metadata.name !== 'string') {
    throw new UnionError('INTERNAL', `the API server sent a ${kind.name} without metadata.name`);
  }
  // The schema of the rest is the API server's to keep: built-in kinds by their definition, ours by their CRDs.
  return { ...value, apiVersion: kind.apiVersion, kind: kind.name } as unknown as T;
}

function writeFailure(request: ApiRequest, response: ApiResponse): WriteFailure | undefined {
  const { status, body } = response;
  if (status >= 200 && status < 300) return undefined;
  const message = statusMessage(status, body);
  if (status === 404) return { kind: 'NOT_FOUND', message };
  if (status === 409) {
    const exists = isRecord(body) && body.reason === 'AlreadyExists';
    return { kind: exists ? 'ALREADY_EXISTS' : 'CONFLICT', message };
  }
  throw thrown(request, response);
}

function thrown(request: ApiRequest, { status, body }: ApiResponse): UnionError {
  const message = `${request.method} ${request.path}: ${statusMessage(status, body)}`;
  if (status === 400 || status === 422) return new UnionError('INVALID_ARGUMENT', message);
  if (status === 401 || status === 403) return new UnionError('PERMISSION_DENIED', message);
  return new UnionError('UNAVAILABLE', message, { details: { status } });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
