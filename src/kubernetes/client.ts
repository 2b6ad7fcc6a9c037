/**
 * Plain HTTP to the API server: one request with a JSON answer, or one long answer of JSON lines (a watch).
 * Statuses are passed on as they come; only a server that cannot be reached or does not answer in time is thrown,
 * as UNAVAILABLE. An aborted signal rejects with its reason.
 */
import * as http from 'node:http';
import * as https from 'node:https';
import { messageOf, UnionError } from '../base/errors.ts';
import type { ClusterAccess } from './kubeconfig.ts';

/** A server that says nothing for so long is taken for gone. */
const IDLE_LIMIT_MS = 30_000;
/** Sockets to the API server at once; further requests wait. Watches count too. */
const MAX_SOCKETS = 32;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const MAX_LINE_CHARACTERS = 8 * 1024 * 1024;

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: unknown;
  /** Of the body; `application/json` unless told. */
  readonly contentType?: string;
}

export interface ApiResponse {
  readonly status: number;
  /** Parsed JSON, or the text of an answer that is none. */
  readonly body: unknown;
}

export interface KubeClient {
  readonly server: string;
  request(request: ApiRequest, signal: AbortSignal): Promise<ApiResponse>;
  /**
   * Yields each line of the answer, parsed. Ends when the server ends it. An answer other than 200 is thrown as
   * ApiStatusError; `idleLimitMs` without a byte as UNAVAILABLE.
   */
  lines(request: ApiRequest & { readonly idleLimitMs: number }, signal: AbortSignal): AsyncGenerator<unknown, void>;
  /** Closes idle connections; requests under way are the callers' to abort. */
  close(): void;
}

/** A watch that the server refused. */
export class ApiStatusError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.name = 'ApiStatusError';
    this.status = status;
  }
}

export function createKubeClient(access: ClusterAccess): KubeClient {
  const secure = access.server.startsWith('https:');
  const agentOptions = { keepAlive: true, keepAliveMsecs: 15_000, maxSockets: MAX_SOCKETS };
  const { ca, cert, key, serverName, insecure } = access.tls;
  const agent = secure
    ? new https.Agent({
        ...agentOptions,
        ...(ca && { ca }),
        ...(cert && { cert }),
        ...(key && { key }),
        ...(serverName !== undefined && { servername: serverName }),
        rejectUnauthorized: insecure !== true,
      })
    : new http.Agent(agentOptions);

  const open = async (request: ApiRequest, idleLimitMs: number, signal: AbortSignal): Promise<http.IncomingMessage> => {
    signal.throwIfAborted();
    const url = new URL(access.server + request.path);
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, value);
    }
    const authorization = await access.authorization();
    const body = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
    const headers: http.OutgoingHttpHeaders = {
      accept: 'application/json',
      'user-agent': 'union-csi',
      ...(authorization !== undefined && { authorization }),
      ...(body && { 'content-type': request.contentType ?? 'application/json', 'content-length': body.length }),
    };
    return new Promise((resolve, reject) => {
      const make = secure ? https.request : http.request;
      let response: http.IncomingMessage | undefined;
      const sent = make(url, { method: request.method, headers, agent, signal }, (arrived) => {
        response = arrived;
        resolve(arrived);
      });
      sent.setTimeout(idleLimitMs, () => {
        const message = `no word from the API server at ${access.server} for ${idleLimitMs} ms`;
        (response ?? sent).destroy(new UnionError('UNAVAILABLE', message));
      });
      sent.on('error', reject);
      sent.end(body);
    });
  };

  const failure = (error: unknown, signal: AbortSignal): unknown => {
    if (signal.aborted) return signal.reason;
    if (error instanceof UnionError || error instanceof ApiStatusError) return error;
    const message = `cannot reach the API server at ${access.server}: ${messageOf(error)}`;
    return new UnionError('UNAVAILABLE', message, { cause: error });
  };

  return {
    server: access.server,
    close: () => agent.destroy(),
    async request(request, signal) {
      try {
        const response = await open(request, IDLE_LIMIT_MS, signal);
        return { status: response.statusCode ?? 0, body: parseBody(await readAll(response)) };
      } catch (error) {
        throw failure(error, signal);
      }
    },
    async *lines(request, signal) {
      try {
        const response = await open(request, request.idleLimitMs, signal);
        if (response.statusCode !== 200) {
          const status = response.statusCode ?? 0;
          throw new ApiStatusError(status, statusMessage(status, parseBody(await readAll(response))));
        }
        yield* splitLines(response);
      } catch (error) {
        throw failure(error, signal);
      }
    },
  };
}

/** What an answer that is not a success says, from its Status object. */
export function statusMessage(status: number, body: unknown): string {
  const message = typeof body === 'object' && body !== null && 'message' in body ? body.message : body;
  return typeof message === 'string' && message.trim() !== '' ? message.trim() : `HTTP status ${status}`;
}

async function readAll(response: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) throw new Error(`answer is larger than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parseBody(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return body;
  }
}

async function* splitLines(response: http.IncomingMessage): AsyncGenerator<unknown, void> {
  let rest = '';
  response.setEncoding('utf8');
  for await (const chunk of response as AsyncIterable<string>) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop()!;
    if (rest.length > MAX_LINE_CHARACTERS) throw new Error(`a line is longer than ${MAX_LINE_CHARACTERS} characters`);
    for (const line of lines) if (line.trim() !== '') yield JSON.parse(line);
  }
}
