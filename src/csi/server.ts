/**
 * A gRPC server on a unix socket, for CSI services and kubelet's plugin registration.
 * The listening socket is our own, each connection handed to grpc-js: so a stale socket file is told from a live one,
 * only root may connect, and clients whose `:authority` Node's HTTP/2 would refuse are answered (authority.ts).
 */
import { chmodSync, lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server as NetServer, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { Duplex } from 'node:stream';
import { Server, ServerCredentials, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js';
import type { MethodDefinition } from '@grpc/proto-loader';
import { UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { AuthorityMender } from './authority.ts';
import { type Handler, type RpcMeasurement, surround } from './interceptors.ts';

/** How long calls under way may take to end once the server stops; their signals are aborted at once. */
const SHUTDOWN_MS = 2_000;
/** sun_path, without its final zero. */
const MAX_SOCKET_PATH = 107;

/** Leaves out the index signature that every ServiceDefinition has. */
type Named<Key> = string extends Key ? never : number extends Key ? never : Key;

/** Handlers of a service's methods, typed from its generated definition; a missing one answers UNIMPLEMENTED. */
export type Handlers<Definition> = {
  readonly [Method in keyof Definition as Named<Method>]?: Definition[Method] extends MethodDefinition<
    infer _In,
    infer Response,
    infer Request,
    infer _Out
  >
    ? Handler<Request, Response>
    : never;
};

/** A service and its handlers, made by `implement`. */
export interface Implementation {
  readonly definition: ServiceDefinition;
  readonly handlers: Readonly<Record<string, Handler<never, unknown> | undefined>>;
}

/** Pairs a service definition, such as `loadCsi().Node.service`, with handlers of its types. */
export function implement<Definition extends ServiceDefinition>(
  definition: Definition,
  handlers: Handlers<Definition>,
): Implementation {
  return { definition, handlers: handlers as Implementation['handlers'] };
}

export interface CsiServerOptions {
  /** `unix:///path/to.sock`, or the path alone. */
  readonly endpoint: string;
  readonly services: readonly Implementation[];
  readonly log: Logger;
  readonly measure?: (measurement: RpcMeasurement) => void;
}

export interface CsiServer {
  readonly socketPath: string;
  /** Resolves when the server has stopped, after its signal aborted: calls ended, connections closed, socket gone. */
  readonly stopped: Promise<void>;
}

/** Listens until the signal aborts. Resolves when clients can connect; throws FAILED_PRECONDITION when it cannot. */
export async function startCsiServer(options: CsiServerOptions, signal: AbortSignal): Promise<CsiServer> {
  const { services, log, measure } = options;
  signal.throwIfAborted();
  const socketPath = parseEndpoint(options.endpoint);
  await clearStale(socketPath);

  const server = new Server({ 'grpc.enable_channelz': 0 });
  for (const { definition, handlers } of services) {
    const wrapped: UntypedServiceImplementation = {};
    for (const [method, handler] of Object.entries(handlers)) {
      if (handler !== undefined) {
        wrapped[method] = surround(method, handler as Handler<object, unknown>, {
          log,
          signal,
          ...(measure && { measure }),
        });
      }
    }
    server.addService(definition, wrapped);
  }
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const connections = new Set<Socket>();
  const listener = createServer((socket) => {
    connections.add(socket);
    socket.on('close', () => connections.delete(socket));
    injector.injectConnection(mended(socket));
  });
  await listen(listener, socketPath);
  log.info('csi.listening', { socket: socketPath });

  const stopped = new Promise<void>((resolve) => {
    const stop = () => void shutDown({ listener, server, connections }).then(resolve);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
  return { socketPath, stopped };
}

/** The connection as HTTP/2 should see it: what is read is mended, what is written goes straight out. */
function mended(socket: Socket): Duplex {
  const readable = socket.pipe(new AuthorityMender());
  const duplex = Duplex.from({ readable, writable: socket });
  socket.on('error', (error) => duplex.destroy(error));
  socket.on('close', () => duplex.destroy());
  // Broken connections are the clients' affair; grpc-js ends their calls.
  duplex.on('error', () => socket.destroy());
  duplex.on('close', () => socket.destroy());
  return duplex;
}

async function shutDown(parts: {
  listener: NetServer;
  server: Server;
  connections: ReadonlySet<Socket>;
}): Promise<void> {
  const { listener, server, connections } = parts;
  const closed = new Promise((resolve) => listener.close(resolve));
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, SHUTDOWN_MS);
    server.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
  });
  for (const socket of connections) socket.destroy();
  await closed;
}

function parseEndpoint(endpoint: string): string {
  const path = endpoint.replace(/^unix:(\/\/)?/, '');
  if (!path.startsWith('/')) {
    throw new UnionError(
      'FAILED_PRECONDITION',
      `endpoint "${endpoint}" is not a unix socket; write unix:///path/to.sock`,
    );
  }
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    const message = `socket path ${path} is longer than ${MAX_SOCKET_PATH} bytes; use a shorter directory`;
    throw new UnionError('FAILED_PRECONDITION', message);
  }
  return path;
}

/** Removes the socket that a process before us left behind; refuses one that still answers, and what is no socket. */
async function clearStale(path: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new UnionError(
      'FAILED_PRECONDITION',
      `${path} exists and is not a socket; remove it or choose another endpoint`,
    );
  }
  if (await answers(path)) {
    const message = `socket ${path} is in use by another process; stop it or choose another endpoint`;
    throw new UnionError('FAILED_PRECONDITION', message);
  }
  unlinkSync(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => end(true));
    // EAGAIN is a live listener whose backlog is full; ECONNREFUSED is nobody.
    socket.once('error', (error: NodeJS.ErrnoException) => end(error.code === 'EAGAIN'));
  });
}

function listen(listener: NetServer, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    listener.once('error', (error) => {
      reject(new UnionError('FAILED_PRECONDITION', `cannot listen on ${path}: ${error.message}`, { cause: error }));
    });
    listener.listen(path, resolve);
    // The file is there as soon as listen() returns: nobody but root gets to connect in between.
    if (listener.listening) chmodSync(path, 0o600);
  });
}
