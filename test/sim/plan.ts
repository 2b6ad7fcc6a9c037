/**
 * What a seed means: the size of the world, its workload, and the list of faults. Everything that goes wrong is an entry of
 * that list, so a failing history shrinks by leaving entries out; what is left is replayed by their numbers.
 */
import type { Area } from '../../src/block/ports.ts';
import { type Random, random } from './random.ts';
import type { DiskError, Lie } from './virtual-disk.ts';

export type Fault =
  /** Before or after the n-th effect of a replica, the whole world's when `node` is -1. */
  | {
      readonly kind: 'crash';
      readonly node: number;
      readonly effect: number;
      readonly before: boolean;
      readonly how: CrashKind;
    }
  /** All of these lose power at once, and start again after `downMs`. */
  | { readonly kind: 'blackout'; readonly nodes: readonly number[]; readonly at: number; readonly downMs: number }
  | { readonly kind: 'disk-error'; readonly node: number; readonly at: number; readonly error: DiskError }
  | { readonly kind: 'slow-disk'; readonly node: number; readonly at: number; readonly forMs: number }
  | {
      readonly kind: 'lie';
      readonly node: number;
      readonly at: number;
      readonly lie: Lie | 'flip' | 'wipe';
      readonly area: Area;
    }
  | { readonly kind: 'swap'; readonly at: number }
  | { readonly kind: 'cut'; readonly from: number; readonly to: number; readonly at: number; readonly forMs: number }
  | { readonly kind: 'isolate-api'; readonly node: number; readonly at: number; readonly forMs: number }
  | { readonly kind: 'api-unsure'; readonly at: number; readonly forMs: number }
  /** Gone for `forMs`; `afterMs` after its loss somebody begins to give its place to another machine. */
  | {
      readonly kind: 'lose';
      readonly node: number;
      readonly at: number;
      readonly forMs: number;
      readonly afterMs: number;
    }
  | { readonly kind: 'pause'; readonly node: number; readonly at: number; readonly forMs: number }
  | {
      readonly kind: 'noise';
      readonly at: number;
      readonly forMs: number;
      readonly drop: number;
      readonly double: number;
    };

export type CrashKind = 'power' | 'kill';

export interface Plan {
  readonly seed: number;
  readonly replicas: number;
  readonly minInSync: number;
  readonly blocks: number;
  readonly ringBlocks: number;
  /** The client makes the volume so much larger, at some operation. */
  readonly growBy: number;
  /** Blocks that the client works on; those beyond the first size once the volume has grown. */
  readonly hot: readonly number[];
  readonly operations: number;
  readonly depth: number;
  /** At most so long a pause between two operations. */
  readonly thinkMs: number;
  /** How much faster or slower each machine's clock runs. There are more than replicas where one may be lost. */
  readonly clockRates: readonly number[];
  readonly faults: readonly Fault[];
}

const AREAS: readonly Area[] = ['superblock', 'log', 'table', 'data'];
const FAULT_SPAN_MS = 8000;
const FAULT_EFFECTS = 1500;

export function makePlan(seed: number): Plan {
  const dice = random(seed, 'plan');
  const replicas = dice.pick([1, 1, 2, 2, 2, 3, 3]);
  const ringBlocks = dice.pick([16, 17, 24, 33, 64]);
  const blocks = dice.pick([40, 300, 520]);
  const hot = Array.from({ length: dice.integer(4, 10) }, () => {
    // Around the border of two table pages when there is one.
    return blocks > 256 && dice.chance(0.5) ? dice.integer(250, 258) : dice.integer(0, blocks - 1);
  });
  const growth = random(seed, 'growth');
  const growBy = growth.chance(0.3) ? growth.pick([1, 30, 254, 300]) : 0;
  const losses = makeLosses(random(seed, 'losses'), replicas);
  const beyond = growBy === 0 ? [] : [blocks, blocks + growth.integer(0, growBy - 1), blocks + growBy - 1];
  return {
    seed,
    replicas,
    minInSync: replicas > 1 && dice.chance(0.2) ? 2 : 1,
    blocks,
    ringBlocks,
    growBy,
    hot: [...new Set([...hot, ...beyond])],
    operations: dice.integer(20, 160),
    depth: dice.integer(1, 6),
    thinkMs: dice.pick([0, 30, 300, 300]),
    clockRates: [
      ...Array.from({ length: replicas }, () => 1 + (dice.next() - 0.5) * 0.1),
      ...(losses.length === 0 ? [] : [1]),
    ],
    faults: [...makeFaults(dice, replicas), ...losses],
  };
}

/** One machine or two that are lost, maybe for good, among them the one beside that takes a lost one's place. */
function makeLosses(dice: Random, replicas: number): readonly Fault[] {
  if (replicas === 1 || dice.chance(0.75)) return [];
  if (dice.chance(0.3)) return makeReturn(dice, replicas);
  if (dice.chance(0.3)) return makeRotation(dice, replicas);
  const lose = (node: number): Fault => ({
    kind: 'lose',
    node,
    at: dice.integer(0, FAULT_SPAN_MS),
    forMs: dice.pick([dice.integer(50, 6000), dice.integer(50, 6000), Number.POSITIVE_INFINITY]),
    afterMs: dice.integer(0, 3000),
  });
  const losses = [lose(dice.integer(0, replicas - 1))];
  if (dice.chance(0.4)) losses.push(lose(dice.integer(0, replicas)));
  // While it is being filled, and as a member.
  const crash = { kind: 'crash', node: replicas, effect: dice.integer(0, 600), before: dice.chance(0.5) } as const;
  if (dice.chance(0.4)) losses.push({ ...crash, how: dice.pick(['power', 'power', 'kill']) });
  return losses;
}

