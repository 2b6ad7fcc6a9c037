/**
 * Long writes past the page cache, from the memory where the data lie: no copy, and no pages to write back, in a third of the
 * time of a processor. For a file that is read only after a restart. What is durable is said by a sync, as for other writes.
 * Invariant: what other descriptors of the file see is the same; the kernel drops what its cache has of the range.
 * Source: open(2), O_DIRECT: memory, offset and length have to be aligned, here to blocks.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { BLOCK_SIZE } from '../../block/units.ts';
import { alignedBuffer, isAligned } from '../buffers.ts';
import { errnoCode } from '../syscalls.ts';
import { writeParts } from './parts.ts';

/** Shorter ones are sooner done through the cache. */
const MIN_BYTES = 1024 ** 2;
/** So much is copied to where it is aligned; if there is more, all of it goes through the cache. */
const MAX_COPIED_BYTES = 64 * 1024;

export class DirectWriter {
  #file: FileHandle | undefined;

  private constructor(file: FileHandle | undefined) {
    this.#file = file;
  }

  /** Of a filesystem that cannot do this: one that writes nothing. */
  static async open(path: string): Promise<DirectWriter> {
    try {
      return new DirectWriter(await open(path, constants.O_WRONLY | constants.O_DIRECT));
    } catch (error) {
      if (errnoCode(error) !== 'EINVAL') throw error;
      return new DirectWriter(undefined);
    }
  }

  /** False when these have to be written otherwise; then nothing has changed. */
  async write(parts: readonly Uint8Array[], offset: number): Promise<boolean> {
    const aligned = this.#file && align(parts);
    if (this.#file === undefined || aligned === undefined) return false;
    try {
      await writeParts(this.#file.fd, aligned, offset);
      return true;
    } catch (error) {
      if (errnoCode(error) !== 'EINVAL') throw error;
      // Some filesystems tell only now.
      await this.close();
      return false;
    }
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}

/** The same bytes in aligned memory; undefined when that is not worth it. */
function align(parts: readonly Uint8Array[]): readonly Uint8Array[] | undefined {
  const strange = parts.filter((part) => !isAligned(part));
  const copied = strange.reduce((sum, { length }) => sum + length, 0);
  const all = parts.reduce((sum, { length }) => sum + length, 0);
  if (all < MIN_BYTES || copied > MAX_COPIED_BYTES || copied % BLOCK_SIZE !== 0) return undefined;
  const room = alignedBuffer(copied);
  let used = 0;
  return parts.map((part) => {
    if (!strange.includes(part)) return part;
    const copy = room.subarray(used, used + part.length);
    copy.set(part);
    used += part.length;
    return copy;
  });
}
