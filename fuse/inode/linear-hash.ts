/**
 * Linear hashing (Litwin 1980): a chained hash table that grows by one bucket per insertion, so that no insertion ever waits
 * for a rehash and small tables touch little memory. `size` is a power of two; buckets below `split` are split already.
 */
export interface TableWords {
  /** Index of bucket 0, of the word that holds the size, and of the word that holds the split position. */
  readonly base: number;
  readonly size: number;
  readonly split: number;
}

/** Where the table is, and how its words are changed: the state memory (state.ts). */
export interface Words {
  readonly u32: Uint32Array;
  put(word: number, value: number): void;
}

export interface Chain {
  hash(record: number): number;
  next(record: number): number;
  setNext(record: number, next: number): void;
}

export function bucketOf(hash: number, size: number, split: number): number {
  const bucket = hash & (size - 1);
  return bucket < split ? hash & (2 * size - 1) : bucket;
}

/** Splits the next bucket in two. */
export function splitBucket(memory: Words, words: TableWords, chain: Chain): void {
  const { u32 } = memory;
  const size = u32[words.size]!;
  const split = u32[words.split]!;
  let record = u32[words.base + split]!;
  let stay = 0;
  let move = 0;
  while (record !== 0) {
    const next = chain.next(record);
    if ((chain.hash(record) & size) === 0) {
      chain.setNext(record, stay);
      stay = record;
    } else {
      chain.setNext(record, move);
      move = record;
    }
    record = next;
  }
  memory.put(words.base + split, stay);
  memory.put(words.base + split + size, move);
  if (split + 1 === size) {
    memory.put(words.size, size * 2);
    memory.put(words.split, 0);
  } else memory.put(words.split, split + 1);
}
