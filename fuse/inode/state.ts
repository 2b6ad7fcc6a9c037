/**
 * The state memory: everything that the threads of a server share and that a later process can take over, in one memfd.
 * layout.ts says what is where.
 *
 * A process may be killed between any two stores. So whoever holds the table lock changes words with `put`, which notes the
 * old value first; `unlock` drops the notes, and a successor that finds the lock held puts the old values back (`recover`):
 * what is done under one hold of the lock is done wholly or not at all.
 *
 * Locks, in the order in which they are taken: those of files (`lockFiles`), the tree (`lockTree`), inodes (`lockInode`,
 * one at a time), the tables (`lock`). The last is held for memory work only, never across a system call.
 */
import { fstatSync } from 'node:fs';
import * as libc from '../sys/libc.ts';
import { Changes } from './changes.ts';
import {
  DENTRY_BYTES,
  FILE_LOCKS_AT,
  HANDLE_BYTES,
  HEADER_BYTES,
  INODE_BYTES,
  INODE_LOCKS_AT,
  LAYOUT,
  LOCKS,
  MAGIC,
  MAX_UNDO,
  MOST,
  NAMES_AT,
  REPLY_BYTES,
  REQUEST_BYTES,
  SCRATCH_BYTES,
  STATE_VERSION,
  THREAD_BYTES,
  THREADS_AT,
  TOTAL_BYTES,
  UNDO_AT,
  UNDO_CLEARS,
  UNDO_SETS,
  UNDO_WORD,
  WORD,
} from './layout.ts';
import { HolderWatch, LostLock } from './lost-lock.ts';
import { pause, SPINS_BEFORE_SLEEP } from './pause.ts';
import { migrate, whyUnreadable } from './versions.ts';

/** About half a second. */
const SPINS_BEFORE_LOOK = 2 * SPINS_BEFORE_SLEEP;

/** Stands between the code and the words, for tests that end a server between two stores. */
export type WordView = (words: Uint32Array) => Uint32Array;

export class State {
  readonly fd: number;
  /** Address of the first byte in this process. */
  readonly base: number;
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly f64: Float64Array;
  readonly changes: Changes;

  /** Who holds a lock: this thread's number + 1. */
  readonly #owner: number;
  /** While this thread holds the table lock, how many notes it has made; else -1. */
  #notes = -1;

  private constructor(fd: number, thread: number, view: WordView = (words) => words) {
    this.#owner = thread + 1;
    const address = libc.mmapShared(fd, TOTAL_BYTES);
    if (address < 0) throw new Error(`cannot map the state memory of ${TOTAL_BYTES} bytes: errno ${-address}`);
    this.fd = fd;
    this.base = address;
    const buffer = libc.viewOf(address, TOTAL_BYTES);
    this.u8 = new Uint8Array(buffer);
    this.u32 = view(new Uint32Array(buffer));
    this.i32 = new Int32Array(buffer);
    this.f64 = new Float64Array(buffer, 0, THREADS_AT / 8);
    this.changes = new Changes(this.i32, thread);
  }

  /** New, empty state memory. */
  static create(thread: number): State {
    const state = State.open(createStateMemory(), thread);
    state.publish();
    return state;
  }

  /** The state memory behind a descriptor: of a dead server, or not used yet; then it is empty until it is published. */
  static open(fd: number, thread: number, view?: WordView): State {
    // It is longer when there are listings.
    const result = fstatSync(fd).size < TOTAL_BYTES ? libc.ftruncate(fd, TOTAL_BYTES) : 0;
    if (result < 0) throw new Error(`cannot size the state memory: errno ${-result}`);
    const state = new State(fd, thread, view);
    if (state.isPublished) state.#takeOver();
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

  /** Memory of an older version is brought to this one, first as its server would have left it. */
  #takeOver(): void {
    this.#check();
    if (this.u32[WORD.version] !== STATE_VERSION) this.#undo();
    migrate(this.u32);
  }

