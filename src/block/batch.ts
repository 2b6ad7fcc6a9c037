/**
 * A log batch: one 4 KiB header with up to 250 records, then the payload of its WRITE records.
 * Batches are the unit of group commit and travel to backups byte for byte, so equal hashes mean equal logs. A batch is
 * known by its LSN and by the hash of the one before it, never by where it lies. Byte layout: README.md, "Log batch".
 */
import { hash } from 'node:crypto';
import { crc32 } from '@node-rs/crc32';
import { assert } from '../base/assert.ts';
import { err, ok, type Result } from '../base/result.ts';
import { blockCrcs, joinCrcs } from './block-crc.ts';
import { BLOCK_SIZE, type Epoch, type Lsn, type Point, toEpoch, toLsn } from './units.ts';

const MAGIC = 0x4c415742; // "BWAL"
const RECORDS_OFFSET = 96;
const RECORD_SIZE = 16;

export const MAX_BATCH_RECORDS = (BLOCK_SIZE - RECORDS_OFFSET) / RECORD_SIZE;
export const MAX_PAYLOAD_BLOCKS = 1024;
/** Data of at least so many bytes stay where they are; shorter ones are copied next to each other. */
export const MIN_PART_BYTES = 64 * 1024;

/**
 * One change of the volume. `data` holds whole blocks, `crcs` the CRC-32 of each once it is known; ZERO and TRIM both read as
 * zeros afterwards.
 */
export type LogRecord =
  | { readonly kind: 'write'; readonly lba: number; readonly data: Uint8Array; readonly crcs?: Uint32Array }
  | { readonly kind: 'zero' | 'trim'; readonly lba: number; readonly blocks: number }
  /** The size of the volume from here on. */
  | { readonly kind: 'resize'; readonly blocks: number }
  | { readonly kind: 'epoch' };

export interface BatchHeader {
  readonly volume: string;
  readonly epoch: Epoch;
  readonly firstLsn: Lsn;
  readonly previousHash: string;
  readonly count: number;
  readonly payloadBlocks: number;
}

export interface Batch extends BatchHeader {
  readonly records: readonly LogRecord[];
  readonly end: Point;
  /** Header and payload, piece after piece; the records' data are views into them. Each is of whole blocks. */
  readonly parts: readonly Uint8Array[];
}

const TYPES = ['write', 'zero', 'trim', 'epoch', 'resize'] as const;

export function encodeBatch(
  identity: { readonly volume: string; readonly epoch: Epoch; readonly previous: Point },
  records: readonly LogRecord[],
): Batch {
  const { volume, epoch, previous } = identity;
  const payloadBlocks = records.reduce((sum, record) => sum + payloadOf(record), 0);
  assert(records.length > 0 && records.length <= MAX_BATCH_RECORDS, `a batch of ${records.length} records`);
  assert(payloadBlocks <= MAX_PAYLOAD_BLOCKS, `a batch of ${payloadBlocks} blocks`);
  const { parts, placed } = place(records);
  const bytes = parts[0]! as Buffer;
  placed.forEach((record, index) => {
    writeRecord(bytes, RECORDS_OFFSET + index * RECORD_SIZE, record);
  });
  const firstLsn = toLsn(previous.lsn + 1n);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(joinCrcs(placed.map(crcsOf)), 8);
  bytes.writeUInt32LE(records.length, 12);
  bytes.writeUInt32LE(payloadBlocks, 16);
  bytes.write(volume, 24, 16, 'hex');
  bytes.writeBigUInt64LE(epoch, 40);
  bytes.writeBigUInt64LE(firstLsn, 48);
  bytes.write(previous.hash, 56, 16, 'hex');
  bytes.writeUInt32LE(crc32(bytes.subarray(8, BLOCK_SIZE)), 4);
  const header = { volume, epoch, firstLsn, previousHash: previous.hash, count: records.length, payloadBlocks };
  return { ...header, records: placed, end: endOf(header, bytes), parts };
}

/** Room for the header, then the records' data: long ones as they are, what is short between them in one piece. */
function place(records: readonly LogRecord[]): { parts: readonly Uint8Array[]; placed: readonly LogRecord[] } {
  const isShort = (record: LogRecord) => record.kind === 'write' && record.data.length < MIN_PART_BYTES;
  const shortBlocks = records.reduce((sum, record) => sum + (isShort(record) ? payloadOf(record) : 0), 0);
  const room = Buffer.allocUnsafeSlow((1 + shortBlocks) * BLOCK_SIZE).fill(0, 0, BLOCK_SIZE);
  const parts: Uint8Array[] = [];
  let [from, to] = [0, BLOCK_SIZE];
  const placed = records.map((record): LogRecord => {
    if (record.kind !== 'write') return record;
    let { data } = record;
    if (isShort(record)) {
      room.set(data, to);
      data = room.subarray(to, to + data.length);
      to += data.length;
    } else {
      if (to > from) parts.push(room.subarray(from, to));
      parts.push(data);
      from = to;
    }
    return { ...record, data, crcs: record.crcs ?? blockCrcs(data) };
  });
  if (to > from) parts.push(room.subarray(from, to));
  return { parts, placed };
}

