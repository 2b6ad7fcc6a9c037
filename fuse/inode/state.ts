/**
 * The state memory: everything that the threads of a server share and that a later process can take over, in one memfd.
 * Fixed sections, reserved in full but backed by memory only where touched; all positions below 2^31 so that V8 keeps
 * them as small integers. Layout (bytes):
 *
 *   header      counters, locks, free lists (HEADER_BYTES)
 *   undo        what the table lock's holder has changed so far: pairs of position and old value
 *   branches    records of BRANCH_BYTES (branch/table.ts)
 *   threads     per reader: request buffer, reply buffer, scratch, journal (THREAD_BYTES each)
 *   inodes      records of INODE_BYTES (inode-table.ts)
 *   dentries    records of DENTRY_BYTES (name-index.ts)
 *   handles     records of HANDLE_BYTES (handle-table.ts)
 *   directories records of DIRECTORY_BYTES (directory-attributes.ts)
 *   files       records of FILE_BYTES (file-attributes.ts)
 *   buckets     two hash tables that grow by linear hashing
 *   names       NUL-terminated names in multiples of 16 bytes
 *
 * A process may be killed between any two stores. So whoever holds the table lock changes words with `put`, which notes the
 * old value first; `unlock` drops the notes, and a successor that finds the lock held puts the old values back (`recover`):
 * what is done under one hold of the lock is done wholly or not at all.
 *
 * Locks: `lock()` guards all tables; held for memory work only, never across a system call. Stripe locks (`lockInode`) may be
 * held across system calls and are taken before the table lock, never after, and one at a time.
 */
import * as libc from '../sys/libc.ts';

const MAGIC = 0x55434653;
/** Of everything that a successor reads: to be raised whenever a record or a position changes its meaning. */
export const STATE_VERSION = 3;

const MIB = 1 << 20;
export const MAX_READERS = 16;
/** Branch sets are masks of two 32-bit words. */
export const MAX_BRANCHES = 64;
export const REQUEST_BYTES = MIB + 64 * 1024;
export const REPLY_BYTES = MIB + 64 * 1024;
export const SCRATCH_BYTES = 320 * 1024;
export const JOURNAL_BYTES = 16 * 1024;
const THREAD_BYTES = REQUEST_BYTES + REPLY_BYTES + SCRATCH_BYTES + JOURNAL_BYTES;

export const INODE_BYTES = 64;
export const DENTRY_BYTES = 48;
export const HANDLE_BYTES = 32;
export const DIRECTORY_BYTES = 192;
export const FILE_BYTES = 144;
/** Named maxima: beyond them requests fail with ENOMEM or ENFILE, and nothing is forgotten that the kernel still knows. */
export const MAX_INODES = 8_000_000;
export const MAX_DENTRIES = 12_000_000;
export const MAX_HANDLES = 1_000_000;
/** Directories beyond these are looked at on every branch each time. */
export const MAX_DIRECTORIES = 1_000_000;
/** Files whose attributes are kept although the kernel forgot them. */
export const MAX_FILE_ATTRIBUTES = 128 * 1024;
const MAX_BUCKETS = 1 << 23;
const NAME_BYTES = 600 * MIB;