  #check(): void {
    const reason = whyUnreadable(this.u32[WORD.version]!, this.u32[WORD.layout]!);
    if (reason !== undefined) throw new Error(reason);
    for (const [name, most] of Object.entries(MOST)) {
      const value = this.u32[WORD[name as keyof typeof WORD]]!;
      if (value > most)
        throw new Error(`state memory is damaged: ${name} is ${value}, above ${most}; unmount, and mount again`);
    }
  }

  /**
   * Changes a word. By the holder of the table lock: with a note of what it was. Anyone else's change must be right by itself.
   */
  put(word: number, value: number): void {
    const { u32 } = this;
    const old = u32[word]!;
    if (old === value) return;
    if (this.#notes >= 0) this.#note(word, old);
    u32[word] = value;
  }

  /** Sets bits of a word in which others may change other bits at the same time, without the lock. */
  setBits(word: number, bits: number): void {
    const changed = bits & ~this.u32[word]!;
    if (changed === 0) return;
    if (this.#notes >= 0) this.#note((word | UNDO_CLEARS) >>> 0, changed);
    Atomics.or(this.i32, word, bits);
  }

  clearBits(word: number, bits: number): void {
    const changed = bits & this.u32[word]!;
    if (changed === 0) return;
    if (this.#notes >= 0) this.#note(word | UNDO_SETS, changed);
    Atomics.and(this.i32, word, ~bits);
  }

  #note(word: number, old: number): void {
    const { u32 } = this;
    const count = this.#notes;
    if (count === MAX_UNDO) throw new Error(`more than ${MAX_UNDO} words changed under one lock`);
    const at = UNDO_AT / 4 + 2 * count;
    u32[at] = word;
    u32[at + 1] = old;
    u32[WORD.undoCount] = this.#notes = count + 1;
  }

  /** Within a hold of the table lock that may change very much, where the tables are whole: what was done so far stays. */
  settleIfLong(): void {
    if (this.#notes > MAX_UNDO / 2) this.u32[WORD.undoCount] = this.#notes = 0;
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
    const used = this.#usedLocks();
    for (const first of [FILE_LOCKS_AT / 4, INODE_LOCKS_AT / 4]) i32.fill(0, first, first + used);
    u32[WORD.movesEnded] = u32[WORD.movesStarted]!;
    u32[WORD.switchesEnded] = u32[WORD.switchesStarted]!;
    i32[WORD.treeLock] = i32[WORD.tableLock] = 0;
    this.changes.recover();
    u32[WORD.generation]!++;
  }

  lock(): void {
    this.#acquire(WORD.tableLock);
    this.#notes = 0;
  }

  unlock(): void {
    this.#notes = -1;
    this.u32[WORD.undoCount] = 0;
    Atomics.store(this.i32, WORD.tableLock, 0);
  }

  /**
   * For who changes files: their data, attributes or names. Held across system calls, and for as long as a file takes to move to
   * another branch. 0 stands for no file.
   */
  lockFiles(slot: number, other = 0): void {
    const [first, second] = fileLocks(slot, other);
    if (first !== 0) this.#acquireOrGiveUp(first);
    if (second !== 0) this.#acquireOrGiveUp(second);
  }

  unlockFiles(slot: number, other = 0): void {
    const [first, second] = fileLocks(slot, other);
    if (second !== 0) Atomics.store(this.i32, second, 0);
    if (first !== 0) Atomics.store(this.i32, first, 0);
  }

  /** The same for one file, as the hot path has it: it allocates nothing. */
  lockFile(slot: number): void {
    this.#acquireOrGiveUp(fileLock(slot));
  }

  unlockFile(slot: number): void {
    Atomics.store(this.i32, fileLock(slot), 0);
  }

  /**
   * Directories are made on further branches, and directories are renamed, one at a time: neither must see half of the other.
   * Held across system calls.
   */
  lockTree(): void {
    this.#acquireOrGiveUp(WORD.treeLock);
  }

  /** For who cannot stop halfway. */
  lockTreeAnyhow(): void {
    this.#acquire(WORD.treeLock);
  }

  unlockTree(): void {
    Atomics.store(this.i32, WORD.treeLock, 0);
  }

  /** Serialises open and release of one inode, and the loss of a name, among threads. */
  lockInode(slot: number): void {
    this.#acquireOrGiveUp(inodeLock(slot));
  }

  /** For who cannot stop halfway. */
  lockInodeAnyhow(slot: number): void {
    this.#acquire(inodeLock(slot));
  }

  /** The same for who can do without: false when it is not to be had in a moment. */
  lockInodeSoon(slot: number): boolean {
    return this.#acquire(inodeLock(slot), SPINS_BEFORE_SLEEP);
  }

  /** Whether two inodes have the same lock: who holds the one's holds the other's too. */
  shareLock(one: number, other: number): boolean {
    return inodeLock(one) === inodeLock(other);
  }

  /** For who holds another inode's lock already: does not wait. */
  tryLockInode(slot: number): boolean {
    return Atomics.compareExchange(this.i32, inodeLock(slot), 0, this.#owner) === 0;
  }

  unlockInode(slot: number): void {
    Atomics.store(this.i32, inodeLock(slot), 0);
  }

  /** After an exception: gives up whatever this thread still holds. */
  releaseOwnLocks(): void {
    this.changes.giveUp();
    const release = (word: number) => Atomics.compareExchange(this.i32, word, this.#owner, 0);
    if (this.#notes >= 0) this.#undo();
    this.#notes = -1;
    release(WORD.tableLock);
    release(WORD.treeLock);
    const used = this.#usedLocks();
    for (const first of [FILE_LOCKS_AT / 4, INODE_LOCKS_AT / 4])
      for (let word = first; word < first + used; word++) release(word);
  }

  /** Those behind were never taken: their memory need not be there. */
  #usedLocks(): number {
    return Math.min(LOCKS, this.u32[WORD.inodeBump]!);
  }

  /** False when it was not to be had in so many spins. */
  #acquire(word: number, limit = Number.POSITIVE_INFINITY): boolean {
    for (let spins = 0; Atomics.compareExchange(this.i32, word, 0, this.#owner) !== 0; spins++)
      if (spins >= limit) return false;
      else pause(spins);
    return true;
  }

  /** Throws LostLock. */
  #acquireOrGiveUp(word: number): void {
    if (this.#acquire(word, SPINS_BEFORE_LOOK)) return;
    const watch = new HolderWatch();
    while (!this.#acquire(word, SPINS_BEFORE_LOOK)) if (watch.isLost(this.u32, this.i32[word]!)) throw new LostLock();
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

  /** Callers bracket the moment in which a file is on two branches, so that a listing can tell that it may have met it twice. */
  switchBegin(): void {
    Atomics.add(this.i32, WORD.switchesStarted, 1);
  }

  switchEnd(): void {
    Atomics.add(this.i32, WORD.switchesEnded, 1);
  }

  /** A stamp if no file is on two branches just now, else -1. */
  switchStamp(): number {
    const ended = Atomics.load(this.i32, WORD.switchesEnded);
    const started = Atomics.load(this.i32, WORD.switchesStarted);
    return started === ended ? started >>> 0 : -1;
  }
}

/** Memory for a state, still empty: a descriptor, owned by the caller, which outlives whoever uses it. */
export function createStateMemory(): number {
  const fd = libc.withCString('union-state', (name) => libc.memfdCreate(name, 1));
  if (fd < 0) throw new Error(`cannot create the state memory: errno ${-fd}`);
  return fd;
}

function fileLock(slot: number): number {
  return FILE_LOCKS_AT / 4 + (slot % LOCKS);
}

function inodeLock(slot: number): number {
  return INODE_LOCKS_AT / 4 + (slot % LOCKS);
}

/** The words that lock two files, in order; 0 where there is nothing to lock. */
function fileLocks(slot: number, other: number): readonly [number, number] {
  const a = slot === 0 ? 0 : fileLock(slot);
  const b = other === 0 ? 0 : fileLock(other);
  return a === b ? [a, 0] : [Math.min(a, b), Math.max(a, b)];
}
