/**
 * Sockets that were accepted, with bytes that the kernel puts where a ByteInput wants them, and not in buffers of 64 KiB of
 * which large portions have to be put together. Node has this for sockets that it makes itself (the option `onread`), so another
 * one is made of the handle that was accepted; the first one stays behind, empty, as what the server counts.
 * Source: Node's lib/net.js, onconnection.
 */
import { Socket } from 'node:net';
import { ByteInput } from './byte-input.ts';
import { errnoCode, SO_SNDBUF, SO_SNDBUFFORCE, SOL_SOCKET, setsockopt } from './syscalls.ts';

/** A long answer is sent at once, and not piece by piece whenever this process gets to it. */
const SEND_BYTES = 2 * 1024 ** 2;

/** A socket, and what comes out of it. */
export interface Connection {
  readonly socket: Socket;
  readonly input: ByteInput;
}

/** An accepted socket and its bytes. The server must have been made with `pauseOnConnect`. */
export function directSocket(accepted: Socket): Connection {
  const inside = accepted as unknown as { _handle: { readonly fd: number } | null };
  const handle = inside._handle;
  // Ended already, or another Node: as any other socket.
  if (!handle) return { socket: accepted, input: new ByteInput(accepted) };
  inside._handle = null;
  const input = new ByteInput();
  const onread = {
    buffer: () => input.room(),
    callback: (bytes: number, room: Uint8Array) => {
      input.arrived(bytes, room);
      return true;
    },
  };
  const options: object = { handle, onread, readable: true, writable: true };
  const socket = new Socket(options);
  input.attach(socket);
  socket.once('close', () => accepted.destroy());
  if (socket.remoteAddress === undefined) setSendBuffer(handle.fd);
  return { socket, input };
}

/** Of a unix socket: TCP sees to its own. */
function setSendBuffer(fd: number): void {
  const size = Buffer.alloc(4);
  size.writeInt32LE(SEND_BYTES);
  try {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, size, size.length);
  } catch (error) {
    if (errnoCode(error) !== 'EPERM') throw error;
    // As much as everybody may have.
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, size, size.length);
  }
}
