/**
 * OPENDIR, READDIR, READDIRPLUS, RELEASEDIR. The first read of a handle lists the merged directory into the state memory;
 * later reads copy from there, so a listing is stable while names come and go, and servers too. The kernel keeps the listing too
 * (FOPEN_CACHE_DIR), for one open directory at a time, and drops it when it changes the directory itself; who is in the middle of it
 * then has the rest from here. Where a branch cannot be read, what the others have is listed, and what the index knows of it; unless
 * that is all, EIO ends the listing: nobody takes a part for the whole.
 */
import { H, HANDLE, type HandleTable, listingAt } from '../inode/handle-table.ts';
import { F } from '../inode/inode-table.ts';
import { MAX_LISTING_BYTES } from '../inode/layout.ts';
import { D, hashNameAt } from '../inode/name-index.ts';
import { DIRENT, direntBytes, ENTRY, FOPEN, OPEN_OUT } from '../protocol/abi.ts';
import { DT_DIR, EBADF, EINVAL, EIO, ENFILE, ENOTDIR } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { type Context, firstBranch, nextBranch } from './context.ts';
import { forget } from './forget.ts';
import { listDirectory } from './listing.ts';
import { putEntry } from './lookup.ts';
import { findChild } from './tree.ts';

const CHUNK_BYTES = 60 * 1024;
const FALLOC_FL_PUNCH_HOLE_KEEP_SIZE = 3;

export function opendir(context: Context): number {
  const { attributes, slot, inodes, handles } = context;
  if (inodes.kind(slot) !== DT_DIR) return -ENOTDIR;
  const isCacheable = context.exclusive && attributes.position(slot) !== 0; // the record says whose the kernel's listing is
  context.state.lock();
  const isCached = isCacheable && !usesCache(handles, attributes.cachedBy(slot), slot);
  const handle = handles.allocate(slot, -1, isCached ? HANDLE.directory | HANDLE.cached : HANDLE.directory);
  if (isCached) attributes.setCachedBy(slot, handle);
  context.journal.setHandle(handle);
  context.state.unlock();
  if (handle === 0) return -ENFILE;
  context.out64(0, handle);
  // Without KEEP_CACHE an open drops the listing from under whoever is using it.
  context.out32(8, (context.exclusive ? FOPEN.KEEP_CACHE : 0) | (isCached ? FOPEN.CACHE_DIR : 0));
  context.out32(12, 0);
  return OPEN_OUT.size;
}

/**
 * Whether a handle, if it is still open, may use the kernel's listing of a directory. That is for one at a time: the kernel does not
 * notice that a name came or went while two begin to read, as it dates the older one's listing by the younger one's beginning. And
 * when one replaces it, another that is in the middle of it goes on at the same offset of the new one, where the names are in other
 * places.
 */
function usesCache(handles: HandleTable, handle: number, slot: number): boolean {
  return (
    handles.isUsed(handle) && handles.slot(handle) === slot && (handles.get(handle, H.flags) & HANDLE.cached) !== 0
  );
}

/**
 * Before a name in a directory comes, changes or goes: whoever reads the kernel's listing of it gets its own, which is the same as
 * long as nothing has changed. Pages of the kernel's may be given up to memory at any time, and the rest is asked for then.
 */
export function keepListing(context: Context, slot: number): void {
  const { attributes, handles, state } = context;
  if (!attributes.isCached(slot)) return;
  const handle = attributes.cachedBy(slot);
  // Nobody reads the directory while the kernel has it changed, but it may be closed.
  state.lockInode(slot);
  if (usesCache(handles, handle, slot) && handles.get(handle, H.listingLength) === 0) makeListing(context, handle);
  state.unlockInode(slot);
  attributes.setCached(slot, false);
}

export function releasedir(context: Context): number {
  const handle = context.in32(0);
  if (context.handles.isUsed(handle) && !context.journal.hasClosed(handle)) closeListing(context, handle);
  return 0;
}

