/**
 * What surrounds every RPC, so that handlers are plain async functions that throw UnionError: one log line, one
 * measurement, deadline and cancellation as an AbortSignal, and errors as gRPC statuses.
 */
import { type handleUnaryCall, type ServerUnaryCall, status } from '@grpc/grpc-js';
import { type ErrorCode, messageOf, UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';

export interface RpcContext {
  /** Aborts when the client cancels, its deadline passes, or the server shuts down. */
  readonly signal: AbortSignal;
  /** When the client stops waiting, in milliseconds since the epoch; Infinity when it named no deadline. */
  readonly deadline: number;
  /** Adds the method to every line. */
  readonly log: Logger;
}

export type Handler<Request, Response> = (request: Request, context: RpcContext) => Promise<Response>;

export interface RpcMeasurement {
  readonly method: string;
  readonly code: string;
  readonly seconds: number;
}

export interface Surroundings {
  readonly log: Logger;
  /** Aborts the work of every call when the server stops. */
  readonly signal: AbortSignal;
  readonly measure?: (measurement: RpcMeasurement) => void;
}

/** `method` is the bare name, such as `CreateVolume`. */
export function surround<Request extends object, Response>(
  method: string,
  handler: Handler<Request, Response>,
  { log, signal: serverSignal, measure }: Surroundings,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    const startedAt = performance.now();
    const rpcLog = log.child({ method });
    const abort = abortOf(call, serverSignal);
    const done = (code: string, fields: Record<string, unknown>) => {
      const ms = Math.round(performance.now() - startedAt);
      measure?.({ method, code, seconds: ms / 1000 });
      const level = code === 'OK' && QUIET_METHODS.has(method) ? 'debug' : (LEVELS[code as ErrorCode] ?? 'info');
      rpcLog[level]('rpc', { ...subjectOf(call.request), code, ms, ...fields });
    };
    rpcLog.debug('rpc.request', { request: redact(call.request) });
    const context = { signal: abort.signal, deadline: deadlineOf(call), log: rpcLog };
    // In a promise, so that a handler that throws before its first await is caught too.
    Promise.resolve()
      .then(() => handler(call.request, context))
      .then(
        (response) => {
          done('OK', {});
          callback(null, response);
        },
        (error: unknown) => {
          const { code, details } = toStatus(error, abort.signal);
          const isBug = !(error instanceof UnionError) && code === 'INTERNAL';
          done(code, { message: details, ...(isBug && error instanceof Error && { stack: error.stack }) });
          callback({ code: status[code], details });
        },
      )
      .finally(() => abort.release());
  };
}

/** Asked every few seconds by kubelet and sidecars; said only when they fail. */
const QUIET_METHODS: ReadonlySet<string> = new Set([
  'Probe',
  'GetPluginInfo',
  'GetPluginCapabilities',
  'ControllerGetCapabilities',
  'NodeGetCapabilities',
  'NodeGetVolumeStats',
]);

/** What our side should look at; the rest is the caller's business, or comes right by itself. */
const LEVELS: Partial<Record<ErrorCode, 'error' | 'warn'>> = { INTERNAL: 'error', FAILED_PRECONDITION: 'warn' };

/** The one mapping of errors to gRPC. What is no UnionError is a bug of ours, unless it only says that the call ended. */
export function toStatus(error: unknown, signal: AbortSignal): { code: ErrorCode; details: string } {
  if (error instanceof UnionError) return { code: error.code, details: error.message };
  if (signal.aborted) return toStatus(endOf(signal), AbortSignal.abort());
  return { code: 'INTERNAL', details: messageOf(error) };
}

function endOf(signal: AbortSignal): UnionError {
  return signal.reason instanceof UnionError
    ? signal.reason
    : new UnionError('CANCELLED', 'the call ended before its work was done; it can be repeated');
}

function abortOf(call: ServerUnaryCall<unknown, unknown>, serverSignal: AbortSignal) {
  const controller = new AbortController();
  const cancelled = () => {
    const end =
      Date.now() >= deadlineOf(call)
        ? new UnionError('DEADLINE_EXCEEDED', 'the deadline passed before the work was done; repeat the call')
        : new UnionError('CANCELLED', 'the caller cancelled before the work was done; repeat the call');
    controller.abort(end);
  };
  const stopped = () => controller.abort(new UnionError('UNAVAILABLE', 'shutting down; repeat the call'));
  call.on('cancelled', cancelled);
  serverSignal.addEventListener('abort', stopped, { once: true });
  if (serverSignal.aborted) stopped();
  return { signal: controller.signal, release: () => serverSignal.removeEventListener('abort', stopped) };
}

function deadlineOf(call: ServerUnaryCall<unknown, unknown>): number {
  const deadline = call.getDeadline();
  return typeof deadline === 'number' ? deadline : deadline.getTime();
}

/** What a call is about, for its log line. */
function subjectOf(request: object): Record<string, unknown> {
  const subject: Record<string, unknown> = {};
  for (const key of ['name', 'volumeId', 'nodeId', 'stagingTargetPath', 'targetPath', 'volumePath']) {
    const value = (request as Record<string, unknown>)[key];
    if (typeof value === 'string' && value !== '') subject[key] = value;
  }
  return subject;
}

/**
 * A request without what the specification marks as secret: the fields that csi.proto gives csi_secret, all of which are
 * called `secrets`, and mount flags.
 */
export function redact(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(redact);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, SECRET_FIELDS.has(key) ? '(redacted)' : redact(inner)]),
  );
}

const SECRET_FIELDS: ReadonlySet<string> = new Set(['secrets', 'mountFlags']);
