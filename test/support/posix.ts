/**
 * System calls that Node does not export, by path, throwing errors with a `code` as Node's own do. Synchronous and on the calling
 * thread. Never for a mount that this process serves itself.
 */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { errnoName } from '../../fuse/sys/constants.ts';
import * as libc from '../../fuse/sys/libc.ts';

const AT_FDCWD = -100;
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const O_TMPFILE = 0o20200000;
export const O_PATH = 0o10000000;
export const FALLOC_KEEP_SIZE = 1;
export const FALLOC_PUNCH_HOLE = 2;
export const FALLOC_ZERO_RANGE = 16;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

type Path = string | Buffer;

class SystemError extends Error {
  readonly code: string;

  constructor(call: string, errno: number) {
    super(`${errnoName(errno)}: ${call}`);
    this.code = errnoName(errno);
  }
}

function checked(call: string, result: number): number {
  if (result < 0) throw new SystemError(call, -result);
  return result;
}

/** Runs `use` with addresses of NUL-terminated copies of the texts, and frees them. */
function withPaths<T>(paths: readonly Path[], use: (...addresses: number[]) => T): T {
  const addresses = paths.map((path) => {
    const bytes = Buffer.from(path);
    const address = libc.malloc(bytes.length + 1);
    new Uint8Array(libc.viewOf(address, bytes.length + 1)).set([...bytes, 0]);
    return address;
  });
  try {
    return use(...addresses);
  } finally {
    for (const address of addresses) libc.free(address);
  }
}

export function renameWith(flags: number, from: Path, to: Path): void {
  withPaths([from, to], (a, b) => checked('renameat2', libc.renameat2(AT_FDCWD, a!, AT_FDCWD, b!, flags)));
}

/** Gives an open file a (further) name. */
export function linkDescriptor(descriptor: number, to: Path): void {
  const followSymlink = 0x400;
  withPaths([`/proc/self/fd/${descriptor}`, to], (a, b) =>
    checked('linkat', libc.linkat(AT_FDCWD, a!, AT_FDCWD, b!, followSymlink)),
  );
}

export function getXattr(path: Path, name: string): string {
  const buffer = libc.malloc(65_536);
  try {
    const length = withPaths([path, name], (p, n) => checked('lgetxattr', libc.lgetxattr(p!, n!, buffer, 65_536)));
    return Buffer.from(libc.viewOf(buffer, Math.max(length, 1)))
      .subarray(0, length)
      .toString('latin1');
  } finally {
    libc.free(buffer);
  }
}

export function setXattr(path: Path, name: string, value: string, flags = 0): void {
  const length = Buffer.byteLength(value, 'latin1');
  withPaths([path, name, Buffer.from(value, 'latin1')], (p, n, v) =>
    checked('lsetxattr', libc.lsetxattr(p!, n!, v!, length, flags)),
  );
}

export function removeXattr(path: Path, name: string): void {
  withPaths([path, name], (p, n) => checked('lremovexattr', libc.lremovexattr(p!, n!)));
}

export function fallocate(descriptor: number, mode: number, offset: number, length: number): void {
  checked('fallocate', libc.fallocate(descriptor, mode, offset, length));
}

export function seek(descriptor: number, offset: number, whence: number): number {
  return checked('lseek', libc.lseek(descriptor, offset, whence));
}

/** From one file to the other, from their starts unless told otherwise. */
export function copyFileRange(from: number, to: number, length: number, { at = 0, offset = 0 } = {}): number {
  const offsets = libc.malloc(16);
  new Uint32Array(libc.viewOf(offsets, 16)).set([at, 0, offset, 0]);
  try {
    return checked('copy_file_range', libc.copyFileRange(from, offsets, to, offsets + 8, length, 0));
  } finally {
    libc.free(offsets);
  }
}

/** Names in a directory with the inode numbers that the listing gives them, from a position on. */
export function numbersIn(path: string, offset = 0): Map<string, bigint> {
  const found = new Map<string, bigint>();
  const descriptor = openSync(path, 'r');
  try {
    if (offset !== 0) seek(descriptor, offset, 0);
    for (;;) {
      const entries = nextEntries(descriptor, 65_536);
      if (entries.length === 0) return found;
      for (const [name, number] of entries) found.set(name, number);
    }
  } finally {
    closeSync(descriptor);
  }
}

/** As many entries of an open directory as go into a buffer of `size` bytes, and no more than one call gives. */
export function nextEntries(descriptor: number, size: number): [name: string, number: bigint][] {
  const buffer = libc.malloc(size);
  try {
    const bytes = Buffer.from(libc.viewOf(buffer, size));
    const read = checked('getdents64', libc.getdents64(descriptor, buffer, size));
    const found: [string, bigint][] = [];
    for (let at = 0; at < read; at += bytes.readUInt16LE(at + 16))
      found.push([bytes.toString('latin1', at + 19, bytes.indexOf(0, at + 19)), bytes.readBigUInt64LE(at)]);
    return found;
  } finally {
    libc.free(buffer);
  }
}

export function listXattrs(path: Path): string[] {
  const size = 65_536;
  const buffer = libc.malloc(size);
  try {
    const length = withPaths([path], (p) => checked('llistxattr', libc.llistxattr(p!, buffer, size)));
    return Buffer.from(libc.viewOf(buffer, size)).toString('latin1', 0, length).split('\0').slice(0, -1);
  } finally {
    libc.free(buffer);
  }
}

export function makeFifo(path: Path, mode: number): void {
  withPaths([path], (p) => checked('mknodat', libc.mknodat(AT_FDCWD, p!, 0o010000 | mode, 0)));
}

export interface Mapping {
  readonly bytes: Uint8Array;
  sync(): void;
  unmap(): void;
}

const msync = koffi.load('libc.so.6').func('int msync(uintptr_t, size_t, int)') as (...args: number[]) => number;

const syncFileRange = koffi.load('libc.so.6').func('int sync_file_range(int, int64_t, int64_t, uint32_t)') as (
  ...args: number[]
) => number;

/** Writes dirty pages of a file back and waits for them, as the kernel does by itself: unlike fsync without the inode's lock. */
export function writeBack(descriptor: number): void {
  const waitBeforeWriteWaitAfter = 7;
  checked('sync_file_range', syncFileRange(descriptor, 0, 0, waitBeforeWriteWaitAfter));
}

/** Maps a file MAP_SHARED, readable and writable. */
export function mapShared(descriptor: number, size: number): Mapping {
  const address = checked('mmap', libc.mmapShared(descriptor, size));
  return {
    bytes: new Uint8Array(libc.viewOf(address, size)),
    sync: () => void checked('msync', msync(address, size, 4)),
    unmap: () => void checked('munmap', libc.munmap(address, size)),
  };
}

/** Runs `use` on this thread with another user's filesystem identity: without any privilege over files. */
export function asUser<T>(id: number, use: () => T): T {
  libc.setfsgid(id);
  libc.setfsuid(id);
  try {
    return use();
  } finally {
    libc.setfsuid(0);
    libc.setfsgid(0);
  }
}

/** Runs `use` with a file mode creation mask. */
export function withUmask<T>(mask: number, use: () => T): T {
  const before = libc.umask(mask);
  try {
    return use();
  } finally {
    libc.umask(before);
  }
}
