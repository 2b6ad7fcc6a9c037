/**
 * How a branch is, judged from what was seen of it, and whom its gate lets through. Pure.
 *
 * That requests wait for a branch says little: an fsync may take seconds. Only when a probe, which needs no more than a look at its root
 * and one small change, goes unanswered as well is the branch taken for one that hangs.
 */
import { GATE } from './gate.ts';

export type Health = 'ok' | 'read-only' | 'slow' | 'hanging' | 'failing' | 'gone' | 'foreign';

/** What a probe that was answered found. */
export interface Finding {
  readonly kind: 'ok' | 'read-only' | 'failing' | 'gone' | 'foreign';
  /** What is wrong, for people. */
  readonly message: string;
}

export interface Sight {
  readonly finding: Finding;
  /** How long a look at the branch, and a change of it, have gone unanswered: 0 when none is under way. */
  readonly lookMs: number;
  readonly changeMs: number;
  /** Readers that wait for it longer than a moment. */
  readonly waiting: number;
}

export interface Patience {
  /** After this long new names are made elsewhere; what needs the branch waits. */
  readonly slowMs: number;
  /** After this long it counts as hanging, and what needs it is answered EIO. */
  readonly hangingMs: number;
  /** So many readers may wait for a branch that is slow: one more and it counts as hanging. */
  readonly maxWaiting: number;
}

/** A snapshot freezes a filesystem for seconds: that passes unnoticed. */
export const PATIENCE: Patience = { slowMs: 2_000, hangingMs: 30_000, maxWaiting: 8 };

export interface Judgement {
  readonly health: Health;
  /** Bits of GATE. */
  readonly gate: number;
  readonly message: string;
}

const GATES: Readonly<Record<Health, number>> = {
  ok: 0,
  'read-only': GATE.avoided | GATE.readOnly,
  slow: GATE.avoided,
  hanging: GATE.avoided | GATE.closed,
  failing: GATE.avoided | GATE.closed,
  gone: GATE.avoided | GATE.closed,
  foreign: GATE.avoided | GATE.closed,
};

export function judge({ finding, lookMs, changeMs, waiting }: Sight, patience: Patience): Judgement {
  const { kind, message } = finding;
  const isOut = kind === 'failing' || kind === 'gone' || kind === 'foreign';
  const unansweredMs = Math.max(lookMs, changeMs);
  if (isOut || unansweredMs < patience.slowMs) return { health: kind, gate: GATES[kind], message };
  const isFrozen = lookMs < patience.slowMs;
  const what = isFrozen ? 'changes have not been answered' : 'it has not answered';
  const said = `${what} for ${Math.floor(unansweredMs / 1000)} s`;
  if (unansweredMs < patience.hangingMs && waiting < patience.maxWaiting)
    return { health: 'slow', gate: GATES.slow, message: said };
  const gate = isFrozen ? GATE.avoided | GATE.unchangeable : GATES.hanging;
  return { health: 'hanging', gate, message: said };
}
