/**
 * O_PATH descriptors of directories on their branches, so that every lower access is by descriptor and one name.
 * Bounded, so that all threads' take half of what the process may open: four-way sets, the least recently used goes. Per thread: no locks, and a descriptor in use by one operation cannot
 * be closed by another thread. When the process may open no more, those that the request at hand does not use are closed.
 * A descriptor follows its directory when that is renamed; the inode's generation tells when the slot has become another
 * directory's.
 */
import { F, type InodeTable, ROOT } from '../inode/inode-table.ts';
import { MAX_READERS, WORD } from '../inode/layout.ts';
import { D, type NameIndex } from '../inode/name-index.ts';
import type { State } from '../inode/state.ts';
import { EIO, EMFILE, ENFILE, ESTALE, O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_PATH } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { OpenBranch } from './branches.ts';
import type { Gate } from './gate.ts';
import { openFilesLimit } from './open-files.ts';

const WAYS = 4;
const MAX_SETS = 512;
const MIN_SETS = 2;

export class DirectoryCache {
  readonly #sets = setsWithin(openFilesLimit());
  readonly #keys = new Float64Array(this.#sets * WAYS).fill(-1);
  readonly #generations = new Uint32Array(this.#sets * WAYS);
  readonly #descriptors = new Int32Array(this.#sets * WAYS).fill(-1);
  /** By a clock that never starts again. */
  readonly #usedAt = new Float64Array(this.#sets * WAYS);
  #clock = 0;
  #epoch = 0;
  /** The clock at the beginning of the request. */
  #begun = 0;
  readonly #state: State;
  readonly #inodes: InodeTable;
  readonly #names: NameIndex;
  readonly #branches: readonly OpenBranch[];
  readonly #gate: Gate;
  readonly #name: number;

  /** `buffer`: position of 256 free bytes in the state memory. */
  constructor(
    tables: { state: State; inodes: InodeTable; names: NameIndex; gate: Gate },
    branches: readonly OpenBranch[],
    buffer: number,
  ) {
    this.#state = tables.state;
    this.#inodes = tables.inodes;
    this.#names = tables.names;
    this.#gate = tables.gate;
    this.#branches = branches;
    this.#name = buffer;
  }

  /**
   * Before each request: which descriptors count as current does not change within it, so that none is closed that it uses.
   * With `shared` branches a directory may have been removed and made again, so they are opened anew every second.
   */
  begin(shared: boolean): void {
    const seconds = shared ? Math.floor(performance.now() / 1000) : 0;
    this.#epoch = this.#state.u32[WORD.descriptorEpoch]! + seconds;
    this.#begun = this.#clock;
  }

  /** O_PATH descriptor of directory `slot` on `branch`, owned by the cache, or a negated errno. */
  descriptor(slot: number, branch: number): number {
    const closed = this.#gate.enter(branch);
    if (closed < 0) return closed;
    if (slot === ROOT) return this.#branches[branch]!.root;
    const key = slot * 64 + branch;
    const set = this.#set(slot, branch);
    const generation = this.#generation(slot);
    for (let way = set; way < set + WAYS; way++) {
      if (this.#keys[way] === key && this.#generations[way] === generation) {
        this.#usedAt[way] = ++this.#clock;
        return this.#descriptors[way]!;
      }
    }
    let descriptor = this.#open(slot, branch);
    if ((descriptor === -EMFILE || descriptor === -ENFILE) && this.makeRoom()) descriptor = this.#open(slot, branch);
    if (descriptor >= 0) this.#put(key, set, generation, descriptor);
    return descriptor;
  }

  /** The cache owns the O_PATH descriptor of that directory from now on. Under the tree lock: it is still that one's. */
  keep(slot: number, branch: number, descriptor: number): void {
    this.#put(slot * 64 + branch, this.#set(slot, branch), this.#generation(slot), descriptor);
  }

  #put(key: number, set: number, generation: number, descriptor: number): void {
    const way = this.#victim(set, key);
    if (this.#descriptors[way]! >= 0) libc.close(this.#descriptors[way]!);
    this.#keys[way] = key;
    this.#generations[way] = generation;
    this.#descriptors[way] = descriptor;
    this.#usedAt[way] = ++this.#clock;
  }

  #set(slot: number, branch: number): number {
    return ((slot * 5 + branch) % this.#sets) * WAYS;
  }

  #generation(slot: number): number {
    // Both only grow, so that their sum is new whenever one of them is.
    return (this.#inodes.get(slot, F.generation) + this.#epoch) >>> 0;
  }

  /** Closes what the request has not used. False when there was nothing to close. */
  makeRoom(): boolean {
    let closed = 0;
    for (let way = 0; way < this.#descriptors.length; way++) {
      if (this.#descriptors[way]! < 0 || this.#usedAt[way]! > this.#begun) continue;
      libc.close(this.#descriptors[way]!);
      this.#descriptors[way] = this.#keys[way] = -1;
      closed++;
    }
    return closed > 0;
  }

  /** Closes all. The process outlives its threads, and what they have open with them. */
  close(): void {
    this.#begun = this.#clock;
    this.makeRoom();
  }

  #victim(set: number, key: number): number {
    let oldest = set;
    for (let way = set; way < set + WAYS; way++) {
      if (this.#keys[way] === key || this.#descriptors[way]! < 0) return way;
      if (this.#usedAt[way]! < this.#usedAt[oldest]!) oldest = way;
    }
    return oldest;
  }

  #open(slot: number, branch: number): number {
    for (let attempt = 0; ; attempt++) {
      const stamp = this.#state.changes.stamp(slot);
      const result = stamp < 0 ? -EIO : this.#openByName(slot, branch);
      // A rename meanwhile may have put another directory in the place of this one: whatever would be done to it is worse than EIO.
      if (this.#state.changes.isUnchanged(stamp)) return result;
      if (result >= 0) libc.close(result);
      if (!this.#state.changes.wait(attempt)) return -EIO;
    }
  }

  #openByName(slot: number, branch: number): number {
    const parent = this.#copyName(slot);
    // Only now: while it has its name it may be pinned too, by who tries to remove it, and on one branch only.
    const pinned = this.#inodes.get(slot, F.pinned);
    if (parent === 0) return pinned === 0 ? -ESTALE : libc.dup(pinned - 1);
    const above = this.descriptor(parent, branch);
    if (above < 0) return above;
    this.#copyName(slot); // the recursion used the same buffer
    return libc.openat(above, this.#state.base + this.#name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
  }

  /** Puts the directory's name into the buffer and answers its parent, or 0 if it has none. */
  #copyName(slot: number): number {
    const { u8 } = this.#state;
    this.#state.lock();
    const dentry = this.#inodes.get(slot, F.dentry);
    let parent = 0;
    if (dentry !== 0) {
      parent = this.#names.get(dentry, D.parent);
      const name = this.#names.get(dentry, D.name);
      u8.copyWithin(this.#name, name, name + this.#names.nameLength(dentry) + 1);
    }
    this.#state.unlock();
    return parent;
  }
}

/** How many sets a thread may have. */
function setsWithin(openFiles: number): number {
  return Math.min(MAX_SETS, Math.max(MIN_SETS, Math.floor(openFiles / 2 / MAX_READERS / WAYS)));
}
