/**
 * Reads what the page cache has, at once and on this thread; whatever is not there is for the thread pool. A hop to the pool and
 * back costs more than a small read. Source: preadv2(2), RWF_NOWAIT.
 */
import { addressOf, errnoCode, preadv2, RWF_NOWAIT } from '../syscalls.ts';

/** Longer ones keep this thread from its other work for too long. */
const MAX_BYTES = 128 * 1024;

export class CachedReader {
  /** Where reads arrive; what is read is copied from here. */
  readonly #buffer = Buffer.alloc(MAX_BYTES);
  /** A struct iovec. */
  readonly #vector = Buffer.alloc(16);
  #supported = true;

  constructor() {
    this.#vector.writeBigUInt64LE(addressOf(this.#buffer), 0);
  }

  /** Undefined when it would have to wait, or anything else is the matter. */
  read(fd: number, offset: number, length: number): Buffer | undefined {
    if (length > MAX_BYTES || !this.#supported) return undefined;
    this.#vector.writeBigUInt64LE(BigInt(length), 8);
    try {
      if (preadv2(fd, this.#vector, 1, offset, RWF_NOWAIT) < length) return undefined;
    } catch (error) {
      // Some filesystems never do; EAGAIN is the usual "not in the cache".
      this.#supported = errnoCode(error) === 'EAGAIN';
      return undefined;
    }
    return Buffer.copyBytesFrom(this.#buffer, 0, length);
  }
}