/** Closes an open directory. */
export function closeListing(context: Context, handle: number): void {
  const { handles, journal, state } = context;
  const slot = handles.slot(handle);
  state.lockInodeAnyhow(slot);
  dropListing(context, handle);
  state.lock();
  handles.free(handle);
  journal.dropHandle(handle);
  state.unlock();
  state.unlockInode(slot);
}

function dropListing(context: Context, handle: number): void {
  if (context.handles.get(handle, H.listingLength) === 0) return;
  setListing(context, handle, 0);
  freeListing(context, handle);
}

function freeListing({ state }: Context, handle: number): void {
  libc.fallocate(state.fd, FALLOC_FL_PUNCH_HOLE_KEEP_SIZE, listingAt(handle), MAX_LISTING_BYTES);
}

function setListing(context: Context, handle: number, length: number): void {
  context.handles.set(handle, H.listingLength, length);
  setRead(context, handle, 0, 0);
}

/** Copies a part of a listing. Answers 0 or a negated errno. */
function readListing(context: Context, handle: number, offset: number, to: number, bytes: number): number {
  const read = libc.pread(context.state.fd, context.base + to, bytes, listingAt(handle) + offset);
  return read === bytes ? 0 : -EIO;
}

/** Makes the listing for a read at `offset`: anew at the start, as rewinddir asks. Answers 0 or a negated errno. */
function prepare(context: Context, handle: number, offset: number): number {
  const { handles } = context;
  if (!handles.isUsed(handle)) return -EBADF;
  if (offset !== 0 && handles.get(handle, H.listingLength) !== 0) return isPlace(context, handle, offset) ? 0 : -EINVAL;
  dropListing(context, handle);
  const made = makeListing(context, handle);
  if (made < 0) return made;
  return isPlace(context, handle, offset) ? 0 : -EINVAL;
}

/** The listing of a handle that has none. Answers 0 or a negated errno. */
function makeListing(context: Context, handle: number): number {
  const { handles } = context;
  const listing = listDirectory(context, handle);
  if (typeof listing === 'number') {
    freeListing(context, handle);
    return listing;
  }
  const flags = handles.get(handle, H.flags) & ~HANDLE.broken;
  handles.set(handle, H.flags, listing.failure === 0 ? flags : flags | HANDLE.broken);
  setListing(context, handle, listing.length);
  return 0;
}

/** Whether an entry begins at `offset`. Anyone can seek to anywhere, and a name taken for a header can say anything. */
function isPlace(context: Context, handle: number, offset: number): boolean {
  const { handles, u32, listed } = context;
  const end = handles.get(handle, H.listingLength);
  if (offset === 0 || offset === handles.get(handle, H.readTo)) return true;
  if (offset >= end) return offset === end;
  let at = offset >= handles.get(handle, H.readFrom) ? handles.get(handle, H.readFrom) : 0;
  while (at < offset) {
    const bytes = Math.min(offset + DIRENT.name, at + CHUNK_BYTES, end) - at;
    if (readListing(context, handle, at, listed, bytes) < 0) return false;
    let seen = 0;
    while (at + seen < offset && seen + DIRENT.name <= bytes)
      seen += direntBytes(u32[(listed + seen + DIRENT.nameLength) >>> 2]!);
    at += seen;
  }
  return at === offset;
}

/** At the end of a listing: nothing more, which the kernel keeps with the rest, or EIO when there are names that could not be read. */
function endOf({ attributes, handles, slot }: Context, handle: number): number {
  if ((handles.get(handle, H.flags) & HANDLE.broken) !== 0) return -EIO;
  if (usesCache(handles, handle, slot)) attributes.setCached(slot, true);
  return 0;
}

