/**
 * Open files and directories. Record (HANDLE_BYTES, 8 words):
 *
 *   0 inode slot + 1 when in use   1 lower descriptor + 1   2 flags   3 free list
 *   6 length of a directory's listing   7 where its last read began; it ended at 3, while in use
 */
import { HANDLE_BYTES, HANDLES_AT, LISTINGS_AT, MAX_HANDLES, MAX_LISTING_BYTES, WORD } from './layout.ts';
import type { State } from './state.ts';

const FIELDS = HANDLE_BYTES / 4;
const FIRST = HANDLES_AT / 4;

export const H = {
  inode: 0,
  descriptor: 1,
  flags: 2,
  next: 3,
  listingLength: 6,
  readFrom: 7,
  readTo: 3,
} as const;

/** `broken`: a listing of a directory that could not be read on every branch. `cached`: it may use the kernel's listing. */
export const HANDLE = { writable: 1, passthrough: 2, directory: 4, broken: 8, cached: 16 } as const;

/** Where the listing of a directory's handle is in the file of the state memory. */
export function listingAt(handle: number): number {
  return LISTINGS_AT + handle * MAX_LISTING_BYTES;
}

/** A power of two. */
const RECENT = 64;

export class HandleTable {
  readonly #state: State;
  readonly #u32: Uint32Array;
  /** The last handles with a descriptor that this thread made, by the last bits of their inodes. */
  readonly #recent = new Uint32Array(RECENT);

  constructor(state: State) {
    this.#state = state;
    this.#u32 = state.u32;
  }

  get(handle: number, field: number): number {
    return this.#u32[FIRST + handle * FIELDS + field]!;
  }

  set(handle: number, field: number, value: number): void {
    this.#state.put(FIRST + handle * FIELDS + field, value);
  }

  isUsed(handle: number): boolean {
    return handle > 0 && handle < MAX_HANDLES && this.get(handle, H.inode) !== 0;
  }

  slot(handle: number): number {
    return this.get(handle, H.inode) - 1;
  }

  /** The lower descriptor of a handle, or -1: those have one that go through the server, or made their file. */
  descriptor(handle: number): number {
    return this.get(handle, H.descriptor) - 1;
  }

  /** The lower descriptor of a handle of file `slot` that this thread made not long ago, or -1. Under the inode's lock. */
  recentDescriptor(slot: number): number {
    const handle = this.#recent[slot & (RECENT - 1)]!;
    return handle !== 0 && this.slot(handle) === slot ? this.descriptor(handle) : -1;
  }

  /** Gives a handle without descriptor one. False if another thread has done so. */
  setDescriptor(handle: number, descriptor: number): boolean {
    return Atomics.compareExchange(this.#state.i32, FIRST + handle * FIELDS + H.descriptor, 0, descriptor + 1) === 0;
  }

  /** A new handle, or 0 when the table is full. Under the table lock. */
  allocate(slot: number, descriptor: number, flags: number): number {
    const u32 = this.#u32;
    const state = this.#state;
    let handle = u32[WORD.handleFree]!;
    if (handle !== 0) state.put(WORD.handleFree, this.get(handle, H.next));
    else if (u32[WORD.handleBump]! < MAX_HANDLES) {
      handle = u32[WORD.handleBump]!;
      state.put(WORD.handleBump, handle + 1);
    }
    if (handle === 0) return 0;
    u32[WORD.handleCount]!++;
    // What a free record holds beside its place in the list, nobody reads: it needs no note.
    const at = FIRST + handle * FIELDS;
    this.set(handle, H.next, 0);
    u32.fill(0, at + H.next + 1, at + FIELDS);
    u32[at + H.descriptor] = descriptor + 1;
    u32[at + H.flags] = flags;
    this.set(handle, H.inode, slot + 1);
    if (descriptor >= 0) this.#recent[slot & (RECENT - 1)] = handle;
    return handle;
  }

  /** Under the table lock. */
  free(handle: number): void {
    this.set(handle, H.inode, 0);
    this.set(handle, H.next, this.#u32[WORD.handleFree]!);
    this.#state.put(WORD.handleFree, handle);
    this.#u32[WORD.handleCount]!--;
  }

  /** Lower descriptors of an inode's handles. Looks through the table: for rare use, while none are opened or closed. */
  descriptorsOf(slot: number): number[] {
    const found: number[] = [];
    for (let handle = 1; handle < this.#u32[WORD.handleBump]!; handle++)
      if (this.get(handle, H.inode) === slot + 1 && this.descriptor(handle) >= 0) found.push(this.descriptor(handle));
    return found;
  }

  get count(): number {
    return this.#u32[WORD.handleCount]!;
  }
}
