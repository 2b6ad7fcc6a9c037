/**
 * Large buffers, which V8 keeps outside of its heap and takes for a reason to collect all garbage anew for some tens of MiB of them: at
 * hundreds of MiB a second a process would do little else, and each new buffer would be memory that no cache holds.
 */
import { setFlagsFromString } from 'node:v8';

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

/** Buffers that are used again: memory that is fresh costs a page fault for each 4 KiB, which takes longer than to copy the data. */
export class BufferPool {
  /** By length. */
  readonly #free = new Map<number, Buffer[]>();
  #freeBytes = 0;
  /** So much was free all the time since it was last asked to shrink. */
  #spareBytes = 0;
  /** What was taken, and how much of each was not given back yet. What never is, is garbage as any other. */
  readonly #taken = new WeakMap<ArrayBufferLike, number>();

  /** Of any content. */
  take(length: number): Buffer {
    const found = this.#free.get(length)?.pop();
    if (found) this.#freeBytes -= length;
    this.#spareBytes = Math.min(this.#spareBytes, this.#freeBytes);
    const buffer = found ?? Buffer.allocUnsafeSlow(length);
    this.#taken.set(buffer.buffer, length);
    return buffer;
  }

  /** A part of what was taken, which nobody uses any more; each once. Whatever else it is given stays as it is. */
  give(part: Uint8Array): void {
    const { buffer } = part;
    const missing = (this.#taken.get(buffer) ?? 0) - part.length;
    if (missing > 0) this.#taken.set(buffer, missing);
    if (missing !== 0 || !this.#taken.delete(buffer)) return;
    const whole = Buffer.from(buffer);
    const others = this.#free.get(whole.length);
    if (others) others.push(whole);
    else this.#free.set(whole.length, [whole]);
    this.#freeBytes += whole.length;
  }

  /** Lets go of what nobody has needed since the last time. */
  shrink(): void {
    for (const [length, buffers] of this.#free) {
      while (this.#spareBytes >= length && buffers.length > 0) {
        giveBack(buffers.pop()!);
        this.#spareBytes -= length;
        this.#freeBytes -= length;
      }
      if (buffers.length === 0) this.#free.delete(length);
    }
    this.#spareBytes = this.#freeBytes;
  }
}
