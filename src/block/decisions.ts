/**
 * The decisions on which the engine's promise rests, each a pure function: who may be believed, what is committed,
 * what a flush waits for, whether a lease holds. A replica gets them as an argument, so that the simulator can put a wrong one
 * in its place and see that it is caught (test/sim/mutants.ts).
 */
import type { PlacedBatch } from './log.ts';
import type { Epoch, Lsn, Point } from './units.ts';

export interface Decisions {
  /** In what order recovery replays the live log. `batches` come in LSN order. */
  replayOrder(batches: readonly PlacedBatch[]): readonly PlacedBatch[];
  /** Whether a flush that began when `target` was the newest record may be answered. */
  isFlushed(target: Lsn, committed: Point): boolean;
  /** What every one of the in-sync set has on its disk: the least of what they report. */
  committed(durable: readonly Point[]): Point | undefined;
  /** Whether a message of `epoch` may still be obeyed. */
  acceptsEpoch(promised: Epoch, epoch: Epoch): boolean;
  /** Whether a lease is still in force. */
  holds(leaseUntil: number, now: number): boolean;
}

export const decisions: Decisions = {
  // Where a batch lies says nothing about its age: the ring wraps.
  replayOrder: (batches) => batches,
  isFlushed: (target, committed) => committed.lsn >= target,
  committed: (durable) =>
    durable.reduce<Point | undefined>((least, point) => (!least || point.lsn < least.lsn ? point : least), undefined),
  acceptsEpoch: (promised, epoch) => epoch >= promised,
  holds: (leaseUntil, now) => now < leaseUntil,
};
