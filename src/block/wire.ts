/**
 * Messages between replicas as bytes. A frame: length of what follows the first eight bytes, CRC-32 of that, then kind, volume,
 * epoch, and what the kind has; data come last. All integers are little-endian. Byte layout: README.md, "Frames".
 * Whatever does not decode is dropped with its connection: nothing half understood is ever acted upon.
 */
import { crc32 } from '@node-rs/crc32';
import { assertNever } from '../base/assert.ts';
import type { Message, PeerStatus } from './messages.ts';
import { type Epoch, type Point, toEpoch, toLsn } from './units.ts';

export const FRAME_HEADER_BYTES = 8;
/** A batch of the largest size and what goes with it. */
export const MAX_FRAME_BYTES = 8 * 1024 ** 2;

const KINDS = ['hello', 'append', 'status', 'nack', 'reset', 'base', 'seal'] as const;

/** In parts, so that data are not copied. */
export function encodeFrame(volume: string, message: Message): readonly Uint8Array[] {
  const writer = new Writer();
  writer.u8(KINDS.indexOf(message.kind)).hex(volume).u64(message.epoch);
  const data = writeBody(writer, message);
  const body = writer.bytes;
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUInt32LE(
    data.reduce((sum, part) => sum + part.length, body.length),
    0,
  );
  header.writeUInt32LE(
    data.reduce((crc, part) => crc32(part, crc), crc32(body)),
    4,
  );
  return [header, body, ...data];
}

function writeBody(writer: Writer, message: Message): readonly Uint8Array[] {
  switch (message.kind) {
    case 'hello':
      writer.f64(message.beat).point(message.committed);
      return [];
    case 'append':
      writer.point(message.committed);
      return message.parts;
    case 'status':
      writer.flag(message.beat !== undefined).f64(message.beat ?? 0);
      writeStatus(writer, message.status);
      return [];
    case 'nack':
      return [];
    case 'reset':
      writer.u32(message.session).point(message.start).u32(message.blocks);
      writer.flag(message.seen.usable).point(message.seen.durable);
      return [];
    case 'base':
      writer.u32(message.session).u32(message.index).u32(message.lba).u32(message.blocks);
      writer.flag(message.data !== undefined);
      return message.data ? [message.data] : [];
    case 'seal':
      writer.u32(message.session).u32(message.count);
      return [];
    default:
      return assertNever(message);
  }
}

function writeStatus(writer: Writer, { usable, intact, durable, committed, rebuild }: PeerStatus): void {
  writer.flag(usable).flag(intact).point(durable).point(committed);
  writer
    .flag(rebuild !== undefined)
    .u32(rebuild?.session ?? 0)
    .u32(rebuild?.received ?? 0);
}

/** How long the rest of a frame is; undefined when it cannot be one. */
export function frameLength(header: Buffer): number | undefined {
  const length = header.readUInt32LE(0);
  return length <= MAX_FRAME_BYTES ? length : undefined;
}

/** The message of a frame for that volume; undefined when it is none. `body` belongs to the message from here on. */
export function decodeFrame(volume: string, header: Buffer, body: Buffer): Message | undefined {
  if (header.readUInt32LE(4) !== crc32(body)) return undefined;
  const reader = new Reader(body);
  const kind = KINDS[reader.u8()];
  if (kind === undefined || reader.hex() !== volume) return undefined;
  const message = readBody(reader, kind, toEpoch(reader.u64()));
  return reader.isComplete ? message : undefined;
}

function readBody(reader: Reader, kind: Message['kind'], epoch: Epoch): Message {
  switch (kind) {
    case 'hello':
      return { kind, epoch, beat: reader.f64(), committed: reader.point() };
    case 'append':
      return { kind, epoch, committed: reader.point(), parts: [reader.rest()] };
    case 'status': {
      const [answers, beat] = [reader.flag(), reader.f64()];
      return { kind, epoch, beat: answers ? beat : undefined, status: readStatus(reader) };
    }
    case 'nack':
      return { kind, epoch };
    case 'reset': {
      const [session, start, blocks] = [reader.u32(), reader.point(), reader.u32()];
      return { kind, epoch, session, start, blocks, seen: { usable: reader.flag(), durable: reader.point() } };
    }
    case 'base': {
      const [session, index, lba, blocks] = [reader.u32(), reader.u32(), reader.u32(), reader.u32()];
      return { kind, epoch, session, index, lba, blocks, data: reader.flag() ? reader.rest() : undefined };
    }
    case 'seal':
      return { kind, epoch, session: reader.u32(), count: reader.u32() };
    default:
      return assertNever(kind);
  }
}

function readStatus(reader: Reader): PeerStatus {
  const [usable, intact, durable, committed] = [reader.flag(), reader.flag(), reader.point(), reader.point()];
  const [rebuilding, session, received] = [reader.flag(), reader.u32(), reader.u32()];
  return { usable, intact, durable, committed, rebuild: rebuilding ? { session, received } : undefined };
}

const LONGEST_BODY = 160;
const UUID_BYTES = 16;

class Writer {
  readonly #buffer = Buffer.alloc(LONGEST_BODY);
  #at = 0;

  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#at);
  }

  u8(value: number): this {
    this.#at = this.#buffer.writeUInt8(value, this.#at);
    return this;
  }

  u32(value: number): this {
    this.#at = this.#buffer.writeUInt32LE(value, this.#at);
    return this;
  }

  u64(value: bigint): this {
    this.#at = this.#buffer.writeBigUInt64LE(value, this.#at);
    return this;
  }

  f64(value: number): this {
    this.#at = this.#buffer.writeDoubleLE(value, this.#at);
    return this;
  }

  flag(value: boolean): this {
    return this.u8(value ? 1 : 0);
  }

  hex(value: string): this {
    this.#at += this.#buffer.write(value, this.#at, UUID_BYTES, 'hex');
    return this;
  }

  point({ lsn, epoch, hash }: Point): this {
    return this.u64(lsn).u64(epoch).hex(hash);
  }
}

/** Reads past the end give zeros, and the whole counts for nothing then. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isComplete(): boolean {
    return this.#at === this.#bytes.length;
  }

  #take(length: number): number | undefined {
    const at = this.#at;
    this.#at += length;
    return this.#at <= this.#bytes.length ? at : undefined;
  }

  u8(): number {
    const at = this.#take(1);
    return at === undefined ? 0 : this.#bytes.readUInt8(at);
  }

  u32(): number {
    const at = this.#take(4);
    return at === undefined ? 0 : this.#bytes.readUInt32LE(at);
  }

  u64(): bigint {
    const at = this.#take(8);
    return at === undefined ? 0n : this.#bytes.readBigUInt64LE(at);
  }

  f64(): number {
    const at = this.#take(8);
    return at === undefined ? 0 : this.#bytes.readDoubleLE(at);
  }

  flag(): boolean {
    return this.u8() === 1;
  }

  hex(): string {
    const at = this.#take(UUID_BYTES);
    return at === undefined ? '' : this.#bytes.toString('hex', at, at + UUID_BYTES);
  }

  point(): Point {
    const [lsn, epoch] = [toLsn(this.u64()), toEpoch(this.u64())];
    return { lsn, epoch, hash: this.hex() };
  }

  rest(): Uint8Array {
    const rest = this.#bytes.subarray(Math.min(this.#at, this.#bytes.length));
    this.#at += rest.length;
    return rest;
  }
}