/** A lost machine comes back when its replacement has just been decided on, and soon it is the others that are gone. */
function makeReturn(dice: Random, replicas: number): readonly Fault[] {
  const node = dice.integer(0, replicas - 1);
  const others = Array.from({ length: replicas }, (_, index) => index).filter((index) => index !== node);
  const at = dice.integer(500, 3000);
  const forMs = dice.integer(1600, 3000);
  return [
    { kind: 'lose', node, at, forMs, afterMs: forMs - dice.integer(0, 300) },
    { kind: 'blackout', nodes: others, at: at + forMs + dice.integer(300, 2000), downMs: dice.integer(1500, 5000) },
  ];
}

/** It comes back while its replacement is being filled; that one is lost in turn, so that who comes back gets its place again. */
function makeRotation(dice: Random, replicas: number): readonly Fault[] {
  const node = dice.integer(0, replicas - 1);
  const at = dice.integer(500, 3000);
  const afterMs = dice.integer(1500, 2500);
  const forMs = afterMs + dice.integer(0, 300);
  const again = {
    at: at + forMs + dice.integer(0, 600),
    forMs: dice.integer(2000, 6000),
    afterMs: dice.integer(0, 1000),
  };
  return [
    { kind: 'lose', node, at, forMs, afterMs },
    { kind: 'lose', node: replicas, ...again },
  ];
}

function makeFaults(dice: Random, replicas: number): readonly Fault[] {
  const node = () => dice.integer(0, replicas - 1);
  const at = () => dice.integer(0, FAULT_SPAN_MS);
  const forMs = () => dice.integer(50, 4000);
  const faults: Fault[] = [];
  const add = (most: number, make: () => Fault) => {
    for (let count = dice.integer(0, most); count > 0; count--) faults.push(make());
  };
  add(5, () => ({
    kind: 'crash',
    node: node(),
    effect: dice.integer(0, FAULT_EFFECTS),
    before: dice.chance(0.5),
    how: dice.pick(['power', 'power', 'kill']),
  }));
  if (dice.chance(0.3)) {
    const nodes = Array.from({ length: replicas }, (_, index) => index);
    faults.push({ kind: 'blackout', nodes, at: at(), downMs: dice.integer(5, 2500) });
  }
  if (dice.chance(0.4)) {
    const error = dice.pick<DiskError>(['eio-write', 'enospc', 'eio-sync', 'eio-sync', 'eio-read']);
    faults.push({ kind: 'disk-error', node: node(), at: at(), error });
  }
  if (dice.chance(0.2)) faults.push({ kind: 'slow-disk', node: node(), at: at(), forMs: forMs() });
  if (dice.chance(0.25)) {
    const lie = dice.pick(['drop', 'misdirect', 'flip', 'flip', 'wipe'] as const);
    faults.push({ kind: 'lie', node: node(), at: at(), lie, area: dice.pick(AREAS) });
  }
  if (replicas === 1) return faults;
  // Not with a lying disk: a lie would follow the disk into the other machine and be counted against the wrong one.
  if (dice.chance(0.03) && !faults.some(({ kind }) => kind === 'lie')) faults.push({ kind: 'swap', at: at() });
  add(3, () => {
    const from = node();
    return { kind: 'cut', from, to: (from + dice.integer(1, replicas - 1)) % replicas, at: at(), forMs: forMs() };
  });
  if (dice.chance(0.3)) faults.push({ kind: 'isolate-api', node: node(), at: at(), forMs: forMs() });
  if (dice.chance(0.3)) faults.push({ kind: 'api-unsure', at: at(), forMs: forMs() });
  if (dice.chance(0.4)) faults.push({ kind: 'pause', node: node(), at: at(), forMs: forMs() });
  if (dice.chance(0.4)) {
    faults.push({ kind: 'noise', at: at(), forMs: forMs(), drop: dice.next() * 0.3, double: dice.next() * 0.3 });
  }
  if (dice.chance(0.25)) faults.push(...makeCoup(dice, replicas));
  return faults;
}

/**
 * One machine is cut off from everything, another takes its place, and falls just when the first one comes back; it starts
 * again at once and cannot yet be told by the object store what it was.
 */
function makeCoup(dice: Random, replicas: number): readonly Fault[] {
  const old = dice.integer(0, replicas - 1);
  const at = dice.integer(1500, 5000);
  const forMs = dice.integer(1500, 3000);
  const fallAt = at + forMs - dice.integer(0, 300);
  const others = Array.from({ length: replicas }, (_, index) => index).filter((index) => index !== old);
  const rest = others.flatMap((other): readonly Fault[] => [
    { kind: 'cut', from: old, to: other, at, forMs },
    { kind: 'cut', from: other, to: old, at, forMs },
    { kind: 'isolate-api', node: other, at: fallAt, forMs: dice.integer(0, 1500) },
  ]);
  return [
    { kind: 'isolate-api', node: old, at, forMs: forMs + dice.integer(0, 3000) },
    ...rest,
    { kind: 'blackout', nodes: others, at: fallAt, downMs: dice.integer(5, 300) },
  ];
}
