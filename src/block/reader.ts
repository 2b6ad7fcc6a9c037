/**
 * Reading the volume: what the log says about a block first, then what is in the extents, checked (README.md, I9).
 * A checkpoint may move a block from the one to the other while its read is under way; such a block is looked at again.
 */
import type { Extents } from './extents.ts';
import { type Change, contentOf, type Overlay } from './overlay.ts';
import type { DiskOperation } from './ports.ts';
import { readAll, type Task } from './tasks.ts';
import { BLOCK_SIZE, type Lsn } from './units.ts';

export interface Content {
  readonly overlay: Overlay;
  readonly extents: Extents;
}

export interface Run {
  readonly start: number;
  readonly blocks: number;
}

interface Reading {
  readonly content: Content;
  readonly lba: number;
  readonly result: Buffer;
  /** Newer versions than this do not count; undefined: all count. */
  readonly limit: () => Lsn | undefined;
}

/** The blocks' content; undefined when some of it is damaged. */
export function* readBlocks(content: Content, range: Run, limit: () => Lsn | undefined): Task<Uint8Array | undefined> {
  if (!content.overlay.touches(range.start, range.blocks)) {
    const data = yield* readUntouched(content, range);
    if (data !== undefined) return data;
  }
  const result = Buffer.allocUnsafe(range.blocks * BLOCK_SIZE);
  const reading: Reading = { content, lba: range.start, result, limit };
  let missing: readonly Run[] = [range];
  for (;;) {
    missing = missing.flatMap((run) => copyFromOverlay(reading, run));
    if (missing.length === 0) return result;
    const before = missing.map((run) => lsnsOf(content.extents, run));
    const found = yield* readAll(missing.map(dataRead));
    const again: Run[] = [];
    for (const [index, run] of missing.entries()) {
      const overtaken = take(reading, run, { data: found[index], before: before[index]! });
      if (overtaken === undefined) return undefined;
      again.push(...overtaken);
    }
    missing = again;
  }
}

/** Straight from the disk, with nothing put together; undefined when something has changed meanwhile, or is damaged. */
function* readUntouched(content: Content, range: Run): Task<Uint8Array | undefined> {
  const { extents } = content;
  const { changes } = extents;
  const [data] = yield* readAll([dataRead(range)]);
  if (data === undefined || content.overlay.touches(range.start, range.blocks)) return undefined;
  if (content.extents !== extents || extents.changes !== changes) return undefined;
  for (let index = 0; index < range.blocks; index++) {
    if (!extents.isIntact(range.start + index, blockOf(data, index))) return undefined;
  }
  return data;
}

/** The stretches of a run that the overlay knows nothing of; the rest is copied. */
function copyFromOverlay(reading: Reading, { start, blocks }: Run): readonly Run[] {
  const unknown: Run[] = [];
  const end = start + blocks;
  for (let block = start; block < end; ) {
    const version = versionOf(reading, block);
    let next = block + 1;
    while (next < end && versionOf(reading, next) === version) next++;
    if (version === undefined) unknown.push({ start: block, blocks: next - block });
    else copyVersion(reading, version, { start: block, blocks: next - block });
    block = next;
  }
  return unknown;
}

function copyVersion({ lba, result }: Reading, version: Change, { start, blocks }: Run): void {
  const at = (start - lba) * BLOCK_SIZE;
  const data = contentOf(version, start, blocks);
  if (data) result.set(data, at);
  else result.fill(0, at, at + blocks * BLOCK_SIZE);
}

function versionOf({ content, limit }: Reading, block: number): Change | undefined {
  return content.overlay.newest(block, limit());
}

function lsnsOf(extents: Extents, { start, blocks }: Run): readonly Lsn[] {
  return Array.from({ length: blocks }, (_, index) => extents.entry(start + index).lsn);
}

/** Takes what was read into the result. The blocks that have changed meanwhile come back; undefined when one is damaged. */
function take(
  reading: Reading,
  { start, blocks }: Run,
  found: { readonly data: Uint8Array | undefined; readonly before: readonly Lsn[] },
): readonly Run[] | undefined {
  const { extents } = reading.content;
  const { data, before } = found;
  const again: Run[] = [];
  for (let index = 0; index < blocks; index++) {
    const block = start + index;
    const changed = versionOf(reading, block) !== undefined || extents.entry(block).lsn !== before[index];
    if (changed) again.push({ start: block, blocks: 1 });
    else if (!data || !extents.isIntact(block, blockOf(data, index))) return undefined;
  }
  if (data) reading.result.set(data, (start - reading.lba) * BLOCK_SIZE);
  return again;
}

/**
 * The blocks of a range whose content in the extents is not what the table says, or cannot be read. What the log
 * holds is left out, and so is what a checkpoint changes meanwhile.
 */
export function* findDamage({ overlay, extents }: Content, range: Run): Task<readonly number[]> {
  const before = lsnsOf(extents, range);
  const [data] = yield* readAll([dataRead(range)]);
  const damaged: number[] = [];
  for (let index = 0; index < range.blocks; index++) {
    const block = range.start + index;
    if (overlay.newest(block) !== undefined || extents.entry(block).lsn !== before[index]) continue;
    if (!data || !extents.isIntact(block, blockOf(data, index))) damaged.push(block);
  }
  return damaged;
}

function blockOf(data: Uint8Array, index: number): Uint8Array {
  return data.subarray(index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE);
}

function dataRead({ start, blocks }: Run): Extract<DiskOperation, { kind: 'read' }> {
  return { kind: 'read', area: 'data', offset: start * BLOCK_SIZE, length: blocks * BLOCK_SIZE };
}
