/**
 * Makes gRPC clients that name the socket path, or nothing, as `:authority` understandable to Node's HTTP/2.
 * nghttp2 resets such a request before any JavaScript sees it, so the bytes are mended on their way in: in every header
 * block the literal value of `:authority` becomes "u". Nothing here reads the authority. A shorter value keeps both HPACK
 * tables in step: the receiver's may then only hold entries longer than the sender believes.
 * Frames: RFC 9113 sections 4.1 and 6.2; header blocks: RFC 7541 sections 5 and 6.
 */
import { Transform, type TransformCallback } from 'node:stream';

/** The client's first bytes, before its first frame: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n". */
const PREFACE_LENGTH = 24;
const FRAME_HEADER_LENGTH = 9;
const TYPE_HEADERS = 1;
const FLAG_PADDED = 0x08;
const FLAG_PRIORITY = 0x20;
/** Of `:authority` in the static table. */
const AUTHORITY_INDEX = 1;
/** The entry of the static table as a whole: `:authority` with an empty value. */
const EMPTY_AUTHORITY = 0x80 | AUTHORITY_INDEX;
/** A string literal without Huffman coding: its length, then "u". */
const REPLACEMENT = Buffer.from([1, 0x75]);
/** The same with its name, not to be kept in the table. */
const REPLACEMENT_FIELD = Buffer.from([AUTHORITY_INDEX, 1, 0x75]);

/** Passes a client's side of an HTTP/2 connection through, with its authorities replaced. */
export class AuthorityMender extends Transform {
  #pending: Buffer = Buffer.alloc(0);
  #prefaceLeft = PREFACE_LENGTH;

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    let data = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    if (this.#prefaceLeft > 0) {
      const preface = data.subarray(0, this.#prefaceLeft);
      this.push(preface);
      this.#prefaceLeft -= preface.length;
      data = data.subarray(preface.length);
    }
    while (data.length >= FRAME_HEADER_LENGTH) {
      const end = FRAME_HEADER_LENGTH + data.readUIntBE(0, 3);
      // Other frames need not be whole to be passed on, but frames are small and this is simpler.
      if (data.length < end) break;
      const frame = data.subarray(0, end);
      this.push(frame[3] === TYPE_HEADERS ? mendHeaders(frame) : frame);
      data = data.subarray(end);
    }
    this.#pending = data;
    done();
  }
}

/** A HEADERS frame with its authority replaced; the frame itself when it has none, or is not well formed. */
export function mendHeaders(frame: Buffer): Buffer {
  const flags = frame[4]!;
  const padding = flags & FLAG_PADDED ? frame[FRAME_HEADER_LENGTH]! : 0;
  const start = FRAME_HEADER_LENGTH + (flags & FLAG_PADDED ? 1 : 0) + (flags & FLAG_PRIORITY ? 5 : 0);
  const value = findAuthority(frame.subarray(0, frame.length - padding), start);
  if (value === undefined) return frame;
  const replacement = value.isWholeField ? REPLACEMENT_FIELD : REPLACEMENT;
  const mended = Buffer.concat([frame.subarray(0, value.start), replacement, frame.subarray(value.end)]);
  mended.writeUIntBE(mended.length - FRAME_HEADER_LENGTH, 0, 3);
  return mended;
}

/** Where the literal value of `:authority` lies, its length included, or the whole field when it has no literal. */
function findAuthority(
  block: Buffer,
  start: number,
): { start: number; end: number; isWholeField: boolean } | undefined {
  let at = start;
  while (at < block.length) {
    const first = block[at]!;
    if (first === EMPTY_AUTHORITY) return { start: at, end: at + 1, isWholeField: true };
    if (first & 0x80) {
      // Indexed: name and value are in a table, and were mended when they came to it.
      const index = readInteger(block, at, 7);
      if (index === undefined) return undefined;
      at = index.end;
      continue;
    }
    const isTableSize = (first & 0xe0) === 0x20;
    const name = readInteger(block, at, first & 0x40 ? 6 : isTableSize ? 5 : 4);
    if (name === undefined) return undefined;
    at = name.end;
    if (isTableSize) continue;
    if (name.value === 0) {
      const literalName = stringEnd(block, at);
      if (literalName === undefined) return undefined;
      at = literalName;
    }
    const end = stringEnd(block, at);
    if (end === undefined) return undefined;
    if (name.value === AUTHORITY_INDEX) return { start: at, end, isWholeField: false };
    at = end;
  }
  return undefined;
}

function stringEnd(block: Buffer, at: number): number | undefined {
  const length = readInteger(block, at, 7);
  if (length === undefined) return undefined;
  const end = length.end + length.value;
  return end > block.length ? undefined : end;
}

/** An HPACK integer whose first byte has `prefixBits` for it; undefined when it is cut off or absurdly long. */
function readInteger(block: Buffer, at: number, prefixBits: number): { value: number; end: number } | undefined {
  if (at >= block.length) return undefined;
  const mask = (1 << prefixBits) - 1;
  let value = block[at]! & mask;
  if (value < mask) return { value, end: at + 1 };
  for (let i = 1; i <= 4; i++) {
    const byte = block[at + i];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * 2 ** (7 * (i - 1));
    if ((byte & 0x80) === 0) return { value, end: at + i + 1 };
  }
  return undefined;
}
