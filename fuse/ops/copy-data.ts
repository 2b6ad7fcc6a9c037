/** Copies the data of one open lower file to another, holes as holes. */
import { REPLY_BYTES } from '../inode/layout.ts';
import { OUT } from '../protocol/abi.ts';
import { EINVAL, ENXIO, EOPNOTSUPP, SEEK_DATA, SEEK_HOLE } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';

/** What one system call copies: others want the disk as well. */
const RANGE_BYTES = 1 << 24;

/** The first `size` bytes. Answers 0 or a negated errno. Overwrites the reply's buffer. */
export function copyData(context: Context, from: number, to: number, size: number): number {
  for (let offset = 0; offset < size; ) {
    let start = libc.lseek(from, offset, SEEK_DATA);
    if (start === -ENXIO) break;
    // A filesystem that knows nothing of holes has none.
    if (start === -EINVAL || start === -EOPNOTSUPP) start = offset;
    if (start < 0) return start;
    const hole = libc.lseek(from, start, SEEK_HOLE);
    const end = hole < 0 ? size : Math.min(hole, size);
    const result = copyRange(context, from, to, start, end);
    if (result < 0) return result;
    offset = end;
  }
  return libc.ftruncate(to, size);
}

function copyRange(context: Context, from: number, to: number, start: number, end: number): number {
  let offset = start;
  while (offset < end) {
    let copied = copyInKernel(context, from, to, offset, Math.min(end - offset, RANGE_BYTES));
    // Between filesystems it is refused: through memory, then.
    if (copied <= 0) copied = copyThrough(context, from, to, offset, Math.min(end - offset, REPLY_BYTES - OUT.size));
    if (copied < 0) return copied;
    if (copied === 0) break; // the file has become shorter
    offset += copied;
  }
  return 0;
}

function copyInKernel(context: Context, from: number, to: number, offset: number, length: number): number {
  const { argument, base, u32 } = context;
  const word = argument >>> 2;
  u32[word] = u32[word + 2] = offset >>> 0;
  u32[word + 1] = u32[word + 3] = Math.floor(offset / 0x100000000);
  return libc.copyFileRange(from, base + argument, to, base + argument + 8, length, 0);
}

function copyThrough(context: Context, from: number, to: number, offset: number, length: number): number {
  const buffer = context.base + context.out;
  const read = libc.pread(from, buffer, length, offset);
  for (let written = 0; written < read; ) {
    const result = libc.pwrite(to, buffer + written, read - written, offset + written);
    if (result < 0) return result;
    written += result;
  }
  return read;
}
