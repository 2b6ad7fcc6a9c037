/** GET …/pods/NAME:PORT/proxy/PATH: what the pod itself answers on that port of its address. */
import { request } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { messageOf } from '../../base/errors.ts';
import type { Exchange } from './http.ts';
import { pods } from './kinds.ts';
import { textAt } from './objects.ts';
import { objectKey, type Store } from './store.ts';
import { badRequest, notFound, StoreError } from './store-error.ts';
import type { NamedRoute } from './write-handlers.ts';

/** A pod that says nothing for so long is given up. */
const SILENCE_LIMIT_MS = 10_000;

export async function proxyToPod(
  store: Store,
  { info, namespace = '', name: written, proxyPath = '/' }: NamedRoute,
  { response, query }: Exchange,
  signal: AbortSignal,
): Promise<void> {
  const [name = '', port = '80'] = written.split(':');
  if (!/^\d{1,5}$/.test(port)) throw badRequest(`port "${port}" of pod ${name} is not a number`);
  const pod = store.objects(pods).get(objectKey(info, { namespace, name }));
  if (!pod) throw notFound(pods, name);
  const host = textAt(pod, 'status', 'podIP');
  if (!host) throw new StoreError(503, 'ServiceUnavailable', `pod ${name} has no address yet`);
  const search = query.size > 0 ? `?${query}` : '';
  await new Promise<void>((resolve, reject) => {
    const asked = request(
      { host, port, path: `${proxyPath}${search}`, signal, timeout: SILENCE_LIMIT_MS },
      (answer) => {
        const type = answer.headers['content-type'];
        response.writeHead(answer.statusCode ?? 502, { ...(type !== undefined && { 'Content-Type': type }) });
        pipeline(answer, response).then(resolve, reject);
      },
    );
    asked.once('timeout', () => asked.destroy(new Error(`no answer for ${SILENCE_LIMIT_MS} ms`)));
    asked.once('error', (error) => {
      const message = `error trying to reach pod ${name} on port ${port}: ${messageOf(error)}`;
      reject(new StoreError(503, 'ServiceUnavailable', message));
    });
    asked.end();
  });
}
