/**
 * OPENDIR, READDIR, READDIRPLUS, RELEASEDIR. The first read of a handle lists the merged directory into memory of the process;
 * later reads copy from there, so a listing is stable while names come and go. The kernel keeps the listing too
 * (FOPEN_CACHE_DIR) and drops it when it changes the directory itself.
 */
import { H, HANDLE } from '../inode/handle-table.ts';
import { DIRENT, direntBytes, ENTRY, FOPEN, OPEN_OUT } from '../protocol/abi.ts';
import { DT_DIR, EBADF, ENFILE, ENOTDIR } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { listDirectory } from './listing.ts';
import { putEntry } from './lookup.ts';
import { findChild } from './tree.ts';

export function opendir(context: Context): number {
  const { slot, inodes, handles } = context;
  if (inodes.kind(slot) !== DT_DIR) return -ENOTDIR;
  const handle = handles.allocate(slot, -1, HANDLE.directory);
  if (handle === 0) return -ENFILE;
  context.out64(0, handle);
  context.out32(8, context.exclusive ? FOPEN.KEEP_CACHE | FOPEN.CACHE_DIR : 0);
  context.out32(12, 0);
  return OPEN_OUT.size;
}

export function releasedir(context: Context): number {
  const handle = context.in32(0);
  if (!context.handles.isUsed(handle)) return 0;
  dropListing(context, handle);
  context.handles.free(handle);
  return 0;
}

function listingAddress(context: Context, handle: number): number {
  const { handles } = context;
  return handles.get(handle, H.listingLow) + handles.get(handle, H.listingHigh) * 0x100000000;
}

function dropListing(context: Context, handle: number): void {
  const address = listingAddress(context, handle);
  if (address !== 0) libc.free(address);
  setListing(context, handle, 0, 0);
}

function setListing(context: Context, handle: number, address: number, length: number): void {
  const { handles } = context;
  handles.set(handle, H.listingLow, address >>> 0);
  handles.set(handle, H.listingHigh, Math.floor(address / 0x100000000));
  handles.set(handle, H.listingLength, length);
}

/** Makes the listing for a read at `offset`: anew at the start, as rewinddir asks. Answers 0 or a negated errno. */
function prepare(context: Context, handle: number, offset: number): number {
  if (!context.handles.isUsed(handle)) return -EBADF;
  if (offset !== 0 && listingAddress(context, handle) !== 0) return 0;
  dropListing(context, handle);
  const listing = listDirectory(context, context.handles.slot(handle));
  if (typeof listing === 'number') return listing;
  setListing(context, handle, listing.address, listing.length);
  return 0;
}

/** fuse_read_in: fh, offset, size. The offset of an entry is the position of the next one. */
export function readdir(context: Context): number {
  const handle = context.in32(0);
  const offset = context.in64(8);
  const prepared = prepare(context, handle, offset);
  if (prepared < 0) return prepared;
  const { u32, out } = context;
  const left = context.handles.get(handle, H.listingLength) - offset;
  const bytes = Math.min(context.in32(16), left);
  if (bytes <= 0) return 0;
  libc.memcpy(context.base + out, listingAddress(context, handle) + offset, bytes);
  if (bytes === left) return bytes;
  let whole = 0;
  for (;;) {
    if (whole + DIRENT.name > bytes) return whole;
    const size = direntBytes(u32[(out + whole + DIRENT.nameLength) >>> 2]!);
    if (whole + size > bytes) return whole;
    whole += size;
  }
}

export function readdirplus(context: Context): number {
  const handle = context.in32(0);
  const offset = context.in64(8);
  const prepared = prepare(context, handle, offset);
  if (prepared < 0) return prepared;
  const { u8, u32, out, childName } = context;
  const size = context.in32(16);
  // An entry with attributes is longer than one without: this many bytes of the listing always suffice.
  const bytes = Math.min(size, context.handles.get(handle, H.listingLength) - offset, 60 * 1024);
  if (bytes <= 0) return 0;
  const source = context.listed;
  libc.memcpy(context.base + source, listingAddress(context, handle) + offset, bytes);
  let from = 0;
  let to = 0;
  while (from + DIRENT.name <= bytes) {
    const length = u32[(source + from + DIRENT.nameLength) >>> 2]!;
    const plain = direntBytes(length);
    if (from + plain > bytes || to + ENTRY.size + plain > size) break;
    putChild(context, out + to, source + from + DIRENT.name, length, childName);
    u8.copyWithin(out + to + ENTRY.size, source + from, source + from + plain);
    from += plain;
    to += ENTRY.size + plain;
  }
  return to;
}

/** fuse_entry_out of a listed name; node 0, which the kernel takes for "not asked", for dots and names just removed. */
function putChild(context: Context, to: number, name: number, length: number, buffer: number): void {
  const { u8, u32 } = context;
  const isDot = u8[name] === 0x2e && (length === 1 || (length === 2 && u8[name + 1] === 0x2e));
  let slot = 0;
  if (!isDot) {
    u8.copyWithin(buffer, name, name + length);
    u8[buffer + length] = 0;
    slot = findChild(context, context.slot, buffer, length);
  }
  if (slot > 0) putEntry(context, to, slot);
  else u32.fill(0, to >>> 2, (to + ENTRY.size) >>> 2);
}
