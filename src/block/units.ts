/** Units of the block engine. LSNs and epochs are bigints with a brand; block addresses and counts are plain numbers. */
export const BLOCK_SIZE = 4096;

/** Log sequence number of a record: 1 is the first, 0 is "before everything". */
export type Lsn = bigint & { readonly brand: 'Lsn' };

/** Grows at each change of primary; whoever has promised an epoch refuses older ones. */
export type Epoch = bigint & { readonly brand: 'Epoch' };

/** A replica's name, unique in its volume: the node it lives on. */
export type ReplicaId = string;

export function toLsn(value: bigint | number): Lsn {
  return BigInt(value) as Lsn;
}

export function toEpoch(value: bigint | number): Epoch {
  return BigInt(value) as Epoch;
}

/** The end of a log prefix. Equal hashes mean equal prefixes: each batch's hash covers the one before it. */
export interface Point {
  readonly lsn: Lsn;
  /** 32 hex digits. */
  readonly hash: string;
  /** Epoch of the batch that ends here; orders diverged logs. */
  readonly epoch: Epoch;
}

export const ORIGIN: Point = { lsn: toLsn(0), hash: '0'.repeat(32), epoch: toEpoch(0) };

export function samePoint(a: Point, b: Point): boolean {
  return a.lsn === b.lsn && a.hash === b.hash;
}

/** Whether log `a` reaches further than `b`: by epoch first, because a later primary has decided what came before it. */
export function isAhead(a: Point, b: Point): boolean {
  return a.epoch > b.epoch || (a.epoch === b.epoch && a.lsn > b.lsn);
}
