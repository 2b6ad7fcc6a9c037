/**
 * Everything that goes into a replica and comes out of it. A replica has no clock, disk, network or random numbers of its
 * own: the adapter (src/main in production, test/sim in the simulator) carries out effects and reports them as events.
 *
 * Effects of one step may be carried out in any order and at once, but for two rules: messages to one peer keep their order
 * as far as the network does, and a `sync` covers exactly the writes that were *reported done* before it was asked for.
 */
import type { Message } from './messages.ts';
import type { Epoch, ReplicaId } from './units.ts';
import type { VolumeConfig } from './volume-config.ts';

export type Area = 'superblock' | 'log' | 'table' | 'data';

/** `data` of a write must not be changed by whoever carries it out. A discard makes its range read as zeros. */
export type DiskOperation =
  | { readonly kind: 'read'; readonly area: Area; readonly offset: number; readonly length: number }
  | { readonly kind: 'write'; readonly area: Area; readonly offset: number; readonly data: Uint8Array }
  | { readonly kind: 'discard'; readonly area: Area; readonly offset: number; readonly length: number }
  /** The area is at least so long from now on; what is new of it reads as zeros. */
  | { readonly kind: 'grow'; readonly area: Area; readonly length: number }
  /** How many bytes from `offset` on hold nothing: no data were ever written there, or they were discarded. */
  | { readonly kind: 'hole'; readonly area: Area; readonly offset: number; readonly length: number }
  | { readonly kind: 'sync'; readonly area: Area };

/** `data` of a read, `holeBytes` of a look for a hole: too few is always right. */
export type DiskOutcome =
  | { readonly ok: true; readonly data: Uint8Array | undefined; readonly holeBytes?: number }
  | { readonly ok: false; readonly error: 'EIO' | 'ENOSPC' };

/** `fua` asks for what a flush right after it would give. Data belong to the engine from here on. */
export type ClientRequest =
  | { readonly kind: 'read'; readonly lba: number; readonly blocks: number }
  | { readonly kind: 'write'; readonly lba: number; readonly data: Uint8Array; readonly fua: boolean }
  | { readonly kind: 'zero' | 'trim'; readonly lba: number; readonly blocks: number; readonly fua: boolean }
  /** The volume has so many blocks from now on, at least as many as before. Flushed when it is answered. */
  | { readonly kind: 'resize'; readonly blocks: number }
  | { readonly kind: 'flush' };

/** `moved`: not, or no longer, the primary; a write may or may not have happened. `damaged`: EIO, the data are lost here. */
export type ClientAnswer =
  | { readonly ok: true; readonly epoch: Epoch; readonly data: Uint8Array | undefined }
  | { readonly ok: false; readonly error: 'moved' | 'damaged' | 'out-of-range' };

export type ConfigOutcome =
  | { readonly kind: 'current'; readonly config: VolumeConfig }
  | { readonly kind: 'conflict' }
  /** No answer: it may have happened, or may happen yet. */
  | { readonly kind: 'unknown' };

export type Effect =
  | { readonly kind: 'disk'; readonly id: number; readonly operation: DiskOperation }
  | { readonly kind: 'send'; readonly to: ReplicaId; readonly message: Message }
  /** Blocks of a range that a scrub has found damaged. The replica sees to their repair if another can take over. */
  | { readonly kind: 'scrubbed'; readonly lba: number; readonly damaged: readonly number[] }
  | { readonly kind: 'answer'; readonly request: number; readonly answer: ClientAnswer }
  /** Memory of batches that nothing in here uses any more, told of once. Messages that were sent may hold it yet. */
  | { readonly kind: 'released'; readonly parts: readonly Uint8Array[] }
  /** Reads the configuration; answered by a `config` event. */
  | { readonly kind: 'refresh' }
  /** Stores `config` if the stored version is still `config.version - 1`; answered by a `config` event. */
  | { readonly kind: 'propose'; readonly config: VolumeConfig }
  /** The replica is dead: nothing it says from now on counts. Whoever runs it may start it anew from its disk. */
  | { readonly kind: 'stop'; readonly reason: string };

/** `now` is the local monotonic clock in milliseconds; it may drift, and differs from other replicas' clocks. */
export type ReplicaEvent = { readonly now: number } & (
  | { readonly kind: 'start' }
  | { readonly kind: 'tick' }
  | { readonly kind: 'disk'; readonly id: number; readonly outcome: DiskOutcome }
  | { readonly kind: 'message'; readonly from: ReplicaId; readonly message: Message }
  | { readonly kind: 'request'; readonly request: number; readonly body: ClientRequest }
  | { readonly kind: 'config'; readonly outcome: ConfigOutcome }
  /** Look whether these blocks are still what they should be; answered by a `scrubbed` effect. */
  | { readonly kind: 'scrub'; readonly lba: number; readonly blocks: number }
);
