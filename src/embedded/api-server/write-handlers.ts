/** POST, PUT, PATCH and DELETE of objects and collections. */

import type { KubeObject } from '../../protocol/objects.ts';
import { type Exchange, readBody, sendJson } from './http.ts';
import { at, isObject, type ObjectRef, textAt } from './objects.ts';
import { patchTypeOf } from './patch.ts';
import { PROTOBUF_MEDIA_TYPE } from './protobuf.ts';
import { selectionOf } from './read-handlers.ts';
import type { ResourceRoute } from './routes.ts';
import type { DeleteOptions, Draft, Store, WriteOptions } from './store.ts';
import { badRequest, StoreError } from './store-error.ts';

export type NamedRoute = ResourceRoute & { readonly name: string };

export async function createObject(store: Store, route: ResourceRoute, exchange: Exchange): Promise<void> {
  const object = await readObject(route, exchange);
  const { options, warnings } = writeOptions(route, exchange);
  const created = store.create(route.info, object, options);
  sendJson(exchange.response, 201, created, warningHeader(warnings));
}

export async function updateObject(store: Store, route: NamedRoute, exchange: Exchange): Promise<void> {
  const object = await readObject(route, exchange);
  if (object.metadata.name !== route.name) {
    const why = `the name of the object (${object.metadata.name ?? ''}) does not match the name on the URL (${route.name})`;
    throw badRequest(why);
  }
  const { options, warnings } = writeOptions(route, exchange);
  const updated = store.update(route.info, object as KubeObject, options);
  sendJson(exchange.response, 200, updated, warningHeader(warnings));
}

export async function patchObject(store: Store, route: NamedRoute, exchange: Exchange): Promise<void> {
  const { request, response } = exchange;
  const type = patchTypeOf(request.headers['content-type'], route.info);
  const body = await readBody(request);
  const { options, warnings } = writeOptions(route, exchange);
  sendJson(response, 200, store.patch(route.info, refOf(route), { type, body }, options), warningHeader(warnings));
}

export async function deleteObject(store: Store, route: NamedRoute, exchange: Exchange): Promise<void> {
  const options = await deleteOptions(exchange);
  const { object, gone } = store.delete(route.info, refOf(route), options);
  const { info, name } = route;
  const details = { name, kind: info.plural, uid: object.metadata.uid, ...(info.group && { group: info.group }) };
  const status = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details };
  sendJson(exchange.response, 200, gone ? status : object);
}

export async function deleteObjects(store: Store, route: ResourceRoute, exchange: Exchange): Promise<void> {
  const options = await deleteOptions(exchange);
  for (const { metadata } of store.list(route.info, selectionOf(route, exchange.query)))
    store.delete(route.info, metadata, options);
  const details = { kind: route.info.plural, ...(route.info.group && { group: route.info.group }) };
  sendJson(exchange.response, 200, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details });
}

export function refOf({ namespace, name }: NamedRoute): ObjectRef {
  return { namespace, name };
}

/** The object in the body, placed in the URL's namespace. */
async function readObject({ info, namespace }: ResourceRoute, { request }: Exchange): Promise<Draft<KubeObject>> {
  const mediaType = (request.headers['content-type'] ?? 'application/json').split(';')[0]!.trim();
  if (mediaType !== 'application/json' && mediaType !== PROTOBUF_MEDIA_TYPE) {
    const message = 'the body of the request was in an unknown format - accepted media types include: application/json';
    throw new StoreError(415, 'UnsupportedMediaType', message);
  }
  const body = await readBody(request);
  if (!isObject(body)) throw badRequest('the body of the request is not an object');
  const metadata = isObject(body.metadata) ? { ...body.metadata } : {};
  if (info.namespaced) {
    if (namespace === undefined) throw badRequest('an empty namespace may not be set during creation');
    const own = textAt(metadata, 'namespace');
    if (own && own !== namespace)
      throw badRequest(
        `the namespace of the provided object does not match the namespace sent on the request: ${own}, ${namespace}`,
      );
    metadata.namespace = namespace;
  }
  return { ...body, metadata };
}

interface Write {
  readonly options: WriteOptions;
  /** Filled while writing. */
  readonly warnings: string[];
}

function writeOptions({ subresource }: ResourceRoute, { query }: Exchange): Write {
  const warnings: string[] = [];
  const fieldValidation = query.get('fieldValidation') ?? 'Warn';
  const onUnknownFields = (paths: readonly string[]) => {
    const messages = paths.map((path) => `unknown field ${JSON.stringify(path)}`);
    if (fieldValidation === 'Strict') throw badRequest(`strict decoding error: ${messages.join(', ')}`);
    if (fieldValidation === 'Warn') warnings.push(...messages);
  };
  const options: WriteOptions = {
    subresource: subresource === 'status' ? 'status' : undefined,
    dryRun: query.get('dryRun') === 'All',
    onUnknownFields,
  };
  return { options, warnings };
}

/** RFC 7234, 5.5: kubectl prints these. Headers hold no more than ASCII. */
function warningHeader(warnings: readonly string[]): Record<string, string> {
  if (warnings.length === 0) return {};
  const quoted = warnings.map((text) => `299 - ${JSON.stringify(text.replace(/[^ -~]/gu, '?'))}`);
  return { Warning: quoted.join(', ') };
}

/** From the body, which is optional, and the query, which older clients use. */
async function deleteOptions({ request, query }: Exchange): Promise<DeleteOptions> {
  const body = (await readBody(request)) ?? {};
  const policy = textAt(body, 'propagationPolicy') ?? query.get('propagationPolicy') ?? undefined;
  if (policy !== undefined && policy !== 'Background' && policy !== 'Foreground' && policy !== 'Orphan')
    throw badRequest(`invalid propagationPolicy ${JSON.stringify(policy)}; use Background, Foreground or Orphan`);
  const orphan = at(body, 'orphanDependents') === true || query.get('orphanDependents') === 'true';
  const grace = textAt(body, 'gracePeriodSeconds') ?? query.get('gracePeriodSeconds') ?? undefined;
  const uid = textAt(body, 'preconditions', 'uid');
  const resourceVersion = textAt(body, 'preconditions', 'resourceVersion');
  const dryRun = at(body, 'dryRun');
  return {
    propagationPolicy: policy ?? (orphan ? 'Orphan' : undefined),
    gracePeriodSeconds: grace === undefined ? undefined : Number(grace),
    preconditions: { ...(uid && { uid }), ...(resourceVersion && { resourceVersion }) },
    dryRun: query.get('dryRun') === 'All' || (Array.isArray(dryRun) && dryRun.includes('All')),
  };
}
