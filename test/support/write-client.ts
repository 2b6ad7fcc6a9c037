/**
 * A program for tests: writes its own blocks of a file that others write too, each block once, and reads some of them back. Its
 * arguments are the file, which of the writers it is, how many there are, how many blocks each writes, and `write` or `map`. A mapping
 * is written back by the kernel when it likes, also while the file moves: the size must be there already. The content of a
 * block follows from its place (`blockAt`).
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { mapShared, writeBack } from './posix.ts';

export const BLOCK_BYTES = 4096;

export function blockAt(index: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  for (let at = 0; at < BLOCK_BYTES; at += 4)
    block.writeUInt32LE(Math.imul(index * BLOCK_BYTES + at + 1, 0x9e3779b1) >>> 0, at);
  return block;
}

interface Share {
  readonly writer: number;
  readonly writers: number;
  readonly blocks: number;
}

function map(file: string, { writer, writers, blocks }: Share): void {
  const descriptor = openSync(file, 'r+');
  const mapping = mapShared(descriptor, writers * blocks * BLOCK_BYTES);
  for (let turn = 0; turn < blocks; turn++) {
    const index = turn * writers + writer;
    mapping.bytes.set(blockAt(index), index * BLOCK_BYTES);
    if (turn % 4 === 3) writeBack(descriptor);
  }
  mapping.sync();
  mapping.unmap();
  closeSync(descriptor);
}

function write(file: string, { writer, writers, blocks }: Share): void {
  const descriptor = openSync(file, 'r+');
  const read = Buffer.alloc(BLOCK_BYTES);
  for (let turn = 0; turn < blocks; turn++) {
    const index = turn * writers + writer;
    writeSync(descriptor, blockAt(index), 0, BLOCK_BYTES, index * BLOCK_BYTES);
    const earlier = Math.floor((turn * 7) / 11) * writers + writer;
    readSync(descriptor, read, 0, BLOCK_BYTES, earlier * BLOCK_BYTES);
    if (!read.equals(blockAt(earlier))) throw new Error(`block ${earlier} is not what was written after turn ${turn}`);
  }
  closeSync(descriptor);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [file = '', writer, writers, blocks, how] = process.argv.slice(2);
  const share = { writer: Number(writer), writers: Number(writers), blocks: Number(blocks) };
  (how === 'map' ? map : write)(file, share);
}
