/**
 * Reading a replica's disk after a restart of any kind: which superblock counts, and how far the log reaches.
 * Pure: the bytes come as arguments. A replica only ever writes a batch when the one before it is durable; so a bad batch
 * with nothing after it is the torn end of the log, and one with something after it is damage.
 */
import { err, ok, type Result } from '../base/result.ts';
import { decodeBatch, decodeHeader } from './batch.ts';
import { type PlacedBatch, ringSlice, sizeOf } from './log.ts';
import { decodeSuperblock, type Geometry, type Superblock } from './superblock.ts';
import { BLOCK_SIZE, type Point } from './units.ts';

export interface Identity {
  /** UUIDs, 32 hex digits each. */
  readonly volume: string;
  readonly replica: string;
  /** Of a replica that is made; one that exists knows its own. */
  readonly geometry: Geometry;
}

/** The newest intact superblock; undefined on a disk that is blank. The error says why the disk must not be touched. */
export function chooseSuperblock(
  bytes: Uint8Array | undefined,
  identity: Identity,
): Result<Superblock | undefined, string> {
  if (bytes === undefined) return err('the superblocks cannot be read; check the disk');
  const slots = [0, 1].map((slot) => decodeSuperblock(bytes.subarray(slot * BLOCK_SIZE, (slot + 1) * BLOCK_SIZE)));
  const found = slots.flatMap((slot) => (slot.ok ? [slot.value] : []));
  if (found.length === 0) {
    const blank = slots.every((slot) => !slot.ok && slot.error === 'empty');
    return blank ? ok(undefined) : err('both superblocks are damaged; remove the replica so that it is made anew');
  }
  const newest = found.reduce((a, b) => (b.sequence > a.sequence ? b : a));
  if (newest.volume !== identity.volume || newest.replica !== identity.replica) {
    const owner = `replica ${newest.replica} of volume ${newest.volume}`;
    return err(`the disk belongs to ${owner}; put back the one of replica ${identity.replica}`);
  }
  return ok(newest);
}

export interface LogScan {
  readonly batches: readonly PlacedBatch[];
  /** A batch is missing before one that exists. */
  readonly damaged: boolean;
}

export function scanLog(
  ring: Uint8Array,
  start: { readonly volume: string; readonly base: Point; readonly tail: number },
): LogScan {
  const ringBlocks = ring.length / BLOCK_SIZE;
  const batches: PlacedBatch[] = [];
  let last = start.base;
  let position = start.tail;
  let used = 0;
  while (used < ringBlocks) {
    const header = decodeHeader(ringSlice(ring, position, 1));
    if (!header.ok || header.value.volume !== start.volume) break;
    if (header.value.firstLsn !== last.lsn + 1n || header.value.previousHash !== last.hash) break;
    const size = 1 + header.value.payloadBlocks;
    if (used + size > ringBlocks) break;
    const batch = decodeBatch(ringSlice(ring, position, size));
    if (!batch.ok) break;
    batches.push({ batch: batch.value, position });
    last = batch.value.end;
    used += sizeOf(batch.value);
    position = (position + size) % ringBlocks;
  }
  return { batches, damaged: hasLater(ring, start.volume, last) };
}

/** Whether any batch lies in the ring that can only have been written after one that is not there. */
function hasLater(ring: Uint8Array, volume: string, last: Point): boolean {
  for (let offset = 0; offset < ring.length; offset += BLOCK_SIZE) {
    const header = decodeHeader(ring.subarray(offset, offset + BLOCK_SIZE));
    if (header.ok && header.value.volume === volume && header.value.firstLsn > last.lsn + 1n) return true;
  }
  return false;
}