const HEADER_BYTES = 64 * 1024;
export const BRANCH_BYTES = 64 + 2 * 4096;
const UNDO_AT = HEADER_BYTES;
/** Words changed under one hold of the table lock: a few hundred at most. */
const MAX_UNDO = 32 * 1024;
/** In the position of a note: its value is bits that were set by the change, or cleared by it, and not the whole word. */
const UNDO_CLEARS = 0x80000000;
const UNDO_SETS = 0x40000000;
const UNDO_WORD = 0x3fffffff;
export const BRANCHES_AT = UNDO_AT + MAX_UNDO * 8;
const THREADS_AT = BRANCHES_AT + MAX_BRANCHES * BRANCH_BYTES;
export const INODES_AT = THREADS_AT + MAX_READERS * THREAD_BYTES;
export const DENTRIES_AT = INODES_AT + MAX_INODES * INODE_BYTES;
export const HANDLES_AT = DENTRIES_AT + MAX_DENTRIES * DENTRY_BYTES;
export const DIRECTORIES_AT = HANDLES_AT + MAX_HANDLES * HANDLE_BYTES;
export const FILES_AT = DIRECTORIES_AT + MAX_DIRECTORIES * DIRECTORY_BYTES;
export const NAME_BUCKETS_AT = FILES_AT + MAX_FILE_ATTRIBUTES * FILE_BYTES;
export const LINK_BUCKETS_AT = NAME_BUCKETS_AT + MAX_BUCKETS * 4;
export const NAMES_AT = LINK_BUCKETS_AT + MAX_BUCKETS * 4;
export const NAMES_END = NAMES_AT + NAME_BYTES;
const TOTAL_BYTES = NAMES_END;
/** Changes with any size above. */
const LAYOUT = [THREADS_AT, INODES_AT, DENTRIES_AT, HANDLES_AT, DIRECTORIES_AT, FILES_AT, NAMES_AT, NAMES_END].reduce(
  (sum, position) => (Math.imul(sum, 31) + position) >>> 0,
  0,
);

/** Header words: indices into the u32 view. */
export const WORD = {
  magic: 0,
  version: 1,
  tableLock: 2,
  inodeBump: 3,
  inodeFree: 4,
  inodeCount: 5,
  dentryBump: 6,
  dentryFree: 7,
  dentryCount: 8,
  nameBump: 9,
  nameBuckets: 10,
  nameSplit: 11,
  linkBuckets: 12,
  linkSplit: 13,
  linkCount: 14,
  handleBump: 15,
  handleFree: 16,
  handleCount: 17,
  listingStamp: 18,
  backingHand: 19,
  evictHand: 20,
  namespaceStarted: 21,
  namespaceFinished: 22,
  initialised: 23,
  initFlags: 24,
  initFlags2: 25,
  /** Counts the servers of this memory: what a dead one left behind is told by it. */
  generation: 26,
  undoCount: 27,
  directoryBump: 29,
  directoryFree: 30,
  descriptorEpoch: 31,
  layout: 28,
  /** Differs between any two state memories. */
  nonce: 69,
  treeLock: 68,
  attributeEpoch: 66,
  attributeHand: 67,
  /** 17 free lists of names, by size in 16 bytes. */
  nameFree: 32,
  branchCount: 64,
  branchVersion: 65,
  stripes: 256,
  backingRing: 1024,
  /** For each thread REQUEST_COUNTER_WORDS, of which two are a 64-bit counter: no two threads share a cache line. */
  requests: 4096,
} as const;
export const REQUEST_COUNTER_WORDS = 16;
const STRIPES = 256;
/** How many backing ids of closed files are kept for their next open. */
export const BACKING_RING = 2048;

const SPINS_BEFORE_YIELD = 100;

export class State {
  readonly fd: number;
  /** Address of the first byte in this process. */
  readonly base: number;
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;

  /** Who holds a lock: this thread's number + 1. */
  readonly #owner: number;

  private constructor(fd: number, thread: number) {
    this.#owner = thread + 1;
    const address = libc.mmapShared(fd, TOTAL_BYTES);
    if (address < 0) throw new Error(`cannot map the state memory of ${TOTAL_BYTES} bytes: errno ${-address}`);
    this.fd = fd;
    this.base = address;
    const buffer = libc.viewOf(address, TOTAL_BYTES);
    this.u8 = new Uint8Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.i32 = new Int32Array(buffer);
  }

  /** New, empty state memory. */
  static create(thread: number): State {
    const state = State.open(createStateMemory(), thread);
    state.publish();
    return state;
  }

  /** The state memory behind a descriptor: of a dead server, or not used yet; then it is empty until it is published. */
  static open(fd: number, thread: number): State {
    const result = libc.ftruncate(fd, TOTAL_BYTES);
    if (result < 0) throw new Error(`cannot size the state memory: errno ${-result}`);
    const state = new State(fd, thread);
    if (state.isPublished) state.#check();
    else state.#format();
    return state;
  }

