/**
 * What stands around the engine when machines are lost: somebody gives a lost member's place to a machine that has nothing yet, or to
 * one that has been a member; every machine that is up runs a replica when, and only when, the configuration names it. As block-controller and block-node do,
 * and as late as they are: each step is decided on what was read before it.
 */
import { chooseSuperblock } from '../../src/block/recovery.ts';
import { BLOCK_SIZE } from '../../src/block/units.ts';
import { isComplete, type VolumeConfig, withReplacement } from '../../src/block/volume-config.ts';
import type { Mutant } from './mutants.ts';
import type { SimNode } from './node.ts';
import type { ObjectStore } from './object-store.ts';
import type { Fault } from './plan.ts';
import type { Queue } from './queue.ts';
import { type Random, random } from './random.ts';

const RETRY_MS = 300;

export interface CustodyWorld {
  readonly seed: number;
  readonly nodes: readonly SimNode[];
  readonly queue: Queue;
  readonly store: ObjectStore;
  readonly mutant: Mutant | undefined;
  /** Nothing is replaced any more. */
  isCalm(): boolean;
  canReachStore(node: number): boolean;
  count(what: string): void;
}

export class Custody {
  readonly #world: CustodyWorld;
  readonly #random: Random;
  /** Machines that are gone until they come back. */
  readonly #lost = new Set<number>();
  /** Machines on which no replica is to run. */
  readonly #resting = new Set<number>();

  constructor(world: CustodyWorld) {
    this.#world = world;
    this.#random = random(world.seed, 'custody');
  }

  /** Begins to watch over the machines, of which the first ones are members and the others have nothing. */
  begin(members: number): void {
    for (const node of this.#world.nodes) {
      if (node.index >= members) {
        node.disk.wipe();
        this.#resting.add(node.index);
      }
      this.#lookAfter(node);
    }
  }

  /** Starts the machine's replica, if it is to have one. */
  start(node: SimNode): void {
    if (!this.#lost.has(node.index) && !this.#resting.has(node.index)) node.start();
  }

  /** Whoever is no member has nothing left. */
  isTidy({ members }: VolumeConfig): boolean {
    const isGone = (node: SimNode) => this.#resting.has(node.index) && contentOf(node) !== 'own';
    return this.#world.nodes.every((node) => members.includes(node.id) || isGone(node));
  }

  lose({ node: index, forMs, afterMs }: Extract<Fault, { kind: 'lose' }>): void {
    const { nodes, queue } = this.#world;
    this.#lost.add(index);
    nodes[index]!.crash('power');
    queue.after(forMs, () => this.#comesBack(index));
    queue.after(afterMs, () => this.#replace(nodes[index]!));
  }

  #comesBack(index: number): void {
    this.#lost.delete(index);
    this.start(this.#world.nodes[index]!);
  }

  allComeBack(): void {
    for (const index of this.#lost) this.#comesBack(index);
  }

  /** Tries until the lost member has come back, or is none any more. */
  #replace(lost: SimNode): void {
    const { store, queue, mutant } = this.#world;
    if (this.#world.isCalm() || !this.#lost.has(lost.index)) return;
    const again = () => queue.after(RETRY_MS, () => this.#replace(lost));
    store.call(undefined, (outcome) => {
      if (outcome.kind !== 'current') return again();
      const { config } = outcome;
      if (!config.members.includes(lost.id)) return;
      const next = this.#place(config);
      const successor = mutant?.replacement ?? ((config, _current, lost, next) => withReplacement(config, lost, next));
      // Who decides may be held up, and then knows of an old configuration.
      queue.after(this.#random.pick([0, 1, 100, 2500, 5000]), () => {
        const wanted = next && successor(config, store.config, lost.id, next.id);
        if (wanted === undefined) return again();
        store.call(wanted, again);
      });
    });
  }

  /** A machine that is up and has nothing, or what it had as a member, if a member in sync is up too: it has to fill it. */
  #place({ members, inSync }: VolumeConfig): SimNode | undefined {
    const { nodes } = this.#world;
    const isUp = (node: SimNode) => !this.#lost.has(node.index);
    if (!nodes.some((node) => isUp(node) && inSync.includes(node.id))) return undefined;
    const idle = nodes.filter((node) => isUp(node) && !members.includes(node.id) && this.#resting.has(node.index));
    const suitable = idle.filter((node) => contentOf(node) !== 'strange');
    return suitable.length > 0 ? this.#random.pick(suitable) : undefined;
  }

  #lookAfter(node: SimNode): void {
    const { queue, store } = this.#world;
    queue.after(this.#random.integer(100, 800), () => {
      if (this.#lost.has(node.index) || !this.#world.canReachStore(node.index)) return this.#lookAfter(node);
      store.call(undefined, (outcome) => {
        if (outcome.kind === 'current' && !this.#lost.has(node.index)) this.#follow(node, outcome.config);
        this.#lookAfter(node);
      });
    });
  }

  /** What has been read: a replica that is not named ends, and when it is still not named after that, and all others are in sync, its files go. */
  #follow(node: SimNode, config: VolumeConfig): void {
    const { index } = node;
    if (config.members.includes(node.id)) {
      if (!this.#resting.delete(index)) return;
      if (contentOf(node) === 'own') this.#world.count('former-returned');
      node.start();
    } else if (!this.#resting.has(index)) {
      this.#resting.add(index);
      node.crash('kill');
    } else if (contentOf(node) === 'own' && isComplete(config)) {
      node.disk.wipe();
      this.#world.count('former-removed');
    }
  }
}

/** What lies on the machine's disk: another's may have been put in there. */
export function contentOf({ disk, options }: SimNode): 'nothing' | 'own' | 'strange' {
  const choice = chooseSuperblock(disk.peek('superblock', 2 * BLOCK_SIZE), options.identity);
  if (!choice.ok) return 'strange';
  return choice.value === undefined ? 'nothing' : 'own';
}