/** What was read last: the next read goes on from there, or from within. */
function setRead(context: Context, handle: number, offset: number, bytes: number): void {
  context.handles.set(handle, H.readFrom, offset);
  context.handles.set(handle, H.readTo, offset + bytes);
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
  if (bytes <= 0) return endOf(context, handle);
  const copied = readListing(context, handle, offset, out, bytes);
  if (copied < 0) return copied;
  const isMerged = isOnSeveralBranches(context);
  let whole = bytes === left && !isMerged ? bytes : 0;
  while (whole + DIRENT.name <= bytes) {
    const size = direntBytes(u32[(out + whole + DIRENT.nameLength) >>> 2]!);
    if (whole + size > bytes) break;
    if (isMerged && u32[(out + whole + DIRENT.type) >>> 2] === DT_DIR) renumber(context, out + whole);
    whole += size;
  }
  setRead(context, handle, offset, whole);
  return whole;
}

function isOnSeveralBranches({ inodes, slot }: Context): boolean {
  const low = inodes.get(slot, F.maskLow);
  const high = inodes.get(slot, F.maskHigh);
  return nextBranch(low, high, firstBranch(low, high) + 1) >= 0;
}

/** A directory with several copies has the number of the oldest: only looking it up tells which. */
function renumber(context: Context, at: number): void {
  const { u32, childName } = context;
  const slot = childOf(context, at + DIRENT.name, u32[(at + DIRENT.nameLength) >>> 2]!, childName);
  if (slot <= 0) return;
  putNumber(context, at, slot);
  forget(context, slot, 1);
}

function putNumber({ u32, inodes }: Context, at: number, slot: number): void {
  u32[(at + DIRENT.ino) >>> 2] = inodes.get(slot, F.inoLow);
  u32[(at + DIRENT.ino + 4) >>> 2] = inodes.get(slot, F.inoHigh);
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
  if (bytes <= 0) return endOf(context, handle);
  const source = context.listed;
  const copied = readListing(context, handle, offset, source, bytes);
  if (copied < 0) return copied;
  let from = 0;
  let to = 0;
  while (from + DIRENT.name <= bytes) {
    const length = u32[(source + from + DIRENT.nameLength) >>> 2]!;
    const plain = direntBytes(length);
    if (from + plain > bytes || to + ENTRY.size + plain > size) break;
    const known = findTold(context, source + from + DIRENT.name, length);
    const slot = known !== 0 ? 0 : childOf(context, source + from + DIRENT.name, length, childName);
    u8.copyWithin(out + to + ENTRY.size, source + from, source + from + plain);
    if (known !== 0) putNumber(context, out + to + ENTRY.size, known);
    // Node 0, which the kernel takes for "not asked", for dots, names just removed, and what it knows.
    if (slot <= 0) u32.fill(0, (out + to) >>> 2, (out + to + ENTRY.size) >>> 2);
    else {
      putEntry(context, out + to, slot);
      putNumber(context, out + to + ENTRY.size, slot);
    }
    from += plain;
    to += ENTRY.size + plain;
  }
  setRead(context, handle, offset, from);
  return to;
}

/**
 * The file of a listed name if the kernel knows it and its attributes, or 0: telling it again costs both sides more than a program saves
 * that wants names only.
 */
function findTold(
  { exclusive, inodes, kept, names, slot: parent, state, u8 }: Context,
  name: number,
  length: number,
): number {
  if (!exclusive) return 0;
  const hash = hashNameAt(u8, parent, name, length);
  state.lock();
  const dentry = names.find(parent, name, length, hash);
  const slot = dentry !== 0 && kept.isTold(dentry) ? names.get(dentry, D.inode) : 0;
  const isKnown = slot !== 0 && inodes.get(slot, F.lookups) !== 0;
  state.unlock();
  return isKnown ? slot : 0;
}

/** The child of a listed name, with its attributes in `stat`; 0 for dots and names just removed. Takes a lookup. */
function childOf(context: Context, name: number, length: number, buffer: number): number {
  const { u8 } = context;
  if (u8[name] === 0x2e && (length === 1 || (length === 2 && u8[name + 1] === 0x2e))) return 0;
  u8.copyWithin(buffer, name, name + length);
  u8[buffer + length] = 0;
  return findChild(context, context.slot, buffer, length);
}