  /** Record 0 of each table is never used: 0 means none. */
  #format(): void {
    const { u32 } = this;
    u32.fill(0, 0, HEADER_BYTES / 4); // whoever began before us was killed
    for (const word of [WORD.inodeBump, WORD.dentryBump, WORD.handleBump, WORD.directoryBump]) u32[word] = 1;
    u32[WORD.nameBump] = NAMES_AT;
    u32[WORD.nameBuckets] = u32[WORD.linkBuckets] = 1024;
    u32[WORD.generation] = 1;
    u32[WORD.nonce] = Math.floor(Math.random() * 0x100000000);
    u32[WORD.layout] = LAYOUT;
    u32[WORD.version] = STATE_VERSION;
  }

  get isPublished(): boolean {
    return this.u32[WORD.magic] === MAGIC;
  }

  /** From now on a successor takes it over. */
  publish(): void {
    this.u32[WORD.magic] = MAGIC;
  }

  /** The same memory in another thread. */
  static attach(fd: number, thread: number): State {
    const state = new State(fd, thread);
    if (!state.isPublished) throw new Error('descriptor is not state memory of a union');
    state.#check();
    return state;
  }

  #check(): void {
    const version = this.u32[WORD.version]!;
    if (version === STATE_VERSION && this.u32[WORD.layout] === LAYOUT) return;
    throw new Error(
      `state memory has version ${version}, this program reads ${STATE_VERSION}; unmount, and mount again with this program`,
    );
  }

  /**
   * Changes a word. By the holder of the table lock: with a note of what it was. Anyone else's change must be right by itself.
   */
  put(word: number, value: number): void {
    const { u32 } = this;
    if (u32[WORD.tableLock] === this.#owner) this.#note(word, u32[word]!);
    u32[word] = value;
  }

  /** Sets bits of a word in which others may change other bits at the same time, without the lock. */
  setBits(word: number, bits: number): void {
    if (this.u32[WORD.tableLock] === this.#owner) this.#note((word | UNDO_CLEARS) >>> 0, bits & ~this.u32[word]!);
    Atomics.or(this.i32, word, bits);
  }

  clearBits(word: number, bits: number): void {
    if (this.u32[WORD.tableLock] === this.#owner) this.#note(word | UNDO_SETS, bits & this.u32[word]!);
    Atomics.and(this.i32, word, ~bits);
  }

  #note(word: number, old: number): void {
    const { u32 } = this;
    const count = u32[WORD.undoCount]!;
    if (count === MAX_UNDO) throw new Error(`more than ${MAX_UNDO} words changed under one lock`);
    const at = UNDO_AT / 4 + 2 * count;
    u32[at] = word;
    u32[at + 1] = old;
    u32[WORD.undoCount] = count + 1;
  }

  /** Within a hold of the table lock that may change very much, where the tables are whole: what was done so far stays. */
  settleIfLong(): void {
    if (this.u32[WORD.undoCount]! > MAX_UNDO / 2) this.u32[WORD.undoCount] = 0;
  }

  #undo(): void {
    const { u32 } = this;
    for (let count = u32[WORD.undoCount]!; count > 0; count--) {
      const at = UNDO_AT / 4 + 2 * (count - 1);
      const word = u32[at]! & UNDO_WORD;
      if ((u32[at]! & UNDO_SETS) !== 0) Atomics.or(this.i32, word, u32[at + 1]!);
      else if (u32[at]! > UNDO_CLEARS) Atomics.and(this.i32, word, ~u32[at + 1]!);
      else u32[word] = u32[at + 1]!;
      u32[WORD.undoCount] = count - 1;
    }
  }

  /**
   * After the death of the process that used this memory, and before anyone else does: undoes what it was just changing, and
   * frees its locks. Can itself be killed and repeated.
   */
  recover(): void {
    const { i32, u32 } = this;
    this.#undo();
    for (let stripe = 0; stripe < STRIPES; stripe++) i32[WORD.stripes + stripe] = 0;
    i32[WORD.treeLock] = i32[WORD.tableLock] = 0;
    u32[WORD.namespaceFinished] = u32[WORD.namespaceStarted]!;
    u32[WORD.generation]!++;
  }

  lock(): void {
    this.#acquire(WORD.tableLock);
  }

  unlock(): void {
    this.u32[WORD.undoCount] = 0;
    Atomics.store(this.i32, WORD.tableLock, 0);
  }

  /**
   * Directories are made on further branches, and directories are renamed, one at a time: neither must see half of the other.
   * Held across system calls; taken before all other locks.
   */
  lockTree(): void {
    this.#acquire(WORD.treeLock);
  }

  unlockTree(): void {
    Atomics.store(this.i32, WORD.treeLock, 0);
  }

  /** Serialises open and release of one inode, and the loss of a name, among threads. */
  lockInode(slot: number): void {
    this.#acquire(WORD.stripes + (slot % STRIPES));
  }

  /** For who holds another inode's lock already: does not wait. */
  tryLockInode(slot: number): boolean {
    return Atomics.compareExchange(this.i32, WORD.stripes + (slot % STRIPES), 0, this.#owner) === 0;
  }

  unlockInode(slot: number): void {
    Atomics.store(this.i32, WORD.stripes + (slot % STRIPES), 0);
  }

  /** After an exception: gives up whatever lock this thread still holds. */
  releaseOwnLocks(): void {
    const release = (word: number) => Atomics.compareExchange(this.i32, word, this.#owner, 0);
    if (this.u32[WORD.tableLock] === this.#owner) this.#undo();
    release(WORD.tableLock);
    release(WORD.treeLock);
    for (let stripe = 0; stripe < STRIPES; stripe++) release(WORD.stripes + stripe);
  }

  #acquire(word: number): void {
    for (let spins = 0; Atomics.compareExchange(this.i32, word, 0, this.#owner) !== 0; spins++)
      if (spins > SPINS_BEFORE_YIELD) libc.schedYield();
  }

  /** Requests that all threads have read. */
  requestCount(): number {
    let count = 0;
    for (let thread = 0; thread < MAX_READERS; thread++) {
      const word = WORD.requests + thread * REQUEST_COUNTER_WORDS;
      count += this.u32[word]! + this.u32[word + 1]! * 0x100000000;
    }
    return count;
  }

  /** Memory that the tables have used so far: it is given out again, not back. */
  indexBytes(): number {
    const { u32 } = this;
    return (
      u32[WORD.inodeBump]! * INODE_BYTES +
      u32[WORD.dentryBump]! * DENTRY_BYTES +
      u32[WORD.handleBump]! * HANDLE_BYTES +
      (u32[WORD.nameBuckets]! + u32[WORD.linkBuckets]!) * 4 +
      (u32[WORD.nameBump]! - NAMES_AT)
    );
  }

  /** Positions of one reader's buffers. Each is 8-byte aligned. */
  threadArea(thread: number): { request: number; reply: number; scratch: number; journal: number } {
    const request = THREADS_AT + thread * THREAD_BYTES;
    const reply = request + REQUEST_BYTES;
    const scratch = reply + REPLY_BYTES;
    return { request, reply, scratch, journal: scratch + SCRATCH_BYTES };
  }

  /** Makes every thread open its descriptors of directories anew: some of them are of copies that were removed. */
  dropDescriptors(): void {
    Atomics.add(this.i32, WORD.descriptorEpoch, 1);
  }

  /** Callers bracket a change of names on the branches, so that readers can tell that a name they used was stable. */
  namespaceBegin(): void {
    Atomics.add(this.i32, WORD.namespaceStarted, 1);
  }

  namespaceEnd(): void {
    Atomics.add(this.i32, WORD.namespaceFinished, 1);
  }

  /** A stamp if no name is being changed just now, else -1. */
  namespaceStamp(): number {
    const finished = Atomics.load(this.i32, WORD.namespaceFinished);
    const started = Atomics.load(this.i32, WORD.namespaceStarted);
    return started === finished ? started >>> 0 : -1;
  }
}

/** Memory for a state, still empty: a descriptor, owned by the caller, which outlives whoever uses it. */
export function createStateMemory(): number {
  const fd = libc.withCString('union-state', (name) => libc.memfdCreate(name, 1));
  if (fd < 0) throw new Error(`cannot create the state memory: errno ${-fd}`);
  return fd;
}
