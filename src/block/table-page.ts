/**
 * A page of the extent table: checksum and LSN of 254 blocks of the volume.
 * Each page has two slots, written in turn by checkpoints, so that a torn write leaves the page before it. A slot that is
 * lost makes its page older than the data; that shows when a block is read, because *every* block is checked against
 * its entry, a block that was never written against the checksum of zeros. Byte layout: README.md, "Extent table".
 */
import { crc32 } from '@node-rs/crc32';
import { BLOCK_SIZE, type Lsn, toLsn } from './units.ts';

const MAGIC = 0x42544142; // "BATB"
const ENTRIES_OFFSET = 32;
const ENTRY_SIZE = 16;
const CRC_KNOWN = 1;

export const ENTRIES_PER_PAGE = (BLOCK_SIZE - ENTRIES_OFFSET) / ENTRY_SIZE;
export const ZERO_BLOCK = Buffer.alloc(BLOCK_SIZE);
export const ZERO_CRC = crc32(ZERO_BLOCK);

export interface TableEntry {
  /** Checksum of the block; undefined: unknown, because the page was damaged. */
  readonly crc: number | undefined;
  readonly lsn: Lsn;
}

export interface TablePage {
  readonly index: number;
  sequence: bigint;
  /** The page's bytes; checksum and sequence are filled in by encodePage. */
  readonly block: Buffer;
  /** The same bytes: where entries are got and set, many times as fast. */
  readonly view: DataView;
}

function newPage(index: number, sequence: bigint, block: Buffer): TablePage {
  return { index, sequence, block, view: new DataView(block.buffer, block.byteOffset, BLOCK_SIZE) };
}

const BLANK = newPage(0, 0n, Buffer.alloc(BLOCK_SIZE));
for (let entry = 0; entry < ENTRIES_PER_PAGE; entry++) setEntry(BLANK, entry, { crc: ZERO_CRC, lsn: toLsn(0) });

/** A page none of whose blocks was ever written. */
export function blankPage(index: number): TablePage {
  return newPage(index, 0n, Buffer.from(BLANK.block));
}

/** A page both of whose slots are damaged: of no block of it is it known what it should hold. */
export function damagedPage(index: number): TablePage {
  return newPage(index, 0n, Buffer.alloc(BLOCK_SIZE));
}

export function getEntry(page: TablePage, entry: number): TableEntry {
  const at = ENTRIES_OFFSET + entry * ENTRY_SIZE;
  return { crc: getCrc(page, entry), lsn: toLsn(page.view.getBigUint64(at + 8, true)) };
}

export function getCrc({ view }: TablePage, entry: number): number | undefined {
  const at = ENTRIES_OFFSET + entry * ENTRY_SIZE;
  return view.getUint32(at + 4, true) === CRC_KNOWN ? view.getUint32(at, true) : undefined;
}

export function setEntry({ view }: TablePage, entry: number, value: { readonly crc: number; readonly lsn: Lsn }): void {
  const at = ENTRIES_OFFSET + entry * ENTRY_SIZE;
  view.setUint32(at, value.crc, true);
  view.setUint32(at + 4, CRC_KNOWN, true);
  view.setBigUint64(at + 8, value.lsn, true);
}

/** The slot's bytes, a copy: the page goes on changing while it is written. */
export function encodePage(page: TablePage, volume: string): Uint8Array {
  const block = Buffer.from(page.block);
  block.writeUInt32LE(MAGIC, 0);
  block.writeUInt32LE(page.index, 8);
  block.writeBigUInt64LE(page.sequence, 16);
  block.write(volume, 24, 8, 'hex');
  block.writeUInt32LE(crc32(block.subarray(8)), 4);
  return block;
}

export function decodePage(
  bytes: Uint8Array,
  expected: { readonly index: number; readonly volume: string },
): TablePage | 'empty' | 'damaged' {
  if (ZERO_BLOCK.equals(bytes)) return 'empty';
  const block = Buffer.from(bytes);
  const intact =
    block.length === BLOCK_SIZE &&
    block.readUInt32LE(0) === MAGIC &&
    block.readUInt32LE(4) === crc32(block.subarray(8)) &&
    block.readUInt32LE(8) === expected.index &&
    block.toString('hex', 24, 32) === expected.volume.slice(0, 16);
  return intact ? newPage(expected.index, block.readBigUInt64LE(16), block) : 'damaged';
}
