/**
 * What an operation works with: one Context per reader thread, reused for every request. All positions are bytes in the state
 * memory. Operations are functions `(context) => number`: the length of the reply's body (0 and more), a negated errno, or
 * NO_REPLY. They read the request at `body` and write the reply at `out`, and allocate nothing on the hot path.
 */
import { DirectoryCache } from '../branch/directories.ts';
import { Gate } from '../branch/gate.ts';
import { SPACE_BYTES, Space } from '../branch/space.ts';
import { BranchTable, type TableBranch } from '../branch/table.ts';
import { DirectoryAttributes } from '../inode/directory-attributes.ts';
import { FileAttributes } from '../inode/file-attributes.ts';
import { HandleTable } from '../inode/handle-table.ts';
import { F, INODE, InodeTable, ROOT } from '../inode/inode-table.ts';
import { Journal } from '../inode/journal.ts';
import { WORD } from '../inode/layout.ts';
import { D, NameIndex } from '../inode/name-index.ts';
import { NumberTable } from '../inode/number-table.ts';
import type { State } from '../inode/state.ts';
import type { PolicyName } from '../policy/create.ts';
import type { Policies } from '../policy/functions.ts';
import { IN, OUT, STATX } from '../protocol/abi.ts';
import type { EntryFields } from '../protocol/attributes.ts';
import {
  AT_EMPTY_PATH,
  AT_SYMLINK_NOFOLLOW,
  DT_DIR,
  EIO,
  ENOENT,
  ENOTDIR,
  ESTALE,
  STATX_WANTED,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { Choice } from './choice.ts';
import { firstOpen } from './copies.ts';
import { ShownCopy } from './shown-copy.ts';
import { isAt, isShifting } from './steady.ts';
import { ThreadIdentity } from './thread-identity.ts';

export const NO_REPLY = -0x100000;

export interface OpsLogger {
  error(event: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(event: string, fields?: Readonly<Record<string, unknown>>): void;
}

export interface OpsConfig {
  readonly policies: Policies;
  /** Where a file goes whose branch is full when it grows; undefined: nowhere, its writer is told. */
  readonly movePolicy?: PolicyName | undefined;
  readonly passthrough: boolean;
  /** `exclusive`: nobody else changes the branches, so what was learned stays true. */
  readonly cache: 'exclusive' | 'shared';
  readonly readOnly: boolean;
}

/** Seconds that the kernel may keep what we say, where nobody but the union changes the branches. */
const LONG_TTL = 86_400;
const SHARED_TTL = 1;

export class Context {
  readonly state: State;
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly base: number;
  readonly inodes: InodeTable;
  readonly names: NameIndex;
  readonly handles: HandleTable;
  readonly journal: Journal;
  readonly attributes: DirectoryAttributes;
  readonly kept: FileAttributes;
  readonly numbers: NumberTable;
  readonly branchTable: BranchTable;
  readonly gate: Gate;
  /** By index; some are no branches yet, or any more: those there are, are in `branchTable.list()`. */
  readonly branches: readonly TableBranch[];
  readonly directories: DirectoryCache;
  readonly space: Space;
  readonly choice: Choice;
  readonly shown: ShownCopy;
  readonly config: OpsConfig;
  readonly log: OpsLogger;
  readonly onMoveStep: (step: string) => void;
  /** The reader's number: no other thread has it. */
  readonly thread: number;
  /** The connection's; -1 where there is none. */
  device: number;
  readonly entryTtl: number;
  readonly exclusive: boolean;

  readonly request: number;
  readonly body: number;
  readonly reply: number;
  readonly out: number;
  /** struct statx of the file in question, and a second one. */
  readonly stat: number;
  readonly stat2: number;
  /** 4 KiB for a path or a second name. */
  readonly path: number;
  /** 256 bytes: the name that `locate` found. */
  readonly name: number;
  /** 256 bytes: the name that READDIRPLUS looks up. */
  readonly childName: number;
  /** 64 bytes for arguments of system calls. */
  readonly argument: number;
  /** 64 KiB each: raw directory entries, entries of a listing being made, and a part of a finished listing. */
  readonly raw: number;
  readonly chunk: number;
  readonly listed: number;
  /** 64 KiB for values of extended attributes. */
  readonly value: number;
  readonly emptyName: number;

  /** Where `locate` found the inode: descriptor, address of the name, flags for *at calls. */
  atDescriptor = -1;
  atName = 0;
  atFlags = 0;

  /** Names that were looked up since the start; how many of them without a system call, and for how many all branches had to be asked. */
  readonly lookedUp = { names: 0, remembered: 0, unknown: 0 };

  /** A descriptor to be closed at the end of the operation, or -1. */
  temporary = -1;
  /** A branch mask as the result of a function, so that it need not allocate one. */
  maskLow = 0;
  maskHigh = 0;

  readonly entry: EntryFields = { node: 0, generation: 0, inoLow: 0, inoHigh: 0, entryTtl: 0, attrTtl: 0 };
  readonly #identity = new ThreadIdentity();

  constructor(options: {
    state: State;
    thread: number;
    device: number;
    config: OpsConfig;
    log: OpsLogger;
    /** For tests: called between the steps of a move (relocate.ts). */
    onMoveStep?: (step: string) => void;
  }) {
    const { state, config } = options;
    this.state = state;
    this.u8 = state.u8;
    this.u32 = state.u32;
    this.i32 = state.i32;
    this.base = state.base;
    this.inodes = new InodeTable(state);
    this.names = new NameIndex(state, this.inodes);
    this.handles = new HandleTable(state);
    this.journal = new Journal(state, options.thread);
    this.attributes = new DirectoryAttributes(state, this.inodes);
    this.kept = new FileAttributes(state, this.names, this.inodes);
    this.numbers = new NumberTable(state);
    this.branchTable = new BranchTable(state);
    this.branches = this.branchTable.entries;
    this.gate = new Gate(state, options.thread);
    this.config = config;
    this.log = options.log;
    this.onMoveStep = options.onMoveStep ?? (() => {});
    this.thread = options.thread;
    this.device = options.device;
    this.exclusive = config.cache === 'exclusive';
    this.entryTtl = this.exclusive ? LONG_TTL : SHARED_TTL;
    const area = state.threadArea(options.thread);
    this.request = area.request;
    this.body = area.request + IN.size;
    this.reply = area.reply;
    this.out = area.reply + OUT.size;
    let at = area.scratch;
    const take = (size: number) => {
      at += size;
      return at - size;
    };
    this.stat = take(256);
    this.stat2 = take(256);
    this.path = take(4096);
    this.name = take(256);
    this.childName = take(256);
    this.argument = take(64);
    this.emptyName = take(16);
    const directoryName = take(256);
    const space = take(SPACE_BYTES);
    this.raw = take(64 * 1024);
    this.chunk = take(64 * 1024);
    this.listed = take(64 * 1024);
    this.value = take(64 * 1024);
    this.u8[this.emptyName] = 0;
    this.directories = new DirectoryCache(this, this.branches, directoryName);
    this.space = new Space(state, this.branchTable, this.gate, space);
    this.choice = new Choice(this, config.policies, config.movePolicy ?? config.policies.create);
    this.shown = new ShownCopy(this, config.policies);
  }

  /** The node id of the request. */
  get slot(): number {
    return this.u32[(this.request + IN.node) >>> 2]!;
  }

  get uid(): number {
    return this.u32[(this.request + IN.uid) >>> 2]!;
  }

  get gid(): number {
    return this.u32[(this.request + IN.gid) >>> 2]!;
  }

  /** A word of the request's body. */
  in32(offset: number): number {
    return this.u32[(this.body + offset) >>> 2]!;
  }

  /** An unsigned 64-bit number of the request's body; exact below 2^53. */
  in64(offset: number): number {
    const word = (this.body + offset) >>> 2;
    return this.u32[word]! + this.u32[word + 1]! * 0x100000000;
  }

  /** A signed 64-bit number of the request's body. */
  inSigned64(offset: number): number {
    const word = (this.body + offset) >>> 2;
    return this.u32[word]! + this.i32[word + 1]! * 0x100000000;
  }

  out32(offset: number, value: number): void {
    this.u32[(this.out + offset) >>> 2] = value;
  }

  out64(offset: number, value: number): void {
    const word = (this.out + offset) >>> 2;
    this.u32[word] = value >>> 0;
    this.u32[word + 1] = Math.floor(value / 0x100000000);
  }

  /** Length of the NUL-terminated bytes at a position. */
  lengthAt(position: number): number {
    let end = position;
    while (this.u8[end] !== 0) end++;
    return end - position;
  }

  get statMode(): number {
    return this.u32[(this.stat + STATX.mode) >>> 2]! & 0xffff;
  }

  get statLinks(): number {
    return this.u32[(this.stat + STATX.nlink) >>> 2]!;
  }

  /** statx of one name into `to`. Answers 0 or a negated errno. */
  statName(descriptor: number, nameAddress: number, to: number): number {
    return libc.statx(descriptor, nameAddress, AT_SYMLINK_NOFOLLOW, STATX_WANTED, this.base + to);
  }

  /** Before a request is read into the buffer: until it is there, there is none. */
  expectRequest(): void {
    this.u32[(this.request + IN.length) >>> 2] = 0;
    this.journal.clear();
  }

  /** A name for this request that no other has, and that stays when a successor does it again. */
  get requestName(): string {
    const word = (this.request + IN.unique) >>> 2;
    return `${this.u32[WORD.nonce]}-${this.u32[word + 1]}-${this.u32[word]}`;
  }

  /** Counts one more lookup of an inode for this request. Under the table lock. */
  hold(slot: number): void {
    this.inodes.add(slot, F.lookups, 1);
    this.journal.hold(slot);
  }

  /** The only or, of a directory, first branch of an inode that may be asked. */
  branchOf(slot: number): number {
    if (this.inodes.kind(slot) !== DT_DIR) return this.inodes.get(slot, F.branch);
    return firstOpen(this, this.inodes.get(slot, F.maskLow), this.inodes.get(slot, F.maskHigh));
  }

  /** Sets atDescriptor, atName and atFlags for a file, or a directory's copy on a branch. Answers 0 or a negated errno. */
  locate(slot: number, branch: number): number {
    if (this.inodes.kind(slot) === DT_DIR)
      return this.#at(this.directories.descriptor(slot, branch), this.base + this.emptyName, AT_EMPTY_PATH);
    const pinned = this.inodes.get(slot, F.pinned);
    if (pinned !== 0)
      return this.#at(this.gate.enter(branch) < 0 ? -EIO : pinned - 1, this.base + this.emptyName, AT_EMPTY_PATH);
    const parent = this.#copyName(slot);
    if (parent === 0) return this.inodes.get(slot, F.pinned) !== 0 ? this.locate(slot, branch) : -ESTALE;
    // Not `branch`: the file may have moved since the caller asked where it is.
    const directory = this.directories.descriptor(parent, this.inodes.get(slot, F.branch));
    return this.#at(directory, this.base + this.name, AT_SYMLINK_NOFOLLOW);
  }

  #at(descriptor: number, name: number, flags: number): number {
    this.atDescriptor = descriptor;
    this.atName = name;
    this.atFlags = flags;
    return Math.min(descriptor, 0);
  }

  /** Puts one of the inode's names into `name` and answers the parent, or 0. */
  #copyName(slot: number): number {
    this.state.lock();
    const dentry = this.inodes.get(slot, F.dentry);
    let parent = 0;
    if (dentry !== 0) {
      parent = this.names.get(dentry, D.parent);
      const name = this.names.get(dentry, D.name);
      this.u8.copyWithin(this.name, name, name + this.names.nameLength(dentry) + 1);
    }
    this.state.unlock();
    return parent;
  }

  /**
   * statx of a file's or one directory copy's attributes into `stat`. A name that another thread is just changing is looked
   * at again; another file in its place is never taken for it.
   */
  statCopy(slot: number, branch: number, to: number): number {
    for (let attempt = 0; ; attempt++) {
      // Most find the file at once.
      const stamp = attempt === 0 && !isShifting(this, slot) ? -1 : this.state.changes.stamp(slot);
      const place = this.inodes.get(slot, F.branch);
      const isKept = this.inodes.has(slot, INODE.kept);
      let result = this.locate(slot, branch);
      if (result === 0) result = libc.statx(this.atDescriptor, this.atName, this.atFlags, STATX_WANTED, this.base + to);
      const mayShift = isShifting(this, slot); // in this order: see steady.ts
      const isFound = result === 0 && this.#isOf(slot, place, to);
      const isSteady = this.state.changes.isUnchanged(stamp);
      if (!isSteady && (!isFound || mayShift) && this.state.changes.wait(attempt)) continue;
      if (!isFound) return result === 0 ? -ESTALE : result;
      if (isKept) this.u32[(to + STATX.nlink) >>> 2]!--;
      return 0;
    }
  }

  /** Whether what was just found of a file is of no other: its name may have become another's, and its pinned descriptor too. */
  #isOf(slot: number, branch: number, stat: number): boolean {
    if (this.inodes.kind(slot) === DT_DIR) return true;
    if (this.atFlags === AT_EMPTY_PATH) return this.inodes.get(slot, F.pinned) - 1 === this.atDescriptor;
    return isAt(this, slot, branch, stat);
  }

  /** Makes what this thread creates from now on belong to the request's caller. `umask` as the request says it. */
  actAsCaller(umask: number): void {
    this.#identity.assume(this.uid, this.gid, umask);
  }

  /** The same for another owner, with modes as they are asked for. */
  actAs(uid: number, gid: number): void {
    this.#identity.assume(uid, gid, 0);
  }

  /** Whether a name of a union's root is ours or the lower filesystem's, and so not shown. */
  isReserved(parent: number, position: number, length: number): boolean {
    if (parent !== ROOT) return false;
    return this.isText(position, length, '.union') || this.isText(position, length, 'lost+found');
  }

  /** Whether the bytes at a position are these ASCII characters. */
  isText(position: number, length: number, text: string): boolean {
    if (length !== text.length) return false;
    for (let i = 0; i < length; i++) if (this.u8[position + i] !== text.charCodeAt(i)) return false;
    return true;
  }

  negotiated(flag: number): boolean {
    return (this.u32[WORD.initFlags]! & flag) !== 0;
  }

  negotiated2(flag: number): boolean {
    return (this.u32[WORD.initFlags2]! & flag) !== 0;
  }
}

/** Whether there is a request in a reader's buffer that a dead server has read and, as far as it knew, not answered. */
export function hasUnfinished(state: State, thread: number): boolean {
  return state.u32[(state.threadArea(thread).request + IN.length) >>> 2] !== 0;
}

/** Whether an error says that there is no such name. Any other says nothing of it. */
export function isAbsent(result: number): boolean {
  return result === -ENOENT || result === -ENOTDIR;
}

/** Index of the lowest bit of a two-word mask, or -1. */
export function firstBranch(low: number, high: number): number {
  if (low !== 0) return 31 - Math.clz32(low & -low);
  if (high !== 0) return 63 - Math.clz32(high & -high);
  return -1;
}

/** The lowest branch of a mask that is not below `from`, or -1. For walking a mask: `for (b = next(l, h, 0); b >= 0; b = next(l, h, b + 1))`. */
export function nextBranch(low: number, high: number, from: number): number {
  if (from < 32) return firstBranch(low & (-1 << from), high);
  return from < 64 ? firstBranch(0, high & (-1 << (from - 32))) : -1;
}

export function hasBranch(low: number, high: number, branch: number): boolean {
  return (((branch < 32 ? low : high) >>> (branch & 31)) & 1) === 1;
}
