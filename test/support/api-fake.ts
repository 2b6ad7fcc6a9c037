/** An HTTP server whose answers a test writes one by one: for what a real API server does on bad days. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createKubeClient, type KubeClient } from '../../src/kubernetes/client.ts';

export interface ScriptedCall {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  readonly response: ServerResponse;
}

export interface ScriptedApi {
  readonly client: KubeClient;
  /** Every call so far, oldest first. */
  readonly calls: ScriptedCall[];
  close(): Promise<void>;
}

/** `answer` is called for every request; it may keep the response to write to later. */
export async function startScriptedApi(answer: (call: ScriptedCall, index: number) => void): Promise<ScriptedApi> {
  const calls: ScriptedCall[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const url = new URL(request.url!, 'http://127.0.0.1');
      const call = {
        ...{ method: request.method!, path: url.pathname, query: url.searchParams, headers: request.headers, response },
        body: Buffer.concat(chunks).toString(),
      };
      calls.push(call);
      answer(call, calls.length - 1);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const client = createKubeClient({
    server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    tls: {},
    authorization: async () => 'Bearer secret',
  });
  return {
    client,
    calls,
    async close() {
      client.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

/** Sends the head of a watch, and each event as a line; leaves it open. */
export function watchEvents(response: ServerResponse, ...events: unknown[]): void {
  if (!response.headersSent) response.writeHead(200, { 'content-type': 'application/json' });
  response.flushHeaders();
  for (const event of events) response.write(`${JSON.stringify(event)}\n`);
}
