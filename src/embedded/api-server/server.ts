/**
 * The Kubernetes wire protocol over a Store, as far as kubectl and client libraries of the kinds in use need it.
 * Plain HTTP on 127.0.0.1, without authentication: for one person's machine, never for a network.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { messageOf, UnionError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { discoveryDocument } from './discovery.ts';
import { checkOrigin, type Exchange, sendJson, statusOf } from './http.ts';
import { OPENAPI_V2, openApiDocument, openApiIndex, openApiV2Protobuf } from './openapi.ts';
import { type ReadLog, sendLog } from './pod-log.ts';
import { proxyToPod } from './pod-proxy.ts';
import { getObject, listObjects, watchObjects } from './read-handlers.ts';
import { type ResourceRoute, resourceRoute } from './routes.ts';
import type { Store } from './store.ts';
import { badRequest, StoreError } from './store-error.ts';
import {
  createObject,
  deleteObject,
  deleteObjects,
  type NamedRoute,
  patchObject,
  updateObject,
} from './write-handlers.ts';

export interface ApiServerOptions {
  readonly store: Store;
  /** 0: a free one. */
  readonly port: number;
  readonly readLog: ReadLog;
  readonly log: Logger;
}

export interface ApiServer {
  /** `http://127.0.0.1:PORT`. */
  readonly url: string;
  /** Ends watches and open requests; the store stays open. */
  close(): Promise<void>;
}

export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const closing = new AbortController();
  const server = createServer((request, response) => {
    void answer(options, request, response, closing.signal);
  });
  // Watches last longer than any of these.
  server.requestTimeout = 0;
  server.keepAliveTimeout = 60_000;
  server.listen(options.port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (error) {
    throw listenError(error, options.port);
  }
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : options.port;
  return {
    url: `http://127.0.0.1:${port}`,
    async close() {
      closing.abort();
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function listenError(error: unknown, port: number): UnionError {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const message =
    code === 'EADDRINUSE'
      ? `port ${port} of 127.0.0.1 is in use; end the program that listens there, or choose another port (0 takes a free one)`
      : `cannot listen on port ${port} of 127.0.0.1: ${messageOf(error)}; choose another port (0 takes a free one)`;
  return new UnionError('FAILED_PRECONDITION', message, { cause: error });
}

async function answer(
  options: ApiServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
  closing: AbortSignal,
): Promise<void> {
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  // A client that goes away is not worth a word.
  response.on('error', () => gone.abort());
  const startedAt = Date.now();
  try {
    checkOrigin(request);
    await dispatch(options, exchangeOf(request, response), AbortSignal.any([closing, gone.signal]));
  } catch (error) {
    if (!(error instanceof StoreError) && !gone.signal.aborted)
      options.log.error('request-failed', { method: request.method, url: request.url, error: messageOf(error) });
    const status = statusOf(error);
    if (response.headersSent) response.destroy();
    else sendJson(response, status.code, status);
  }
  const ms = Date.now() - startedAt;
  options.log.debug('request', { method: request.method, url: request.url, code: response.statusCode, ms });
}

function exchangeOf(request: IncomingMessage, response: ServerResponse): Exchange {
  const url = URL.parse(request.url ?? '/', 'http://127.0.0.1');
  if (!url) throw badRequest(`${JSON.stringify(request.url)} is not a path`);
  return { request, response, path: url.pathname, query: url.searchParams };
}

async function dispatch(options: ApiServerOptions, exchange: Exchange, signal: AbortSignal): Promise<void> {
  const route = resourceRoute(options.store.kinds, exchange.path);
  if (route) return await onResource(options, route, exchange, signal);
  if (exchange.request.method !== 'GET') throw notServed();
  onDocument(options.store, exchange);
}

function notServed(): StoreError {
  return new StoreError(404, 'NotFound', 'the server could not find the requested resource');
}

async function onResource(
  { store, readLog, log }: ApiServerOptions,
  route: ResourceRoute,
  exchange: Exchange,
  signal: AbortSignal,
): Promise<void> {
  const { method } = exchange.request;
  const watch = exchange.query.get('watch');
  if (method === 'GET' && (watch === 'true' || watch === '1')) return watchObjects(store, route, exchange, log, signal);
  const { name, subresource } = route;
  if (name === undefined) {
    if (method === 'GET') return listObjects(store, route, exchange);
    if (method === 'POST') return await createObject(store, route, exchange);
    if (method === 'DELETE') return await deleteObjects(store, route, exchange);
    throw methodNotAllowed();
  }
  const named: NamedRoute = { ...route, name };
  if (method === 'GET' && subresource === 'log') return await sendLog(store, named, exchange, readLog, signal);
  if (method === 'GET' && subresource === 'proxy') return await proxyToPod(store, named, exchange, signal);
  if (subresource === 'log' || subresource === 'proxy') throw methodNotAllowed();
  if (method === 'GET') return getObject(store, named, exchange);
  if (method === 'PUT') return await updateObject(store, named, exchange);
  if (method === 'PATCH') return await patchObject(store, named, exchange);
  if (method === 'DELETE' && subresource === undefined) return await deleteObject(store, named, exchange);
  throw methodNotAllowed();
}

function methodNotAllowed(): StoreError {
  return new StoreError(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource');
}

function onDocument(store: Store, { request, response, path }: Exchange): void {
  if (['/healthz', '/livez', '/readyz'].includes(path)) {
    response.writeHead(200, { 'Content-Type': 'text/plain; charset=utf-8' });
    response.end('ok');
    return;
  }
  if (path === '/openapi/v2' && (request.headers.accept ?? '').includes('proto-openapi')) {
    response.writeHead(200, { 'Content-Type': 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf' });
    response.end(openApiV2Protobuf());
    return;
  }
  const document =
    path === '/openapi/v2'
      ? OPENAPI_V2
      : path === '/openapi/v3'
        ? openApiIndex(store.kinds)
        : path.startsWith('/openapi/v3/')
          ? openApiDocument(store.kinds, path.slice('/openapi/v3/'.length))
          : discoveryDocument(store.kinds, path);
  if (document === undefined) throw notServed();
  sendJson(response, 200, document);
}
