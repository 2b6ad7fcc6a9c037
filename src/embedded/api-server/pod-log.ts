/** GET …/pods/NAME/log: which container, then whatever the injected reader gives. */
import { once } from 'node:events';
import type { Exchange } from './http.ts';
import { pods } from './kinds.ts';
import { arrayAt, textAt } from './objects.ts';
import { numberOf } from './read-handlers.ts';
import { objectKey, type Store } from './store.ts';
import { badRequest, notFound } from './store-error.ts';
import type { NamedRoute } from './write-handlers.ts';

export interface LogRequest {
  readonly namespace: string;
  readonly pod: string;
  readonly podUid: string;
  readonly node: string;
  readonly container: string;
  /** Go on as the container writes, until it ends. */
  readonly follow: boolean;
  /** Of the container's run before this one. */
  readonly previous: boolean;
  readonly timestamps: boolean;
  /** Only the last lines; absent: all. */
  readonly tailLines?: number;
}

/** Throws before its first chunk what the client is to see. */
export type ReadLog = (request: LogRequest, signal: AbortSignal) => AsyncIterable<string | Uint8Array>;

export async function sendLog(
  store: Store,
  route: NamedRoute,
  { response, query }: Exchange,
  readLog: ReadLog,
  signal: AbortSignal,
): Promise<void> {
  const { info, namespace = '', name } = route;
  const pod = store.objects(pods).get(objectKey(info, { namespace, name }));
  if (!pod) throw notFound(pods, name);
  const node = textAt(pod, 'spec', 'nodeName');
  if (!node) throw badRequest(`pod ${name} does not have a host assigned`);
  const names = arrayAt(pod, 'spec', 'containers').map((container) => textAt(container, 'name') ?? '');
  const container = chosenContainer(name, names, query.get('container') ?? undefined);
  const tailLines = numberOf(query, 'tailLines');
  const chunks = readLog(
    {
      namespace,
      pod: name,
      podUid: pod.metadata.uid,
      node,
      container,
      follow: query.get('follow') === 'true',
      previous: query.get('previous') === 'true',
      timestamps: query.get('timestamps') === 'true',
      ...(tailLines !== undefined && { tailLines }),
    },
    signal,
  );
  const iterator = chunks[Symbol.asyncIterator]();
  try {
    let next = await iterator.next();
    response.writeHead(200, { 'Content-Type': 'text/plain' });
    response.flushHeaders();
    for (; !next.done && !signal.aborted; next = await iterator.next())
      if (!response.write(next.value)) await once(response, 'drain', { signal });
    response.end();
  } finally {
    await iterator.return?.();
  }
}

function chosenContainer(pod: string, names: readonly string[], asked: string | undefined): string {
  if (asked === undefined && names.length === 1) return names[0]!;
  const choice = `choose one of: [${names.join(' ')}]`;
  if (asked === undefined) throw badRequest(`a container name must be specified for pod ${pod}, ${choice}`);
  if (!names.includes(asked)) throw badRequest(`container ${asked} is not valid for pod ${pod}; ${choice}`);
  return asked;
}
