/**
 * The superblock: who this replica is, what it has promised, and where its log begins.
 * Two copies, each in a 4 KiB block of its own; both are written and synced one after the other at every change, so that
 * whatever becomes of one copy (torn, dropped, flipped) the other still tells the truth. The higher sequence wins.
 * Byte layout: README.md, "Superblock".
 */
import { crc32 } from '@node-rs/crc32';
import { err, ok, type Result } from '../base/result.ts';
import { BLOCK_SIZE, type Epoch, type Point, toEpoch, toLsn } from './units.ts';

const MAGIC = 0x42535542; // "BUSB"
const FORMAT_VERSION = 1;
const USED_BYTES = 136;

export interface Geometry {
  /** Size of the volume. */
  readonly blocks: number;
  /** Size of the log ring. */
  readonly ringBlocks: number;
}

export interface Superblock {
  readonly sequence: bigint;
  /** 32 hex digits each. */
  readonly volume: string;
  readonly replica: string;
  readonly geometry: Geometry;
  readonly promised: Epoch;
  /** The applied prefix: everything up to here is in the extents, and the log begins after it. */
  readonly checkpoint: Point;
  /** Ring block at which the batch after the checkpoint begins. */
  readonly tail: number;
  /** False while a rebuild is under way: then neither log nor extents mean anything. */
  readonly complete: boolean;
}

export function encodeSuperblock(superblock: Superblock): Uint8Array {
  const block = Buffer.alloc(BLOCK_SIZE);
  block.writeUInt32LE(MAGIC, 0);
  block.writeUInt32LE(FORMAT_VERSION, 8);
  block.writeUInt32LE(superblock.complete ? 1 : 0, 12);
  block.writeBigUInt64LE(superblock.sequence, 16);
  block.write(superblock.volume, 24, 16, 'hex');
  block.write(superblock.replica, 40, 16, 'hex');
  block.writeUInt32LE(superblock.geometry.blocks, 56);
  block.writeUInt32LE(superblock.geometry.ringBlocks, 60);
  block.writeBigUInt64LE(superblock.promised, 64);
  block.writeBigUInt64LE(superblock.checkpoint.lsn, 72);
  block.writeBigUInt64LE(superblock.checkpoint.epoch, 80);
  block.write(superblock.checkpoint.hash, 88, 16, 'hex');
  block.writeUInt32LE(superblock.tail, 104);
  block.writeUInt32LE(crc32(block.subarray(8, USED_BYTES)), 4);
  return block;
}

export type SuperblockFault = 'empty' | 'damaged' | 'foreign-format';

export function decodeSuperblock(bytes: Uint8Array): Result<Superblock, SuperblockFault> {
  const block = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (block.length < USED_BYTES) return err('damaged');
  const used = block.subarray(0, USED_BYTES);
  if (used.every((byte) => byte === 0)) return err('empty');
  if (block.readUInt32LE(0) !== MAGIC || block.readUInt32LE(4) !== crc32(used.subarray(8))) return err('damaged');
  if (block.readUInt32LE(8) !== FORMAT_VERSION) return err('foreign-format');
  return ok({
    sequence: block.readBigUInt64LE(16),
    volume: block.toString('hex', 24, 40),
    replica: block.toString('hex', 40, 56),
    geometry: { blocks: block.readUInt32LE(56), ringBlocks: block.readUInt32LE(60) },
    promised: toEpoch(block.readBigUInt64LE(64)),
    checkpoint: {
      lsn: toLsn(block.readBigUInt64LE(72)),
      epoch: toEpoch(block.readBigUInt64LE(80)),
      hash: block.toString('hex', 88, 104),
    },
    tail: block.readUInt32LE(104),
    complete: block.readUInt32LE(12) === 1,
  });
}
