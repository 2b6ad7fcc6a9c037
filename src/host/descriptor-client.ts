/** One request to a descriptor server (descriptor-server.ts) over a connection of its own, with descriptors if given. */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { messageOf, UnionError } from '../base/errors.ts';
import { sendMessage } from './descriptor-message.ts';
import { MAX_LINE_BYTES } from './descriptor-server.ts';
import { withSocketAddress } from './socket-address.ts';
import { AF_UNIX, connect, SOCK_NONBLOCK_CLOEXEC, SOCK_STREAM, socket } from './syscalls.ts';

export interface DescriptorCall {
  readonly path: string;
  readonly message: unknown;
  /** Stay open and the caller's: the server gets duplicates. */
  readonly descriptors?: readonly number[];
}

/** The parsed answer. UNAVAILABLE when nobody listens or the peer ends without an answer: trying again may help. */
export async function callDescriptorServer(call: DescriptorCall, signal: AbortSignal): Promise<unknown> {
  signal.throwIfAborted();
  const fd = connectAndSend(call);
  const connection = new Socket({ fd, readable: true, writable: true });
  const abort = () => connection.destroy(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    const line = await readLine(connection);
    if (line === undefined) {
      throw new UnionError('UNAVAILABLE', `the process behind ${call.path} ended without an answer`);
    }
    return JSON.parse(line);
  } catch (error) {
    if (signal.aborted || error instanceof UnionError) throw error;
    throw new UnionError('UNAVAILABLE', `no answer from ${call.path}: ${messageOf(error)}`, { cause: error });
  } finally {
    signal.removeEventListener('abort', abort);
    connection.destroy();
  }
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

async function readLine(connection: Socket): Promise<string | undefined> {
  let received = Buffer.alloc(0);
  for await (const chunk of connection as AsyncIterable<Buffer>) {
    received = Buffer.concat([received, chunk]);
    const end = received.indexOf(0x0a);
    if (end >= 0) return received.toString('utf8', 0, end);
    if (received.length > MAX_LINE_BYTES) throw new Error(`its answer is longer than ${MAX_LINE_BYTES} bytes`);
  }
  return undefined;
}
