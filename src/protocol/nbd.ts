/**
 * The Network Block Device protocol: numbers and bytes. All integers are big-endian.
 * Source: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
 */

export const NBD_MAGIC = 0x4e42444d41474943n; // "NBDMAGIC"
export const OPTION_MAGIC = 0x49484156454f5054n; // "IHAVEOPT"
const OPTION_REPLY_MAGIC = 0x3e889045565a9n;
export const REQUEST_MAGIC = 0x25609513;
const SIMPLE_REPLY_MAGIC = 0x67446698;
const STRUCTURED_REPLY_MAGIC = 0x668e33ef;

export const handshakeFlags = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const option = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

export const optionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  unsupported: 0x80000001,
  policy: 0x80000002,
  invalid: 0x80000003,
  tlsRequired: 0x80000005,
  unknown: 0x80000006,
  shutdown: 0x80000007,
  tooBig: 0x80000009,
} as const;

export const info = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const transmissionFlags = {
  hasFlags: 1,
  sendFlush: 4,
  sendFua: 8,
  sendTrim: 32,
  sendWriteZeroes: 64,
  sendDf: 128,
  canMultiConnection: 256,
  sendCache: 1024,
  sendFastZero: 2048,
} as const;

export const command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const commandFlags = { fua: 1, noHole: 2, dontFragment: 4, requestOne: 8, fastZero: 16 } as const;

export const nbdError = { io: 5, invalid: 22, noSpace: 28, overflow: 75, shutdown: 108 } as const;

export const BASE_ALLOCATION = 'base:allocation';
/** Bits of a block status in the context base:allocation. */
export const allocation = { data: 0, holeAndZero: 3 } as const;

const chunk = { none: 0, offsetData: 1, blockStatus: 5, error: 0x8001 } as const;
const DONE = 1;

export interface NbdRequest {
  readonly flags: number;
  readonly type: number;
  /** Eight bytes that come back in the reply. */
  readonly cookie: bigint;
  readonly offset: number;
  readonly length: number;
}

export const REQUEST_LENGTH = 28;

/** Undefined when it is no request: the stream is out of step and must be closed. */
export function decodeRequest(bytes: Buffer): NbdRequest | undefined {
  if (bytes.readUInt32BE(0) !== REQUEST_MAGIC) return undefined;
  return {
    flags: bytes.readUInt16BE(4),
    type: bytes.readUInt16BE(6),
    cookie: bytes.readBigUInt64BE(8),
    // Beyond 2^53 it is out of range, and stays so when it is rounded.
    offset: Number(bytes.readBigUInt64BE(16)),
    length: bytes.readUInt32BE(24),
  };
}

export function encodeGreeting(): Buffer {
  const bytes = Buffer.alloc(18);
  bytes.writeBigUInt64BE(NBD_MAGIC, 0);
  bytes.writeBigUInt64BE(OPTION_MAGIC, 8);
  bytes.writeUInt16BE(handshakeFlags.fixedNewstyle | handshakeFlags.noZeroes, 16);
  return bytes;
}

export function encodeOptionReply(asked: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(20);
  header.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
  header.writeUInt32BE(asked, 8);
  header.writeUInt32BE(type, 12);
  header.writeUInt32BE(data.length, 16);
  return Buffer.concat([header, data]);
}

/** The end of a handshake by NBD_OPT_EXPORT_NAME, the oldest way. */
export function encodeExport(sizeBytes: number, flags: number, zeroes: boolean): Buffer {
  const bytes = Buffer.alloc(zeroes ? 134 : 10);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 0);
  bytes.writeUInt16BE(flags, 8);
  return bytes;
}

export function encodeInfoExport(sizeBytes: number, flags: number): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt16BE(info.export, 0);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 2);
  bytes.writeUInt16BE(flags, 10);
  return bytes;
}

export function encodeInfoBlockSize(sizes: { minimum: number; preferred: number; maximum: number }): Buffer {
  const bytes = Buffer.alloc(14);
  bytes.writeUInt16BE(info.blockSize, 0);
  bytes.writeUInt32BE(sizes.minimum, 2);
  bytes.writeUInt32BE(sizes.preferred, 6);
  bytes.writeUInt32BE(sizes.maximum, 10);
  return bytes;
}

export function encodeInfoText(type: number, text: string): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(2), Buffer.from(text)]);
  bytes.writeUInt16BE(type, 0);
  return bytes;
}

