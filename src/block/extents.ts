/**
 * The volume's content up to the checkpoint: a sparse data area and the table that vouches for each block of it.
 * Nothing leaves here unchecked. Changes are redone from the log after a crash, so neither area needs an order of writes.
 * All pages of the table that were ever written are kept in memory: 16 bytes a block.
 */
import { crc32 } from '@node-rs/crc32';
import { type BlockChange, contentOf, crcOf } from './overlay.ts';
import type { DiskOperation } from './ports.ts';
import {
  blankPage,
  damagedPage,
  decodePage,
  ENTRIES_PER_PAGE,
  encodePage,
  getCrc,
  getEntry,
  setEntry,
  type TableEntry,
  type TablePage,
  ZERO_BLOCK,
  ZERO_CRC,
} from './table-page.ts';
import { perform, readAll, type Task } from './tasks.ts';
import { BLOCK_SIZE, type Lsn, toLsn } from './units.ts';

/** Pages of the table that are read at once. */
const LOAD_PAGES = 512;
/** Blocks of the data area that are written at once. */
const MAX_WRITE_BLOCKS = 256;
/** Operations and blocks of a checkpoint that are under way at once: the log's must not have to wait for all of them. */
const MAX_GROUP = 32;
const MAX_GROUP_BLOCKS = 2 * MAX_WRITE_BLOCKS;
const BLANK: TableEntry = { crc: ZERO_CRC, lsn: toLsn(0) };

export class Extents {
  readonly #volume: string;
  readonly #pageCount: number;
  readonly #pages = new Map<number, TablePage>();
  readonly #dirty = new Set<number>();
  #changes = 0;

  constructor(volume: string, blocks: number) {
    this.#volume = volume;
    this.#pageCount = tablePages(blocks);
  }

