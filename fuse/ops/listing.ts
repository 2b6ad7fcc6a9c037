/**
 * Reading a merged directory from its branches. What is read goes into the name index: once all branches were read, the
 * directory is complete there, and names that it does not have cost nothing.
 */
import { listingAt } from '../inode/handle-table.ts';
import { F, INODE } from '../inode/inode-table.ts';
import { MAX_LISTING_BYTES } from '../inode/layout.ts';
import { D, hashNameAt } from '../inode/name-index.ts';
import { DIRENT, direntBytes } from '../protocol/abi.ts';
import {
  DT_DIR,
  DT_UNKNOWN,
  EIO,
  ENOMEM,
  EPERM,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOATIME,
  O_NOFOLLOW,
  O_RDONLY,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { type Context, firstBranch, isAbsent, nextBranch } from './context.ts';
import { evictNames } from './eviction.ts';
import { kindAt, shownHigh, shownLow } from './inode-number.ts';

/** For names of which nothing but the kind is known; what libfuse says then. */
const UNKNOWN_INO = 0xffffffff;
const RAW_BYTES = 64 * 1024;
const CHUNK_BYTES = 60 * 1024;
const MAX_READINGS = 16;

/** struct linux_dirent64. */
const RAW = { ino: 0, length: 16, type: 18, name: 19 } as const;

/** Where a listing's entries go: fuse_dirent records in the state memory, so that a successor goes on with the same listing. */
export class Listing {
  readonly #handle: number;
  length = 0;
  /** 0, or the error of a branch that could not be read and may have names that are not listed. */
  failure = 0;

  constructor(handle: number) {
    this.#handle = handle;
  }

  append({ state, base, chunk }: Context, bytes: number): boolean {
    if (this.length + bytes > MAX_LISTING_BYTES) return false;
    const written = libc.pwrite(state.fd, base + chunk, bytes, listingAt(this.#handle) + this.length);
    this.length += bytes;
    return written === bytes;
  }
}

/** Enters all names of a directory into the name index. Answers 0 or a negated errno. */
export function learnDirectory(context: Context, slot: number): number {
  return new Reader(context, slot, undefined).read();
}

/**
 * The same, and makes the listing of a handle, as far as there are branches that can be read: see `failure`. A negated errno when
 * none can.
 */
export function listDirectory(context: Context, handle: number): Listing | number {
  const listing = new Listing(handle);
  const result = new Reader(context, context.handles.slot(handle), listing).read();
  listing.failure = result;
  return result === 0 || (result !== -ENOMEM && listing.length > 0) ? listing : result;
}

class Reader {
  readonly #context: Context;
  readonly #slot: number;
  readonly #listing: Listing | undefined;
  readonly #severalBranches: boolean;
  /** Names seen, where the index cannot tell: with other writers on the branches, or when it is full. */
  readonly #seen = new Set<string>();
  #indexing: boolean;
  #filled = 0;
  #emitted = 0;

  constructor(context: Context, slot: number, listing: Listing | undefined) {
    this.#context = context;
    this.#slot = slot;
    this.#listing = listing;
    this.#indexing = context.exclusive;
    const low = context.inodes.get(slot, F.maskLow);
    const high = context.inodes.get(slot, F.maskHigh);
    this.#severalBranches = nextBranch(low, high, firstBranch(low, high) + 1) >= 0;
  }

  read(): number {
    const { inodes, state } = this.#context;
    this.#count(1);
    const result = this.#readSteady();
    if (result === 0 && this.#indexing) {
      state.lock();
      // A branch added meanwhile was made by a create, which entered its name itself.
      inodes.setFlag(this.#slot, INODE.complete);
      state.unlock();
    }
    this.#count(-1);
    evictNames(this.#context);
    return result;
  }

  /** While somebody counts here, the directory's names stay in the index. */
  #count(change: number): void {
    const { inodes, state } = this.#context;
    state.lock();
    inodes.add(this.#slot, F.listers, change);
    state.unlock();
  }

  /** A file that changed its branch meanwhile may have been met twice, or not at all: then the directory is read again. */
  #readSteady(): number {
    const { state } = this.#context;
    for (let attempt = 1; ; attempt++) {
      const stamp = state.switchStamp();
      const result = this.#readAll();
      const isSteady = stamp >= 0 && stamp === state.switchStamp();
      if (isSteady || result < 0 || attempt === MAX_READINGS) return result;
      this.#seen.clear();
      this.#filled = 0;
      if (this.#listing !== undefined) this.#listing.length = 0;
      libc.schedYield();
    }
  }

  #readAll(): number {
    const { exclusive, inodes } = this.#context;
    if (this.#listing !== undefined) this.#dots();
    const low = inodes.get(this.#slot, F.maskLow);
    const high = inodes.get(this.#slot, F.maskHigh);
    let failure = inodes.has(this.#slot, INODE.uncertain) ? -EIO : 0;
    for (let branch = firstBranch(low, high); branch >= 0; branch = nextBranch(low, high, branch + 1)) {
      const emitted = this.#emitted;
      // All names are known: nobody waits for a branch that does not answer.
      if (!this.#context.gate.answers(branch) && this.#emitKnown(branch)) continue;
      const result = this.#readBranch(branch);
      if (result === -ENOMEM) return result;
      if (result === 0 || (isAbsent(result) && !exclusive)) continue;
      if (emitted !== this.#emitted || !this.#emitKnown(branch)) failure ||= result;
    }
    return this.#flush() ? failure : -ENOMEM;
  }

  /** The names of a branch that cannot be read, as far as the index has them all. */
  #emitKnown(branch: number): boolean {
    const { inodes, names, state } = this.#context;
    if (this.#listing === undefined || !this.#context.exclusive || !inodes.has(this.#slot, INODE.complete))
      return false;
    state.lock();
    for (let child = inodes.get(this.#slot, F.firstChild); child !== 0; child = names.get(child, D.nextSibling)) {
      if (firstBranch(names.get(child, D.maskLow), names.get(child, D.maskHigh)) !== branch) continue;
      const inode = names.get(child, D.inode);
      const ino = inode === 0 ? UNKNOWN_INO : inodes.get(inode, F.inoLow);
      const to = this.#place(names.get(child, D.name), names.nameLength(child));
      if (to !== 0)
        this.#header(
          to,
          ino,
          inode === 0 ? 0 : inodes.get(inode, F.inoHigh),
          names.nameLength(child),
          names.kind(child),
        );
    }
    state.unlock();
    return true;
  }

  #readBranch(branch: number): number {
    const { base, directories, u8, path } = this.#context;
    const directory = directories.descriptor(this.#slot, branch);
    if (directory < 0) return directory;
    u8[path] = 0x2e;
    u8[path + 1] = 0;
    const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    // Nobody asked for the names when they are only learned: the directory was not accessed.
    let descriptor = libc.openat(directory, base + path, this.#listing === undefined ? flags | O_NOATIME : flags, 0);
    if (descriptor === -EPERM) descriptor = libc.openat(directory, base + path, flags, 0);
    if (descriptor < 0) return descriptor;
    let result = 0;
    for (;;) {
      const bytes = libc.getdents64(descriptor, base + this.#context.raw, RAW_BYTES);
      if (bytes <= 0) {
        result = bytes;
        break;
      }
      if (!this.#take(branch, bytes)) {
        result = -ENOMEM;
        break;
      }
    }
    libc.close(descriptor);
    return result;
  }

  #take(branch: number, bytes: number): boolean {
    const { u8, raw } = this.#context;
    for (let at = raw; at < raw + bytes; at += u8[at + RAW.length]! | (u8[at + RAW.length + 1]! << 8)) {
      const name = at + RAW.name;
      const length = this.#context.lengthAt(name);
      if (isDot(u8, name, length) || this.#context.isReserved(this.#slot, name, length)) continue;
      let type = u8[at + RAW.type]!;
      if (type === DT_UNKNOWN) type = this.#kindOf(branch, name);
      const isFirst = this.#context.exclusive ? this.#index(branch, name, length, type) : this.#isNew(name, length);
      if (isFirst && this.#listing !== undefined && !this.#emit(branch, at, length, type)) return false;
    }
    return true;
  }

  #kindOf(branch: number, name: number): number {
    const directory = this.#context.directories.descriptor(this.#slot, branch);
    if (this.#context.statName(directory, this.#context.base + name, this.#context.stat2) < 0) return DT_UNKNOWN;
    return kindAt(this.#context, this.#context.stat2);
  }

  /** Enters a name found on a branch. True when no earlier branch has it. */
  #index(branch: number, name: number, length: number, type: number): boolean {
    const { inodes, names, state, u8 } = this.#context;
    const hash = hashNameAt(u8, this.#slot, name, length);
    state.lock();
    let dentry = names.find(this.#slot, name, length, hash);
    if (dentry === 0) dentry = names.insert(this.#slot, name, length, hash, type);
    if (dentry === 0) {
      // Full: this name and others that are not in the index are told apart here.
      this.#indexing = false;
      state.unlock();
      return this.#isNew(name, length);
    }
    // A later branch's file shows, so the one that was read here is on its way there.
    const slot = names.get(dentry, D.inode);
    if (slot === 0 || inodes.kind(slot) === DT_DIR || branch >= inodes.get(slot, F.branch))
      names.addBranch(dentry, branch);
    const isFirst = firstBranch(names.get(dentry, D.maskLow), names.get(dentry, D.maskHigh)) === branch;
    state.unlock();
    return isFirst;
  }

  #isNew(name: number, length: number): boolean {
    if (!this.#severalBranches) return true;
    const text = Buffer.from(this.#context.u8.subarray(name, name + length)).toString('latin1');
    if (this.#seen.has(text)) return false;
    this.#seen.add(text);
    return true;
  }

  /** One fuse_dirent from the raw entry at `at`. */
  #emit(branch: number, at: number, length: number, type: number): boolean {
    const { u8 } = this.#context;
    const to = this.#place(at + RAW.name, length);
    if (to === 0) return false;
    const low = u8[at]! | (u8[at + 1]! << 8) | (u8[at + 2]! << 16) | (u8[at + 3]! << 24);
    const high = u8[at + 4]! | (u8[at + 5]! << 8) | (u8[at + 6]! << 16) | (u8[at + 7]! << 24);
    const [lowerLow, lowerHigh] = [low >>> 0, high >>> 0];
    const shown = shownHigh(this.#context, branch, lowerLow, lowerHigh);
    this.#header(to, shownLow(this.#context, branch, lowerLow, lowerHigh), shown, length, type);
    return true;
  }

  /** Room for a record in the chunk, with the name at a position in it; where it is, or 0 when there is no memory. */
  #place(name: number, length: number): number {
    const { u8, u32, chunk } = this.#context;
    const size = direntBytes(length);
    if (this.#filled + size > CHUNK_BYTES && !this.#flush()) return 0;
    const to = chunk + this.#filled;
    u8.fill(0, to + size - 8, to + size);
    u8.copyWithin(to + DIRENT.name, name, name + length);
    u32[(to + DIRENT.offset) >>> 2] = this.#listing!.length + this.#filled + size;
    this.#filled += size;
    this.#emitted++;
    return to;
  }

  #header(to: number, inoLow: number, inoHigh: number, length: number, type: number): void {
    const { u32 } = this.#context;
    const word = to >>> 2;
    u32[word] = inoLow;
    u32[word + 1] = inoHigh;
    u32[word + 3] = 0;
    u32[word + 4] = length;
    u32[word + 5] = type;
  }

  #dots(): void {
    const { chunk, inodes, names, u8, u32 } = this.#context;
    const dentry = inodes.get(this.#slot, F.dentry);
    const parent = dentry === 0 ? this.#slot : names.get(dentry, D.parent);
    for (const [slot, length] of [
      [this.#slot, 1],
      [parent, 2],
    ] as const) {
      const to = chunk + this.#filled;
      u8.fill(0, to + DIRENT.name, to + DIRENT.name + 8);
      u8.fill(0x2e, to + DIRENT.name, to + DIRENT.name + length);
      this.#header(to, inodes.get(slot, F.inoLow), inodes.get(slot, F.inoHigh), length, DT_DIR);
      this.#filled += direntBytes(length);
      u32[(to + DIRENT.offset) >>> 2] = this.#filled;
    }
  }

  #flush(): boolean {
    if (this.#listing === undefined || this.#filled === 0) return true;
    const filled = this.#filled;
    this.#filled = 0;
    return this.#listing.append(this.#context, filled);
  }
}

function isDot(u8: Uint8Array, name: number, length: number): boolean {
  return u8[name] === 0x2e && (length === 1 || (length === 2 && u8[name + 1] === 0x2e));
}