/** A 32-bit number, then text: a name with its length, a metadata context with its id. */
export function encodeNumberAndText(number: number, text: string): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(4), Buffer.from(text)]);
  bytes.writeUInt32BE(number, 0);
  return bytes;
}

/** `error` 0 is success; of a read the data follow. */
export function encodeSimpleReply(cookie: bigint, error: number): Buffer {
  const bytes = Buffer.allocUnsafe(16);
  bytes.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0);
  bytes.writeUInt32BE(error, 4);
  bytes.writeBigUInt64BE(cookie, 8);
  return bytes;
}

function chunkHeader(cookie: bigint, type: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(20);
  bytes.writeUInt32BE(STRUCTURED_REPLY_MAGIC, 0);
  bytes.writeUInt16BE(DONE, 4);
  bytes.writeUInt16BE(type, 6);
  bytes.writeBigUInt64BE(cookie, 8);
  bytes.writeUInt32BE(length, 16);
  return bytes;
}

/** The only chunk of a reply without content. */
export function encodeDone(cookie: bigint): Buffer {
  return chunkHeader(cookie, chunk.none, 0);
}

/** What comes before the data of the only chunk of a read. */
export function encodeDataHeader(cookie: bigint, offset: number, length: number): Buffer {
  const at = Buffer.allocUnsafe(8);
  at.writeBigUInt64BE(BigInt(offset), 0);
  return Buffer.concat([chunkHeader(cookie, chunk.offsetData, 8 + length), at]);
}

export function encodeError(cookie: bigint, error: number, message: string): Buffer {
  const text = Buffer.from(message);
  const body = Buffer.allocUnsafe(6);
  body.writeUInt32BE(error, 0);
  body.writeUInt16BE(text.length, 4);
  return Buffer.concat([chunkHeader(cookie, chunk.error, 6 + text.length), body, text]);
}

/** What a client says first, after the greeting. */
export function encodeClientFlags(): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(handshakeFlags.fixedNewstyle | handshakeFlags.noZeroes, 0);
  return bytes;
}

export function encodeOption(asked: number, text = ''): Buffer {
  const data = Buffer.from(text);
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64BE(OPTION_MAGIC, 0);
  bytes.writeUInt32BE(asked, 8);
  bytes.writeUInt32BE(data.length, 12);
  return Buffer.concat([bytes, data]);
}

export const GREETING_LENGTH = 18;
/** Of a reply to an option, without its data. */
export const OPTION_REPLY_LENGTH = 20;
/** The answer to NBD_OPT_EXPORT_NAME; its first eight bytes are the size. */
export const EXPORT_LENGTH = 10;

/** The type of a reply to an option; undefined when it is none. */
export function decodeOptionReply(bytes: Buffer): number | undefined {
  return bytes.readBigUInt64BE(0) === OPTION_REPLY_MAGIC ? bytes.readUInt32BE(12) : undefined;
}

export function isGreeting(bytes: Buffer): boolean {
  return bytes.readBigUInt64BE(0) === NBD_MAGIC && bytes.readBigUInt64BE(8) === OPTION_MAGIC;
}

export function encodeRequest({ flags, type, cookie, offset, length }: NbdRequest): Buffer {
  const bytes = Buffer.allocUnsafe(REQUEST_LENGTH);
  bytes.writeUInt32BE(REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(type, 6);
  bytes.writeBigUInt64BE(cookie, 8);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

export const SIMPLE_REPLY_LENGTH = 16;

/** Undefined when it is no simple reply: the stream is out of step and must be closed. */
export function decodeSimpleReply(bytes: Buffer): { readonly cookie: bigint; readonly error: number } | undefined {
  if (bytes.readUInt32BE(0) !== SIMPLE_REPLY_MAGIC) return undefined;
  return { error: bytes.readUInt32BE(4), cookie: bytes.readBigUInt64BE(8) };
}

export interface Extent {
  readonly length: number;
  readonly flags: number;
}

export function encodeBlockStatus(cookie: bigint, contextId: number, extents: readonly Extent[]): Buffer {
  const body = Buffer.allocUnsafe(4 + 8 * extents.length);
  body.writeUInt32BE(contextId, 0);
  extents.forEach(({ length, flags }, index) => {
    body.writeUInt32BE(length, 4 + 8 * index);
    body.writeUInt32BE(flags, 8 + 8 * index);
  });
  return Buffer.concat([chunkHeader(cookie, chunk.blockStatus, body.length), body]);
}