  /** Reads the table; false when it cannot be read. */
  *load(): Task<boolean> {
    for (let first = 0; first < this.#pageCount; first += LOAD_PAGES) {
      const count = Math.min(LOAD_PAGES, this.#pageCount - first);
      const offset = first * 2 * BLOCK_SIZE;
      const [bytes] = yield* readAll([{ kind: 'read', area: 'table', offset, length: count * 2 * BLOCK_SIZE }]);
      if (bytes === undefined) return false;
      for (let index = 0; index < count; index++) {
        const slots = bytes.subarray(index * 2 * BLOCK_SIZE, (index + 1) * 2 * BLOCK_SIZE);
        const page = this.#newestSlot(slots, first + index);
        if (page !== undefined) this.#pages.set(page.index, page);
      }
    }
    return true;
  }

  #newestSlot(bytes: Uint8Array, index: number): TablePage | undefined {
    const slots = [0, 1].map((slot) => {
      const start = slot * BLOCK_SIZE;
      return decodePage(bytes.subarray(start, start + BLOCK_SIZE), { index, volume: this.#volume });
    });
    const pages = slots.filter((slot) => typeof slot === 'object');
    if (pages.length > 0) return pages.reduce((a, b) => (b.sequence > a.sequence ? b : a));
    // A single damaged slot may be the first write of the page, torn: its blocks are in the log, others were never written.
    return slots.includes('empty') ? undefined : damagedPage(index);
  }

  /** Grows whenever an entry changes. */
  get changes(): number {
    return this.#changes;
  }

  entry(lba: number): TableEntry {
    const page = this.#pages.get(Math.floor(lba / ENTRIES_PER_PAGE));
    return page ? getEntry(page, lba % ENTRIES_PER_PAGE) : BLANK;
  }

  /** How many blocks from `lba` on, at most `most`, lie in pages of the table none of whose blocks was ever written. */
  unwrittenBlocks(lba: number, most: number): number {
    let end = lba;
    while (end < lba + most && !this.#pages.has(Math.floor(end / ENTRIES_PER_PAGE))) {
      end = (Math.floor(end / ENTRIES_PER_PAGE) + 1) * ENTRIES_PER_PAGE;
    }
    return Math.min(end - lba, most);
  }

  /** Whether `data` is what the block should hold. */
  isIntact(lba: number, data: Uint8Array): boolean {
    const page = this.#pages.get(Math.floor(lba / ENTRIES_PER_PAGE));
    const crc = page ? getCrc(page, lba % ENTRIES_PER_PAGE) : ZERO_CRC;
    return (crc === ZERO_CRC && ZERO_BLOCK.equals(data)) || crc === crc32(data);
  }

  /** Writes the changes and their entries; durable when it returns. In the order of the volume, as for `put`. */
  *apply(changes: readonly BlockChange[]): Task {
    yield* this.put(changes);
    yield* this.flush();
  }

  /** Writes the changes' data; their entries stay in memory until `flush`. */
  *put(changes: readonly BlockChange[]): Task {
    for (const { lba, change } of changes) this.#setEntry(lba, crcOf(change, lba) ?? ZERO_CRC, change.lsn);
    yield* inGroups(dataOperations(changes));
  }

  /** Forgets content: zeros from `lba` on. */
  *clear(lba: number, blocks: number, lsn: Lsn): Task {
    const first = Math.floor(lba / ENTRIES_PER_PAGE);
    const last = Math.floor((lba + blocks - 1) / ENTRIES_PER_PAGE);
    for (const index of this.#pages.keys()) {
      if (index < first || index > last) continue;
      const start = Math.max(lba, index * ENTRIES_PER_PAGE);
      const end = Math.min(lba + blocks, (index + 1) * ENTRIES_PER_PAGE);
      for (let block = start; block < end; block++) this.#setEntry(block, ZERO_CRC, lsn);
    }
    yield* perform([{ kind: 'discard', area: 'data', offset: lba * BLOCK_SIZE, length: blocks * BLOCK_SIZE }]);
  }

  /**
   * After a restart: makes sure that the pages of these blocks are on the disk as they were read. A killed process or a failed
   * sync may have left a page in the page cache only, and the next checkpoint would write over the slot that is durable.
   */
  *settle(lbas: Iterable<number>): Task {
    const indexes = new Set([...lbas].map((lba) => Math.floor(lba / ENTRIES_PER_PAGE)));
    const written = [...indexes]
      .flatMap((index) => this.#pages.get(index) ?? [])
      .filter(({ sequence }) => sequence > 0n);
    yield* perform(written.map((page) => this.#pageWrite(page)));
    yield* perform([{ kind: 'sync', area: 'table' }]);
  }

  #pageWrite(page: TablePage): DiskOperation {
    const slot = Number(page.sequence % 2n);
    const data = encodePage(page, this.#volume);
    return { kind: 'write', area: 'table', offset: (page.index * 2 + slot) * BLOCK_SIZE, data };
  }

  *flush(): Task {
    const writes = [...this.#dirty].map((index): DiskOperation => {
      const page = this.#pages.get(index)!;
      page.sequence++;
      return this.#pageWrite(page);
    });
    this.#dirty.clear();
    yield* inGroups(writes);
    yield* perform([
      { kind: 'sync', area: 'data' },
      { kind: 'sync', area: 'table' },
    ]);
  }

  #setEntry(lba: number, crc: number, lsn: Lsn): void {
    const index = Math.floor(lba / ENTRIES_PER_PAGE);
    let page = this.#pages.get(index);
    if (page === undefined) {
      page = blankPage(index);
      this.#pages.set(index, page);
    }
    this.#dirty.add(index);
    this.#changes++;
    setEntry(page, lba % ENTRIES_PER_PAGE, { crc, lsn });
  }
}

export function tablePages(blocks: number): number {
  return Math.ceil(blocks / ENTRIES_PER_PAGE);
}

function* inGroups(operations: readonly DiskOperation[]): Task {
  for (let first = 0; first < operations.length; ) {
    let end = first;
    for (let blocks = 0; end < operations.length && end - first < MAX_GROUP; end++) {
      blocks += blocksWritten(operations[end]!);
      if (blocks > MAX_GROUP_BLOCKS && end > first) break;
    }
    yield* perform(operations.slice(first, end));
    first = end;
  }
}

function blocksWritten(operation: DiskOperation): number {
  return operation.kind === 'write' ? operation.data.length / BLOCK_SIZE : 0;
}

/** Neighbours at once where their data also lie side by side in memory, as those of one batch do. */
function dataOperations(changes: readonly BlockChange[]): readonly DiskOperation[] {
  const operations: DiskOperation[] = [];
  for (let index = 0; index < changes.length; ) {
    const first = changes[index]!;
    let end = index + 1;
    while (end < changes.length && end - index < MAX_WRITE_BLOCKS && follows(changes[end]!, first, end - index)) end++;
    operations.push(dataOperation(first.lba, end - index, contentOf(first.change, first.lba)));
    index = end;
  }
  return operations;
}

/** Whether a block is so many blocks after an earlier one on the disk, and its data in memory too; or both are zeros. */
function follows({ lba, change }: BlockChange, earlier: BlockChange, blocks: number): boolean {
  if (lba !== earlier.lba + blocks) return false;
  if (change === earlier.change) return true;
  const [record, other] = [change.record, earlier.change.record];
  if (record.kind !== 'write' || other.kind !== 'write') return record.kind !== 'write' && other.kind !== 'write';
  const at = ({ data, lba: first }: typeof record, block: number) => data.byteOffset + (block - first) * BLOCK_SIZE;
  return record.data.buffer === other.data.buffer && at(record, lba) - at(other, earlier.lba) === blocks * BLOCK_SIZE;
}

function dataOperation(lba: number, blocks: number, first: Uint8Array | undefined): DiskOperation {
  const offset = lba * BLOCK_SIZE;
  const length = blocks * BLOCK_SIZE;
  if (first === undefined) return { kind: 'discard', area: 'data', offset, length };
  const data = new Uint8Array(first.buffer, first.byteOffset, length);
  return { kind: 'write', area: 'data', offset, data };
}
