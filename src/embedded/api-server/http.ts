/** Reading requests and writing responses: JSON bodies, metav1.Status, hosts that may ask. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { messageOf } from '../../base/errors.ts';
import { decodeProtobuf, PROTOBUF_MEDIA_TYPE } from './protobuf.ts';
import { badRequest, StoreError } from './store-error.ts';

export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly path: string;
  readonly query: URLSearchParams;
}

const MAXIMUM_BODY_BYTES = 3 * 1024 * 1024;

/** The parsed body, JSON or one of the objects that kubectl sends as protobuf; undefined when there is none. */
export async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    // Read to its end in any case: a client that is still sending does not see an answer.
    if (size <= MAXIMUM_BODY_BYTES) chunks.push(chunk);
  }
  if (size > MAXIMUM_BODY_BYTES) {
    const message = `the request is larger than ${MAXIMUM_BODY_BYTES} bytes; make the object smaller`;
    throw new StoreError(413, 'RequestEntityTooLarge', message);
  }
  if (size === 0) return undefined;
  const body = Buffer.concat(chunks);
  if (request.headers['content-type'] === PROTOBUF_MEDIA_TYPE) return decodeProtobuf(body);
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw badRequest(`the body of the request is not JSON: ${messageOf(error)}`);
  }
}

export function sendJson(
  response: ServerResponse,
  code: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  const text = Buffer.from(`${JSON.stringify(body)}\n`);
  response.writeHead(code, { 'Content-Type': 'application/json', 'Content-Length': text.length, ...headers });
  response.end(text);
}

/** What a thrown value is to a client. Anything but a StoreError is our fault. */
export function statusOf(error: unknown): { readonly code: number; readonly [field: string]: unknown } {
  const known =
    error instanceof StoreError
      ? error
      : new StoreError(500, 'InternalError', `Internal error occurred: ${messageOf(error)}`);
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: known.message,
    reason: known.reason,
    details: known.details,
    code: known.code,
  };
}

/**
 * There is no authentication: whoever may open a loopback connection may do all. A web page in a browser on this machine
 * must not be able to, so requests that a page caused, or that came by a foreign name, are refused.
 */
export function checkOrigin(request: IncomingMessage): void {
  const host = (request.headers.host ?? '').replace(/:\d+$/, '');
  const isLocal = ['127.0.0.1', 'localhost', '[::1]'].includes(host);
  if (isLocal && request.headers.origin === undefined) return;
  throw new StoreError(
    403,
    'Forbidden',
    'only programs on this machine may ask; use the server by its address 127.0.0.1',
  );
}
