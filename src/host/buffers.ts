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
