/**
 * Large buffers that nobody uses any more. V8 keeps them until it next collects all garbage, and does that anew for some 64 MiB of them:
 * at hundreds of MiB a second it would do little else, and each new buffer would be memory that no cache holds.
 */

/** Smaller ones may lie in memory that Node shares out, and are not worth it. */
const MIN_BYTES = 16 * 1024;

/** Frees the memory now; `bytes` and all that lies in the same memory are empty from here on. Not of a part of something larger. */
export function giveBack(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && bytes.length === buffer.byteLength && bytes.length >= MIN_BYTES)
    buffer.transfer(0);
}
