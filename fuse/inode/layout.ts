/**
 * Where everything is in the state memory (state.ts): fixed sections, reserved in full but backed by memory only where touched;
 * all positions below 2^31 so that V8 keeps them as small integers. Layout (bytes):
 *
 *   header      counters, locks, free lists (HEADER_BYTES)
 *   undo        what the table lock's holder has changed so far: pairs of position and old value
 *   branches    records of BRANCH_BYTES (branch/table.ts)
 *   threads     per thread: request buffer, reply buffer, scratch, journal (THREAD_BYTES each)
 *   inodes      records of INODE_BYTES (inode-table.ts)
 *   dentries    records of DENTRY_BYTES (name-index.ts)
 *   handles     records of HANDLE_BYTES (handle-table.ts)
 *   directories records of DIRECTORY_BYTES (directory-attributes.ts)
 *   files       records of FILE_BYTES (file-attributes.ts)
 *   numbers     records of NUMBER_BYTES (number-table.ts)
 *   buckets     two hash tables that grow by linear hashing
 *   names       NUL-terminated names in multiples of 16 bytes
 *   idle        inodes whose backing ids are kept for their next open
 *   locks       a word for each file, and one for each inode
 *   listings    at LISTINGS_AT, MAX_LISTING_BYTES for each handle
 */
export const MAGIC = 0x55434653;
/**
 * Of everything that a successor reads: to be raised whenever a record or a position changes its meaning, with a step in versions.ts
 * that brings memory of the version before to this one. Sections stay where they are: what grows is added at the end.
 */
export const STATE_VERSION = 6;

const MIB = 1 << 20;
/** Readers, with those that are started while others are stuck; their numbers come first. */
export const MAX_READERS = 24;
/** Threads for what may wait for a branch and is no request (transport/errands.ts); their numbers follow. */
export const MAX_ERRANDS = 7;
/** The session's own thread, the last number. */
export const MAIN_THREAD = MAX_READERS + MAX_ERRANDS;
export const THREADS = MAIN_THREAD + 1;
/** Branch sets are masks of two 32-bit words. */
export const MAX_BRANCHES = 64;
export const REQUEST_BYTES = MIB + 64 * 1024;
export const REPLY_BYTES = MIB + 64 * 1024;
export const SCRATCH_BYTES = 320 * 1024;
export const JOURNAL_BYTES = 16 * 1024;
export const THREAD_BYTES = REQUEST_BYTES + REPLY_BYTES + SCRATCH_BYTES + JOURNAL_BYTES;

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
/** Inodes of branches that show another number than their own: two for each file that was moved. */
export const MAX_NUMBERS = 1 << 20;
export const NUMBER_BYTES = 20;
/** How many backing ids of closed files are kept for their next open: each holds 1 to 2 KiB of the kernel's memory. */
export const BACKING_RING = 16384;
const MAX_BUCKETS = 1 << 23;
const NAME_BYTES = 600 * MIB;

export const HEADER_BYTES = 64 * 1024;
export const BRANCH_BYTES = 128 + 2 * 4096;
export const UNDO_AT = HEADER_BYTES;
/** Words changed under one hold of the table lock: a few hundred at most. */
export const MAX_UNDO = 32 * 1024;
/** In the position of a note: its value is bits that were set by the change, or cleared by it, and not the whole word. */
export const UNDO_CLEARS = 0x80000000;
export const UNDO_SETS = 0x40000000;
export const UNDO_WORD = 0x3fffffff;
export const BRANCHES_AT = UNDO_AT + MAX_UNDO * 8;
export const THREADS_AT = BRANCHES_AT + MAX_BRANCHES * BRANCH_BYTES;
export const INODES_AT = THREADS_AT + THREADS * THREAD_BYTES;
export const DENTRIES_AT = INODES_AT + MAX_INODES * INODE_BYTES;
export const HANDLES_AT = DENTRIES_AT + MAX_DENTRIES * DENTRY_BYTES;
export const DIRECTORIES_AT = HANDLES_AT + MAX_HANDLES * HANDLE_BYTES;
export const FILES_AT = DIRECTORIES_AT + MAX_DIRECTORIES * DIRECTORY_BYTES;
export const NUMBERS_AT = FILES_AT + MAX_FILE_ATTRIBUTES * FILE_BYTES;
export const NAME_BUCKETS_AT = NUMBERS_AT + MAX_NUMBERS * NUMBER_BYTES;
export const LINK_BUCKETS_AT = NAME_BUCKETS_AT + MAX_BUCKETS * 4;
export const NAMES_AT = LINK_BUCKETS_AT + MAX_BUCKETS * 4;
export const NAMES_END = NAMES_AT + NAME_BYTES;
export const IDLE_AT = NAMES_END;
/**
 * Locks of files, and of inodes: one for each, up to LOCKS inodes. Who waits for a branch that does not answer may hold some, and
 * must not be in the way of files that are elsewhere.
 */
export const LOCKS = 1 << 20;
export const FILE_LOCKS_AT = IDLE_AT + BACKING_RING * 4;
export const INODE_LOCKS_AT = FILE_LOCKS_AT + LOCKS * 4;
export const TOTAL_BYTES = INODE_LOCKS_AT + LOCKS * 4;
/**
 * Behind the sections, where no mapping reaches: the listing of each open directory, by its handle. Read and written with pread and
 * pwrite, and given back by a hole.
 */
export const LISTINGS_AT = 2 ** 31;
/** A listing of tens of millions of names. */
export const MAX_LISTING_BYTES = 2 ** 30;
/** Changes with any size above. */
export const LAYOUT = [
  THREADS_AT,
  INODES_AT,
  DENTRIES_AT,
  HANDLES_AT,
  DIRECTORIES_AT,
  FILES_AT,
  NAMES_AT,
  NAMES_END,
  TOTAL_BYTES,
].reduce((sum, position) => (Math.imul(sum, 31) + position) >>> 0, 0);

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
  changesBegun: 21,
  changesEnded: 22,
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
  /** Files that began to move to another branch, and that ended; of these, that did. */
  movesStarted: 72,
  movesEnded: 73,
  movesDone: 74,
  switchesStarted: 75,
  switchesEnded: 76,
  numberCount: 77,
  /** Branches that somebody got an error from, since the session's thread looked last. */
  suspectLow: 78,
  suspectHigh: 79,
  /** Readers with this number and above end after the request at hand. */
  readersWanted: 81,
  /** While a directory is made on a branch, under the tree lock: its inode, else 0, and the branch. */
  makingSlot: 82,
  makingBranch: 83,
  /** For each thread PROGRESS_WORDS (progress.ts): no two threads share a cache line. */
  progress: 4096,
} as const;
/** What counters of whole memory do not exceed. */
export const MOST: Readonly<Partial<Record<keyof typeof WORD, number>>> = {
  inodeBump: MAX_INODES,
  dentryBump: MAX_DENTRIES,
  handleBump: MAX_HANDLES,
  directoryBump: MAX_DIRECTORIES,
  nameBump: NAMES_END,
  nameBuckets: MAX_BUCKETS,
  linkBuckets: MAX_BUCKETS,
  numberCount: MAX_NUMBERS,
  branchCount: MAX_BRANCHES,
  undoCount: MAX_UNDO,
};
