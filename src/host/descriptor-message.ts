/**
 * Bytes and file descriptors over a unix socket: sendmsg(2) and recvmsg(2) with SCM_RIGHTS.
 * Layouts are those of 64-bit Linux (struct msghdr, iovec, cmsghdr). Sockets are non-blocking: EAGAIN means later.
 */
import { closeSync } from 'node:fs';
import { addressOf, MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_NOSIGNAL, recvmsg, sendmsg } from './syscalls.ts';

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const HEADER_SIZE = 16;
/** Room for a few; the kernel drops what does not fit and sets MSG_CTRUNC. */
export const MAX_DESCRIPTORS = 8;

/** Sends `bytes` with descriptors (ours stay open); returns how many bytes were taken. Throws SystemCallError. */
export function sendMessage(socket: number, bytes: Buffer, descriptors: readonly number[] = []): number {
  const size = HEADER_SIZE + 4 * descriptors.length;
  const control = Buffer.alloc(descriptors.length === 0 ? 0 : (size + 7) & ~7);
  if (descriptors.length > 0) {
    control.writeBigUInt64LE(BigInt(size), 0);
    control.writeInt32LE(SOL_SOCKET, 8);
    control.writeInt32LE(SCM_RIGHTS, 12);
    for (const [index, each] of descriptors.entries()) control.writeInt32LE(each, HEADER_SIZE + 4 * index);
  }
  const { message, vector } = messageHeader(bytes, control);
  const sent = sendmsg(socket, message, MSG_NOSIGNAL);
  keepAlive(vector, control, bytes);
  return sent;
}

export interface Received {
  /** Bytes put into the buffer; 0 when the peer closed. */
  readonly length: number;
  /** The receiver owns them. */
  readonly descriptors: readonly number[];
}

/** Receives into `buffer`. Throws SystemCallError; EAGAIN when there is nothing yet. */
export function receiveMessage(socket: number, buffer: Buffer): Received {
  const control = Buffer.alloc(HEADER_SIZE + 4 * MAX_DESCRIPTORS);
  const { message, vector } = messageHeader(buffer, control);
  const length = recvmsg(socket, message, MSG_CMSG_CLOEXEC);
  keepAlive(vector, control, buffer);
  const descriptors = parseRights(control.subarray(0, Number(message.readBigUInt64LE(40))));
  if ((message.readInt32LE(48) & MSG_CTRUNC) !== 0) {
    for (const descriptor of descriptors) closeSync(descriptor);
    throw new Error(`more than ${MAX_DESCRIPTORS} descriptors came with one message`);
  }
  return { length, descriptors };
}

function messageHeader(bytes: Buffer, control: Buffer): { message: Buffer; vector: Buffer } {
  const vector = Buffer.alloc(16);
  vector.writeBigUInt64LE(addressOf(bytes), 0);
  vector.writeBigUInt64LE(BigInt(bytes.length), 8);
  const message = Buffer.alloc(56);
  message.writeBigUInt64LE(addressOf(vector), 16);
  message.writeBigUInt64LE(1n, 24);
  if (control.length > 0) message.writeBigUInt64LE(addressOf(control), 32);
  message.writeBigUInt64LE(BigInt(control.length), 40);
  return { message, vector };
}

function parseRights(control: Buffer): readonly number[] {
  const descriptors: number[] = [];
  for (let offset = 0; offset + HEADER_SIZE <= control.length; ) {
    const length = Number(control.readBigUInt64LE(offset));
    if (length < HEADER_SIZE) break;
    if (control.readInt32LE(offset + 8) === SOL_SOCKET && control.readInt32LE(offset + 12) === SCM_RIGHTS) {
      const end = Math.min(offset + length, control.length);
      for (let at = offset + HEADER_SIZE; at + 4 <= end; at += 4) descriptors.push(control.readInt32LE(at));
    }
    offset += (length + 7) & ~7;
  }
  return descriptors;
}

/** The kernel used these through addresses, which the garbage collector cannot see: they must be reachable until here. */
function keepAlive(...buffers: readonly Buffer[]): void {
  for (const buffer of buffers) void buffer.length;
}
