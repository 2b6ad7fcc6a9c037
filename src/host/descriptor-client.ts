/** One request to a descriptor server (descriptor-server.ts) over a connection of its own, with descriptors if given. */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { messageOf, UnionError } from '../base/errors.ts';
import { receiveMessage, sendMessage } from './descriptor-message.ts';
import { MAX_LINE_BYTES } from './descriptor-server.ts';
import { withSocketAddress } from './socket-address.ts';
import { AF_UNIX, connect, POLLIN, poll, SOCK_NONBLOCK_CLOEXEC, SOCK_STREAM, socket } from './syscalls.ts';

export interface DescriptorCall {
  readonly path: string;
  readonly message: unknown;
  /** Stay open and the caller's: the server gets duplicates. */
  readonly descriptors?: readonly number[];
}

/** A connection that outlives its request, to learn when the process at its other end has ended. */
export interface HeldConnection {
  /** Resolves when that process has ended, to the last of its threads, or the connection is closed here or there. */
  readonly ended: Promise<void>;
  /** Resolves when it says anything more than it has until now; never, when it does not. */
  readonly nudged: Promise<void>;
  close(): void;
}

export interface HeldAnswer {
  readonly answer: unknown;
  readonly connection: HeldConnection;
}

/** The parsed answer. UNAVAILABLE when nobody listens or the peer ends without an answer: trying again may help. */
export async function callDescriptorServer(call: DescriptorCall, signal: AbortSignal): Promise<unknown> {
  const { answer, connection } = await holdDescriptorServer(call, signal);
  connection.close();
  return answer;
}

/** The same, and the connection, which is the caller's to close. */
export async function holdDescriptorServer(call: DescriptorCall, signal: AbortSignal): Promise<HeldAnswer> {
  signal.throwIfAborted();
  const socket = new Socket({ fd: connectAndSend(call), readable: true, writable: true });
  const abort = () => socket.destroy(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    const answer = JSON.parse(await readLine(socket, call.path));
    return { answer, connection: hold(socket) };
  } catch (error) {
    socket.destroy();
    if (signal.aborted) throw signal.reason;
    throw noAnswer(call, error);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** The same, with the descriptors that came with the answer; they are the caller's. */
export async function takeDescriptors(
  call: DescriptorCall,
  signal: AbortSignal,
): Promise<HeldAnswer & { readonly descriptors: readonly number[] }> {
  signal.throwIfAborted();
  const fd = connectAndSend(call);
  try {
    await readable(fd, signal);
    // Node's own sockets drop descriptors. The answer is short, and was sent as one.
    const buffer = Buffer.alloc(MAX_LINE_BYTES);
    const { length, descriptors } = receiveMessage(fd, buffer);
    if (length === 0) throw new Error('it ended without one');
    const answer = parseOrClose(buffer.toString('utf8', 0, length), descriptors);
    return { answer, descriptors, connection: hold(new Socket({ fd, readable: true, writable: true })) };
  } catch (error) {
    closeSync(fd);
    if (signal.aborted) throw signal.reason;
    throw noAnswer(call, error);
  }
}

function parseOrClose(text: string, descriptors: readonly number[]): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    for (const descriptor of descriptors) closeSync(descriptor);
    throw error;
  }
}

/** To be called when the answer has come. */
function hold(socket: Socket): HeldConnection {
  const ended = new Promise<void>((resolve) => {
    if (socket.closed) resolve();
    socket.on('error', () => {}).once('close', () => resolve());
  });
  let next = Promise.withResolvers<void>();
  socket
    .on('data', () => {
      next.resolve();
      next = Promise.withResolvers();
    })
    .resume();
  return {
    ended,
    get nudged() {
      return next.promise;
    },
    close: () => void socket.destroy(),
  };
}

function noAnswer({ path }: DescriptorCall, error: unknown): UnionError {
  if (error instanceof UnionError) return error;
  return new UnionError('UNAVAILABLE', `no answer from ${path}: ${messageOf(error)}`, { cause: error });
}

const POLL_ENTRY_BYTES = 8;
/** Between looks at the signal: the waiting thread is one of libuv's few. */
const POLL_MS = 100;

async function readable(fd: number, signal: AbortSignal): Promise<void> {
  const entry = Buffer.alloc(POLL_ENTRY_BYTES);
  entry.writeInt32LE(fd, 0);
  entry.writeInt16LE(POLLIN, 4);
  while ((await poll(entry, 1, POLL_MS)) === 0) signal.throwIfAborted();
}

/** Closing the connection is the receiver's business from here on. */
function connectAndSend({ path, message, descriptors }: DescriptorCall): number {
  const fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK_CLOEXEC, 0);
  try {
    withSocketAddress(path, (address) => connect(fd, address, address.length));
    const bytes = Buffer.from(`${JSON.stringify(message)}\n`);
    if (sendMessage(fd, bytes, descriptors) !== bytes.length) throw new Error('its buffer is full');
    return fd;
  } catch (error) {
    closeSync(fd);
    throw new UnionError('UNAVAILABLE', `nobody answers at ${path}: ${messageOf(error)}`, { cause: error });
  }
}

async function readLine(socket: Socket, path: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      const end = received.indexOf(0x0a);
      if (end >= 0) {
        socket.removeAllListeners('data');
        resolve(received.toString('utf8', 0, end));
      } else if (received.length > MAX_LINE_BYTES) reject(new Error(`it is longer than ${MAX_LINE_BYTES} bytes`));
    });
    socket.on('error', reject);
    socket.on('close', () =>
      reject(new UnionError('UNAVAILABLE', `the process behind ${path} ended without an answer`)),
    );
  });
}
