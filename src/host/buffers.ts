/**
 * Large buffers, which V8 keeps outside of its heap and takes for a reason to collect all garbage anew for some tens of MiB of them: at
 * hundreds of MiB a second a process would do little else, and each new buffer would be memory that no cache holds.
 */
import { setFlagsFromString } from 'node:v8';
import { addressOf } from './syscalls.ts';

/** From now on, in this process, V8 allows buffers to grow in proportion to what is in use, as it does its heap. */
export function allowLargeBuffers(): void {
  setFlagsFromString('--external-memory-accounted-in-global-limit');
}

/** Smaller ones may lie in memory that Node shares out, and are not worth it. */
const MIN_BYTES = 16 * 1024;

/** Frees the memory now; `bytes` and all that lies in the same memory are empty from here on. Not of a part of something larger. */
export function giveBack(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && bytes.length === buffer.byteLength && bytes.length >= MIN_BYTES)
    buffer.transfer(0);
}

const PAGE_BYTES = 4096;

/** Of any content, and at the beginning of a page of memory. */
export function alignedBuffer(length: number): Buffer {
  const memory = Buffer.allocUnsafeSlow(length + PAGE_BYTES);
  const skipped = Number(-addressOf(memory) & BigInt(PAGE_BYTES - 1));
  return memory.subarray(skipped, skipped + length);
}

export function isAligned(bytes: Uint8Array): boolean {
  return bytes.length % PAGE_BYTES === 0 && addressOf(bytes) % BigInt(PAGE_BYTES) === 0n;
}

/** Buffers that are used again: memory that is fresh costs a page fault for each 4 KiB, which takes longer than to copy the data. */
export class BufferPool {
  /** By length. */
  readonly #free = new Map<number, Buffer[]>();
  #freeBytes = 0;
  /** So much was free all the time since it was last asked to shrink. */
  #spareBytes = 0;
  /** What was taken, and how much of each was not given back yet. What never is, is garbage as any other. */
  readonly #taken = new WeakMap<ArrayBufferLike, { readonly whole: Buffer; missing: number }>();

  /** Of any content, and aligned to pages. */
  take(length: number): Buffer {
    const found = this.#free.get(length)?.pop();
    if (found) this.#freeBytes -= length;
    this.#spareBytes = Math.min(this.#spareBytes, this.#freeBytes);
    const whole = found ?? alignedBuffer(length);
    this.#taken.set(whole.buffer, { whole, missing: length });
    return whole;
  }

  /** A part of what was taken, which nobody uses any more; each once. Whatever else it is given stays as it is. */
  give(part: Uint8Array): void {
    const { buffer } = part;
    const taken = this.#taken.get(buffer);
    if (taken === undefined) return;
    taken.missing -= part.length;
    if (taken.missing > 0) return;
    this.#taken.delete(buffer);
    const { whole } = taken;
    const others = this.#free.get(whole.length);
    if (others) others.push(whole);
    else this.#free.set(whole.length, [whole]);
    this.#freeBytes += whole.length;
  }

  /** Lets go of what nobody has needed since the last time. */
  shrink(): void {
    for (const [length, buffers] of this.#free) {
      while (this.#spareBytes >= length && buffers.length > 0) {
        (buffers.pop()!.buffer as ArrayBuffer).transfer(0);
        this.#spareBytes -= length;
        this.#freeBytes -= length;
      }
      if (buffers.length === 0) this.#free.delete(length);
    }
    this.#spareBytes = this.#freeBytes;
  }
}