function writeRecord(bytes: Buffer, at: number, record: LogRecord): void {
  bytes.writeUInt32LE(TYPES.indexOf(record.kind), at);
  if (record.kind === 'epoch') return;
  bytes.writeUInt32LE(record.kind === 'resize' ? 0 : record.lba, at + 4);
  bytes.writeUInt32LE(record.kind === 'resize' ? record.blocks : blocksOf(record), at + 8);
}

function crcsOf(record: LogRecord): Uint32Array | undefined {
  return record.kind === 'write' ? record.crcs : undefined;
}

function endOf({ firstLsn, count, epoch }: BatchHeader, bytes: Buffer): Point {
  const digest = hash('sha256', bytes.subarray(0, BLOCK_SIZE), 'hex').slice(0, 32);
  return { lsn: toLsn(firstLsn + BigInt(count) - 1n), hash: digest, epoch };
}

export function payloadOf(record: LogRecord): number {
  return record.kind === 'write' ? record.data.length / BLOCK_SIZE : 0;
}

/** How many blocks have other content after it. */
export function blocksOf(record: LogRecord): number {
  if (record.kind === 'epoch' || record.kind === 'resize') return 0;
  return record.kind === 'write' ? payloadOf(record) : record.blocks;
}

/** Reads a header alone. Its payload has to be checked before the batch counts. */
export function decodeHeader(bytes: Uint8Array): Result<BatchHeader, 'damaged'> {
  const block = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (block.length < BLOCK_SIZE || block.readUInt32LE(0) !== MAGIC) return err('damaged');
  if (block.readUInt32LE(4) !== crc32(block.subarray(8, BLOCK_SIZE))) return err('damaged');
  const count = block.readUInt32LE(12);
  const payloadBlocks = block.readUInt32LE(16);
  if (count === 0 || count > MAX_BATCH_RECORDS || payloadBlocks > MAX_PAYLOAD_BLOCKS) return err('damaged');
  return ok({
    volume: block.toString('hex', 24, 40),
    epoch: toEpoch(block.readBigUInt64LE(40)),
    firstLsn: toLsn(block.readBigUInt64LE(48)),
    previousHash: block.toString('hex', 56, 72),
    count,
    payloadBlocks,
  });
}

/** Checks header and payload. `bytes` must begin with the header and may be longer than the batch. */
export function decodeBatch(bytes: Uint8Array): Result<Batch, 'damaged'> {
  const header = decodeHeader(bytes);
  if (!header.ok) return header;
  const { count, payloadBlocks } = header.value;
  const length = (1 + payloadBlocks) * BLOCK_SIZE;
  if (bytes.length < length) return err('damaged');
  const block = Buffer.from(bytes.buffer, bytes.byteOffset, length);
  const crcs = blockCrcs(block.subarray(BLOCK_SIZE));
  if (block.readUInt32LE(8) !== joinCrcs([crcs])) return err('damaged');
  const records: LogRecord[] = [];
  let offset = BLOCK_SIZE;
  for (let index = 0; index < count; index++) {
    const record = decodeRecord(block, crcs, { at: RECORDS_OFFSET + index * RECORD_SIZE, payload: offset });
    if (record === undefined) return err('damaged');
    offset += payloadOf(record) * BLOCK_SIZE;
    records.push(record);
  }
  if (offset !== length) return err('damaged');
  return ok({ ...header.value, records, end: endOf(header.value, block), parts: [block] });
}

function decodeRecord(
  block: Buffer,
  crcs: Uint32Array,
  offsets: { readonly at: number; readonly payload: number },
): LogRecord | undefined {
  const kind = TYPES[block.readUInt32LE(offsets.at)];
  const lba = block.readUInt32LE(offsets.at + 4);
  const blocks = block.readUInt32LE(offsets.at + 8);
  if (kind === undefined) return undefined;
  if (kind === 'epoch') return { kind };
  if (kind === 'resize') return { kind, blocks };
  if (kind !== 'write') return { kind, lba, blocks };
  const end = offsets.payload + blocks * BLOCK_SIZE;
  if (end > block.length) return undefined;
  const first = offsets.payload / BLOCK_SIZE - 1;
  return { kind, lba, data: block.subarray(offsets.payload, end), crcs: crcs.subarray(first, first + blocks) };
}
