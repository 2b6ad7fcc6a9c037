/**
 * The branches as every thread sees them: records in the state memory, so that mode and reserve change, and branches are
 * added, while the union is mounted.
 *
 * Only the session's main thread writes. A record is complete before `count` covers it, and is never moved, nor used again
 * for another branch after its own was removed; after each change `version` grows, which tells `Space` to look again.
 * Descriptors are the process's.
 */
import { UnionFsError } from '../errors.ts';
import { BRANCH_BYTES, BRANCHES_AT, MAX_BRANCHES, WORD } from '../inode/layout.ts';
import type { State } from '../inode/state.ts';
import type { BranchMode, OpenBranch } from './branches.ts';

const MODES: readonly BranchMode[] = ['RW', 'RO', 'NC'];

/** Words of a record; figures of its space and two texts of at most TEXT_BYTES follow. */
const B = {
  mode: 0,
  reserveLow: 1,
  reserveHigh: 2,
  root: 3,
  inodeTag: 4,
  pathLength: 5,
  idLength: 6,
  gate: 7,
  leaving: 8,
  renames: 9,
  /** Of the filesystem and the directory that it is (branch/probe.ts): 1 when known, then three numbers. */
  isKnown: 10,
  filesystemLow: 11,
  filesystemHigh: 12,
  rootInode: 13,
} as const;
/** Whether a branch is to stay. */
const LEAVING = { no: 0, draining: 1, removed: 2 } as const;
const FIGURES_AT = 64;
const PATH_AT = 128;
const TEXT_BYTES = 4096;
const ID_AT = PATH_AT + TEXT_BYTES;

/** What a filesystem is known by when it is mounted again: its id, in two words, and the number of the directory in it. */
export type Fingerprint = readonly [low: number, high: number, inode: number];

export interface TableBranch extends OpenBranch {
  /** Its files are moving to others, as it is to be removed (ops/drain.ts). */
  readonly isDraining: boolean;
}

export class BranchTable {
  readonly #state: State;
  /** As many as there can be: those below `count` are branches, or were. */
  readonly entries: readonly TableBranch[];

  constructor(state: State) {
    this.#state = state;
    this.entries = Array.from({ length: MAX_BRANCHES }, (_, index) => new SharedBranch(state, index));
  }

  /** Of records. */
  get count(): number {
    return this.#state.u32[WORD.branchCount]!;
  }

  get version(): number {
    return this.#state.u32[WORD.branchVersion]!;
  }

