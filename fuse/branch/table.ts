/**
 * The branches as every thread sees them: records in the state memory, so that mode and reserve change, and branches are
 * added, while the union is mounted.
 *
 * Only the session's main thread writes. A record is complete before `count` covers it, and is never moved or taken
 * away; after each change `version` grows, which tells `Space` to look again. Descriptors are the process's.
 */
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
} as const;
const FIGURES_AT = 64;
const PATH_AT = 128;
const TEXT_BYTES = 4096;
const ID_AT = PATH_AT + TEXT_BYTES;

export class BranchTable {
  readonly #state: State;
  /** As many as there can be: those below `count` are branches. */
  readonly entries: readonly OpenBranch[];

  constructor(state: State) {
    this.#state = state;
    this.entries = Array.from({ length: MAX_BRANCHES }, (_, index) => new SharedBranch(state, index));
  }

  get count(): number {
    return this.#state.u32[WORD.branchCount]!;
  }

  get version(): number {
    return this.#state.u32[WORD.branchVersion]!;
  }

  /** The branches there are now, in order. */
  list(): readonly OpenBranch[] {
    return this.entries.slice(0, this.count);
  }

  /** Fills the next record, which stays out of sight until `publish`. */
  prepare(branch: Omit<OpenBranch, 'index'>): number {
    const index = this.count;
    const { u32 } = this.#state;
    const word = recordAt(index) >>> 2;
    this.#write(index, branch);
    u32[word + B.root] = branch.root;
    u32[word + B.inodeTag] = branch.inodeTag;
    u32[word + B.pathLength] = this.#writeText(recordAt(index) + PATH_AT, branch.path);
    u32[word + B.idLength] = this.#writeText(recordAt(index) + ID_AT, branch.id);
    return index;
  }

  publish(): void {
    Atomics.add(this.#state.i32, WORD.branchCount, 1);
    this.#changed();
  }

  set(index: number, rules: Pick<OpenBranch, 'mode' | 'minFreeSpaceBytes'>): void {
    this.#write(index, rules);
    this.#changed();
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
class SharedBranch implements OpenBranch {
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
