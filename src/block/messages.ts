/**
 * What replicas of a volume say to each other. Every message carries the sender's epoch; the adapter adds volume, length and
 * checksum. Any of them may be lost, doubled, delayed or overtaken: each is either repeated until it is answered,
 * or harmless to lose.
 */
import type { Epoch, Point } from './units.ts';

export type Message =
  /**
   * Primary to all members, at every beat: obey this epoch, here is what is committed. `beat` is the sender's clock and
   * comes back in the answer, from which its lease is counted.
   */
  | {
      readonly kind: 'hello';
      readonly epoch: Epoch;
      readonly beat: number;
      readonly committed: Point;
    }
  /** A batch, byte for byte as in the log; in parts, so that data are not copied. */
  | { readonly kind: 'append'; readonly epoch: Epoch; readonly committed: Point; readonly parts: readonly Uint8Array[] }
  /** What the sender has on its disk. Only one that answers a hello has `beat` and is a lease. */
  | { readonly kind: 'status'; readonly epoch: Epoch; readonly beat: number | undefined; readonly status: PeerStatus }
  /** The sender has promised `epoch`, which is newer than what it was told. */
  | { readonly kind: 'nack'; readonly epoch: Epoch }
  /**
   * Begin a rebuild: forget the log, go on after `start`, where the volume has `blocks` blocks. Counts only for a replica that still is as the primary has `seen`
   * it: a reset that comes late must not empty one that has been rebuilt since.
   */
  | {
      readonly kind: 'reset';
      readonly epoch: Epoch;
      readonly session: number;
      readonly start: Point;
      readonly blocks: number;
      readonly seen: { readonly usable: boolean; readonly durable: Point };
    }
  /** Content of `blocks` blocks from `lba` on; without data, zeros. `index` counts the session's messages from 0. */
  | {
      readonly kind: 'base';
      readonly epoch: Epoch;
      readonly session: number;
      readonly index: number;
      readonly lba: number;
      readonly blocks: number;
      readonly data: Uint8Array | undefined;
    }
  /** The base is complete after `count` messages. */
  | { readonly kind: 'seal'; readonly epoch: Epoch; readonly session: number; readonly count: number };

export interface PeerStatus {
  /** False: only a rebuild helps. */
  readonly usable: boolean;
  /** False: usable, but some block is damaged. */
  readonly intact: boolean;
  readonly durable: Point;
  /** A prefix that the sender knows to be committed; it truncates no further than this. */
  readonly committed: Point;
  /** The rebuild under way: how many base messages have arrived. */
  readonly rebuild: { readonly session: number; readonly received: number } | undefined;
}