  /** The branches there are now, in order. */
  list(): readonly TableBranch[] {
    return this.entries.slice(0, this.count).filter(({ index }) => this.#leaving(index) !== LEAVING.removed);
  }

  /** Throws UnionFsError when there is none of that id. */
  find(id: string): TableBranch {
    const branch = this.list().find((known) => known.id === id);
    if (branch === undefined) throw new UnionFsError('ENOENT', `the union has no branch ${id}`);
    return branch;
  }

  /** Ids of those that were removed. */
  removedIds(): readonly string[] {
    const records = this.entries.slice(0, this.count);
    return records.filter(({ index }) => this.#leaving(index) === LEAVING.removed).map(({ id }) => id);
  }

  /** Fills the next record, which stays out of sight until `publish`. */
  prepare(branch: Omit<OpenBranch, 'index'>): number {
    const index = this.count;
    const { u32 } = this.#state;
    const word = recordAt(index) >>> 2;
    this.#write(index, branch);
    u32[word + B.root] = branch.root;
    u32[word + B.isKnown] = 0;
    u32[word + B.inodeTag] = branch.inodeTag;
    u32[word + B.pathLength] = this.#writeText(recordAt(index) + PATH_AT, branch.path);
    u32[word + B.idLength] = this.#writeText(recordAt(index) + ID_AT, branch.id);
    return index;
  }

  publish(): void {
    Atomics.add(this.#state.i32, WORD.branchCount, 1);
    this.#changed();
  }

  /** A branch that was draining is to stay. */
  set(index: number, rules: Pick<OpenBranch, 'mode' | 'minFreeSpaceBytes'>): void {
    this.#write(index, rules);
    this.#leave(index, LEAVING.no);
  }

  /** What the branch's root was known by when it was opened first; undefined where that did not tell. */
  fingerprint(index: number): Fingerprint | undefined {
    const { u32 } = this.#state;
    const word = recordAt(index) >>> 2;
    if (u32[word + B.isKnown] !== 1) return undefined;
    return [u32[word + B.filesystemLow]!, u32[word + B.filesystemHigh]!, u32[word + B.rootInode]!];
  }

  setFingerprint(index: number, fingerprint: Fingerprint): void {
    const { u32 } = this.#state;
    const word = recordAt(index) >>> 2;
    u32.set(fingerprint, word + B.filesystemLow);
    u32[word + B.isKnown] = 1;
  }

  /** From now on its files are to move to others. */
  drain(index: number): void {
    this.#write(index, { mode: 'NC', minFreeSpaceBytes: this.entries[index]!.minFreeSpaceBytes });
    this.#leave(index, LEAVING.draining);
  }

  /** It is no branch any more. When nothing of the union is on it, and nobody is about to use it. */
  remove(index: number): void {
    this.#leave(index, LEAVING.removed);
  }

  #leave(index: number, leaving: number): void {
    this.#state.u32[(recordAt(index) >>> 2) + B.leaving] = leaving;
    this.#changed();
  }

  #leaving(index: number): number {
    return this.#state.u32[(recordAt(index) >>> 2) + B.leaving]!;
  }

  /** Whoever is about to give something on a draining branch another name says so: somebody may be looking whether all is gone. */
  noteRename(index: number): void {
    if (this.entries[index]!.isDraining) Atomics.add(this.#state.i32, (recordAt(index) >>> 2) + B.renames, 1);
  }

  /** How often that was. */
  renames(index: number): number {
    return Atomics.load(this.#state.i32, (recordAt(index) >>> 2) + B.renames);
  }

  /** A successor's descriptor of a branch's root. */
  setRoot(index: number, root: number): void {
    this.#state.u32[(recordAt(index) >>> 2) + B.root] = root;
  }

  /** Who may enter a branch from now on: bits of GATE. */
  setGate(index: number, gate: number): void {
    Atomics.store(this.#state.u32, gateWord(index), gate);
  }

  #write(index: number, { mode, minFreeSpaceBytes }: Pick<OpenBranch, 'mode' | 'minFreeSpaceBytes'>): void {
    const { u32 } = this.#state;
    const word = recordAt(index) >>> 2;
    u32[word + B.mode] = MODES.indexOf(mode);
    u32[word + B.reserveLow] = minFreeSpaceBytes % 0x100000000;
    u32[word + B.reserveHigh] = Math.floor(minFreeSpaceBytes / 0x100000000);
  }

  #writeText(position: number, text: string): number {
    const bytes = Buffer.from(text).subarray(0, TEXT_BYTES);
    this.#state.u8.set(bytes, position);
    return bytes.length;
  }

  #changed(): void {
    Atomics.add(this.#state.i32, WORD.branchVersion, 1);
  }
}

/** A record, read anew at each access: a load or two. */
class SharedBranch implements TableBranch {
  readonly index: number;
  readonly #state: State;
  readonly #word: number;

  constructor(state: State, index: number) {
    this.index = index;
    this.#state = state;
    this.#word = recordAt(index) >>> 2;
  }

  get mode(): BranchMode {
    return MODES[this.#state.u32[this.#word + B.mode]!]!;
  }

  get minFreeSpaceBytes(): number {
    const { u32 } = this.#state;
    return u32[this.#word + B.reserveLow]! + u32[this.#word + B.reserveHigh]! * 0x100000000;
  }

  get isDraining(): boolean {
    return this.#state.u32[this.#word + B.leaving] === LEAVING.draining;
  }

  get root(): number {
    return this.#state.u32[this.#word + B.root]!;
  }

  get inodeTag(): number {
    return this.#state.u32[this.#word + B.inodeTag]!;
  }

  get path(): string {
    return this.#text(PATH_AT, B.pathLength);
  }

  get id(): string {
    return this.#text(ID_AT, B.idLength);
  }

  #text(offset: number, length: number): string {
    const from = recordAt(this.index) + offset;
    return Buffer.from(this.#state.u8.subarray(from, from + this.#state.u32[this.#word + length]!)).toString();
  }
}

/** Index of the word that says who may enter a branch (branch/gate.ts). */
export function gateWord(index: number): number {
  return (recordAt(index) >>> 2) + B.gate;
}

/** Index in the state memory's f64 view of the figures of a branch's space (branch/space.ts): 8 numbers. */
export function figuresOf(index: number): number {
  return (recordAt(index) + FIGURES_AT) >>> 3;
}

function recordAt(index: number): number {
  return BRANCHES_AT + index * BRANCH_BYTES;
}
