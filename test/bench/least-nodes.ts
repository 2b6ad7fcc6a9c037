/**
 * The tables of the server least.ts: a record for each file and directory, found by parent and name in a hash table of fixed size. In
 * memory that the caller gives, which is zero or was not used yet. Records are never used again.
 */
const MAX_NODES = 1 << 21;
const BUCKETS = 1 << 18;
const ROOT = 1;

/** A record: words, and from NAME on its NUL-terminated name. */
const NODE_BYTES = 80;
/** `branch`: of a directory the one whose copy was changed last; `backing`: of a directory its number. */
export const N = { parent: 0, next: 1, hash: 2, length: 3, branch: 4, isDirectory: 5, backing: 6 } as const;
const NAME = 32;
export const NAME_ROOM = NODE_BYTES - NAME;
export const NODES_BYTES = MAX_NODES * NODE_BYTES + BUCKETS * 4;

export class Nodes {
  readonly #u8: Uint8Array;
  readonly #u32: Uint32Array;
  readonly #at: number;
  readonly #buckets: number;
  #last = ROOT;

  /** `at`: position of NODES_BYTES bytes. */
  constructor(memory: ArrayBuffer, at: number) {
    this.#u8 = new Uint8Array(memory);
    this.#u32 = new Uint32Array(memory);
    this.#at = at;
    this.#buckets = (at + MAX_NODES * NODE_BYTES) >>> 2;
    this.#u32.fill(0, this.#buckets, this.#buckets + BUCKETS);
    this.#fill(ROOT, 0, true);
  }

  get(node: number, field: number): number {
    return this.#u32[((this.#at + node * NODE_BYTES) >>> 2) + field]!;
  }

  set(node: number, field: number, value: number): void {
    this.#u32[((this.#at + node * NODE_BYTES) >>> 2) + field] = value;
  }

  /** Position of a node's name. */
  nameOf(node: number): number {
    return this.#at + node * NODE_BYTES + NAME;
  }

  lengthAt(position: number): number {
    let end = position;
    while (this.#u8[end] !== 0) end++;
    return end - position;
  }

  hash(parent: number, position: number, length: number): number {
    let hash = Math.imul(parent, 0x9e3779b1);
    for (let i = position; i < position + length; i++) hash = Math.imul(hash ^ this.#u8[i]!, 0x01000193);
    return (hash ^ (hash >>> 15)) >>> 0;
  }

  /** 0 when there is none. */
  find(parent: number, position: number, length: number, hash: number): number {
    let node = this.#u32[this.#buckets + (hash % BUCKETS)]!;
    while (node !== 0 && !(this.get(node, N.hash) === hash && this.#isNamed(node, parent, position, length)))
      node = this.get(node, N.next);
    return node;
  }

  #isNamed(node: number, parent: number, position: number, length: number): boolean {
    if (this.get(node, N.parent) !== parent || this.get(node, N.length) !== length) return false;
    const name = this.nameOf(node);
    for (let i = 0; i < length; i++) if (this.#u8[name + i] !== this.#u8[position + i]) return false;
    return true;
  }

  /** A new node; 0 when there is no room for it, or its name. */
  make(parent: number, position: number, branch: number, isDirectory: boolean): number {
    const length = this.lengthAt(position);
    if (length >= NAME_ROOM || this.#last + 1 === MAX_NODES) return 0;
    const node = ++this.#last;
    this.#fill(node, branch, isDirectory);
    this.chain(node, parent, position, length, this.hash(parent, position, length));
    return node;
  }

  #fill(node: number, branch: number, isDirectory: boolean): void {
    this.set(node, N.branch, branch);
    this.set(node, N.isDirectory, isDirectory ? 1 : 0);
    this.set(node, N.backing, 0);
  }

  /** Gives a node this name. */
  chain(node: number, parent: number, position: number, length: number, hash: number): void {
    const bucket = this.#buckets + (hash % BUCKETS);
    this.set(node, N.parent, parent);
    this.set(node, N.hash, hash);
    this.set(node, N.length, length);
    this.set(node, N.next, this.#u32[bucket]!);
    const name = this.nameOf(node);
    this.#u8.copyWithin(name, position, position + length + 1);
    this.#u32[bucket] = node;
  }

  /** Takes its name from a node. */
  unchain(node: number): void {
    let at = this.#buckets + (this.get(node, N.hash) % BUCKETS);
    while (this.#u32[at] !== node) at = ((this.#at + this.#u32[at]! * NODE_BYTES) >>> 2) + N.next;
    this.#u32[at] = this.get(node, N.next);
  }
}
