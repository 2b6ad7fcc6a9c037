/** GET: one object, lists in pages, watches, tables of each. */
import type { Logger } from '../../base/logger.ts';
import { type Exchange, sendJson, statusOf } from './http.ts';
import { apiVersionOf, kindKey } from './kinds.ts';
import { listPage } from './list.ts';
import type { StoredObject } from './objects.ts';
import type { ResourceRoute } from './routes.ts';
import { eventOf, type Selection, selector } from './selection.ts';
import { objectKey, type Store } from './store.ts';
import { badRequest, notFound } from './store-error.ts';
import { requestedTable, type TableFormat, tableOf } from './table.ts';

export function getObject(store: Store, route: ResourceRoute & { readonly name: string }, exchange: Exchange): void {
  const { info, name } = route;
  const object = store.objects(info).get(objectKey(info, { namespace: route.namespace, name }));
  if (!object) throw notFound(info, name);
  const format = tableFormat(exchange);
  const body = format
    ? tableOf(
        info,
        format,
        { objects: [object], metadata: { resourceVersion: object.metadata.resourceVersion }, withColumns: true },
        Date.now(),
      )
    : object;
  sendJson(exchange.response, 200, body);
}

export function listObjects(store: Store, route: ResourceRoute, exchange: Exchange): void {
  const { info } = route;
  const { query } = exchange;
  const exact = query.get('resourceVersionMatch') === 'Exact' ? query.get('resourceVersion') : null;
  const page = listPage(store, info, {
    ...selectionOf(route, query),
    limit: numberOf(query, 'limit'),
    continue: query.get('continue') ?? undefined,
    exactResourceVersion: exact ?? undefined,
  });
  const { items, ...metadata } = page;
  const format = tableFormat(exchange);
  const body = format
    ? tableOf(info, format, { objects: items, metadata, withColumns: true }, Date.now())
    : { kind: `${info.kind}List`, apiVersion: apiVersionOf(info), metadata, items };
  sendJson(exchange.response, 200, body);
}

const BOOKMARK_INTERVAL_MS = 30_000;
const DEFAULT_WATCH_MS = 30 * 60_000;
/** A client that does not read is cut off here; it lists again. */
const MAXIMUM_UNREAD_BYTES = 16 * 1024 * 1024;

/** Streams events until the client goes, the time is up, or `signal` is aborted. */
export function watchObjects(
  store: Store,
  route: ResourceRoute,
  exchange: Exchange,
  log: Logger,
  signal: AbortSignal,
): void {
  const { info } = route;
  const { query, response } = exchange;
  const selects = selector(info, selectionOf(route, query));
  const lines = eventWriter(route, exchange);
  const sendsInitial = query.get('sendInitialEvents') === 'true';
  const from = query.get('resourceVersion') ?? '';
  response.writeHead(200, { 'Content-Type': 'application/json' });
  response.flushHeaders();
  let stop = () => {};
  const end = () => {
    stop();
    clearInterval(bookmarks);
    clearTimeout(timer);
    signal.removeEventListener('abort', end);
    response.end();
  };
  const bookmarks = setInterval(() => {
    if (query.get('allowWatchBookmarks') === 'true') lines.bookmark(store.resourceVersion, false);
  }, BOOKMARK_INTERVAL_MS);
  const timer = setTimeout(end, (numberOf(query, 'timeoutSeconds') ?? 0) * 1000 || DEFAULT_WATCH_MS);
  signal.addEventListener('abort', end, { once: true });
  response.on('close', end);
  try {
    const startsNow = sendsInitial || from === '' || from === '0';
    stop = store.subscribe(info, startsNow ? undefined : from, (changes) => {
      for (const change of changes) {
        const event = eventOf(change, selects);
        if (event) lines.event(event.type, event.object);
      }
      if (response.writableLength > MAXIMUM_UNREAD_BYTES) {
        log.warn('watch-too-slow', { kind: kindKey(info), unreadBytes: response.writableLength });
        response.destroy();
      }
    });
    const { resourceVersion } = store;
    // Behind the initial events, which are delivered before this.
    if (sendsInitial) queueMicrotask(() => lines.bookmark(resourceVersion, true));
  } catch (error) {
    response.write(`${JSON.stringify({ type: 'ERROR', object: statusOf(error) })}\n`);
    end();
  }
}

interface EventWriter {
  event(type: string, object: StoredObject): void;
  /** `isInitialEnd`: everything that was there at the start has been sent. */
  bookmark(resourceVersion: string, isInitialEnd: boolean): void;
}

function eventWriter({ info }: ResourceRoute, exchange: Exchange): EventWriter {
  const format = tableFormat(exchange);
  let withColumns = true;
  const write = (type: string, object: unknown) => exchange.response.write(`${JSON.stringify({ type, object })}\n`);
  return {
    event(type, object) {
      if (!format) {
        write(type, object);
        return;
      }
      const metadata = { resourceVersion: object.metadata.resourceVersion };
      write(type, tableOf(info, format, { objects: [object], metadata, withColumns }, Date.now()));
      withColumns = false;
    },
    bookmark(resourceVersion, isInitialEnd) {
      const annotations = isInitialEnd ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {};
      const metadata = { resourceVersion, creationTimestamp: null, ...annotations };
      if (format) write('BOOKMARK', tableOf(info, format, { objects: [], metadata, withColumns: false }, Date.now()));
      else write('BOOKMARK', { kind: info.kind, apiVersion: apiVersionOf(info), metadata });
    },
  };
}

export function selectionOf({ namespace, name }: ResourceRoute, query: URLSearchParams): Selection {
  const byField = query.get('fieldSelector') ?? '';
  return {
    namespace,
    labelSelector: query.get('labelSelector') ?? undefined,
    fieldSelector: name === undefined ? byField : [`metadata.name=${name}`, byField].filter(Boolean).join(','),
  };
}

export function numberOf(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^\d+$/.test(text)) throw badRequest(`${name} ${JSON.stringify(text)} is not a number`);
  return Number(text);
}

function tableFormat({ request, query }: Exchange): TableFormat | undefined {
  return requestedTable(request.headers.accept, query.get('includeObject'));
}
