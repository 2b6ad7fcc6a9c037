/**
 * CRC-32 block by block, and of blocks one after the other from theirs: each block is gone over once, for the log's payload and
 * for the extent table. Source: zlib, crc32_combine: the CRC of A‖B is that of A, moved on by the length of B, xor that of B.
 */
import { crc32 } from '@node-rs/crc32';
import { BLOCK_SIZE } from './units.ts';

const POLYNOMIAL = 0xedb88320;
/** What becomes of each byte of a CRC, at each of its four places, when a block follows. */
const MOVED = [0, 8, 16, 24].map((shift) => {
  const bits = movedBits();
  return Uint32Array.from({ length: 256 }, (_, byte) => times(bits, (byte << shift) >>> 0));
});

/** The CRC of each block of some whole blocks. */
export function blockCrcs(data: Uint8Array): Uint32Array {
  const crcs = new Uint32Array(data.length / BLOCK_SIZE);
  for (let index = 0; index < crcs.length; index++) {
    crcs[index] = crc32(data.subarray(index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE));
  }
  return crcs;
}

/** The CRC of all these blocks one after the other. */
export function joinCrcs(lists: readonly (Uint32Array | undefined)[]): number {
  const [a, b, c, d] = MOVED as [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
  let crc = 0;
  for (const list of lists) {
    for (const next of list ?? []) {
      crc = a[crc & 0xff]! ^ b[(crc >>> 8) & 0xff]! ^ c[(crc >>> 16) & 0xff]! ^ d[crc >>> 24]! ^ next;
    }
  }
  return crc >>> 0;
}

/** The matrix over GF(2) that moves a CRC on by a block of zeros, a column for each bit. */
function movedBits(): readonly number[] {
  let matrix = [POLYNOMIAL, ...Array.from({ length: 31 }, (_, bit) => 2 ** bit)];
  for (let bits = 1; bits < BLOCK_SIZE * 8; bits *= 2) {
    const half = matrix;
    matrix = half.map((column) => times(half, column));
  }
  return matrix;
}

function times(matrix: readonly number[], vector: number): number {
  return matrix.reduce((sum, column, bit) => (((vector >>> bit) & 1) === 1 ? sum ^ column : sum), 0) >>> 0;
}
