/**
 * A machine of the simulated world: a disk, a clock, and at most one running replica. It carries out the replica's effects and
 * turns what comes of them into events; it can crash at any effect, pause, and start again.
 */
import type { Decisions } from '../../src/block/decisions.ts';
import type { Message } from '../../src/block/messages.ts';
import type { ClientAnswer, DiskOperation, Effect, ReplicaEvent } from '../../src/block/ports.ts';
import type { Identity } from '../../src/block/recovery.ts';
import { Replica, type ReplicaState } from '../../src/block/replica.ts';
import { formatReplica } from '../../src/block/store.ts';
import type { VolumeConfig } from '../../src/block/volume-config.ts';
import type { Mutant } from './mutants.ts';
import { Violation } from './oracle.ts';
import type { CrashKind, Fault } from './plan.ts';
import type { Queue } from './queue.ts';
import type { Random } from './random.ts';
import { VirtualDisk } from './virtual-disk.ts';

const TICK_MS = 40;
/** Every so many ticks some blocks are scrubbed. */
const SCRUB_TICKS = 25;
const SCRUB_BLOCKS = 64;
const POISON = 0xa5;

type WithoutNow<T> = T extends { readonly now: number } ? Omit<T, 'now'> : never;
export type Input = WithoutNow<ReplicaEvent>;

export interface Surroundings {
  readonly queue: Queue;
  readonly random: Random;
  readonly mutant: Mutant | undefined;
  /** Of the volume. */
  readonly members: number;
  send(from: number, to: number, message: Message): void;
  answered(node: number, request: number, answer: ClientAnswer): void;
  config(node: number, proposal: VolumeConfig | undefined): void;
  down(node: number, downMs: number | undefined): void;
  count(what: string): void;
  /** A scrub has found a damaged block. */
  scrubFound(node: number): void;
}

export interface NodeOptions {
  readonly index: number;
  readonly identity: Identity;
  readonly minInSync: number;
  readonly clockRate: number;
  readonly crashes: readonly Extract<Fault, { kind: 'crash' }>[];
}

export class SimNode {
  readonly index: number;
  readonly id: string;
  readonly options: NodeOptions;
  disk: VirtualDisk;
  /** Its disk has lied: what it holds cannot be relied on. */
  intact = true;
  slowUntil = 0;
  #replica: Replica | undefined;
  #life = 0;
  #effects = 0;
  #pausedUntil = 0;
  #scrubAt = 0;
  /** Came in during a pause. */
  readonly #held: Input[] = [];
  #stopReason: string | undefined;
  readonly #around: Surroundings;

  constructor(options: NodeOptions, around: Surroundings) {
    this.options = options;
    this.index = options.index;
    this.id = nodeName(options.index);
    this.#around = around;
    this.disk = new VirtualDisk(around.random);
    for (const operation of formatReplica(options.identity)) this.disk.force(operation);
  }

  get isUp(): boolean {
    return this.#replica !== undefined;
  }

  get state(): ReplicaState | 'down' {
    return this.#replica?.state ?? 'down';
  }

  get stopReason(): string | undefined {
    return this.#stopReason;
  }

  get #clock(): number {
    return this.#around.queue.now * this.options.clockRate;
  }

  start(): void {
    if (this.#replica) return;
    const { mutant } = this.#around;
    const { identity, minInSync } = this.options;
    const life = ++this.#life;
    const decisions: { decisions?: Decisions } = mutant?.decisions ? { decisions: mutant.decisions } : {};
    this.#replica = new Replica({ id: this.id, identity, minInSync, ...decisions });
    this.#stopReason = undefined;
    this.input({ kind: 'start' });
    let ticks = 0;
    const tick = () => {
      if (this.#life !== life) return;
      this.input({ kind: 'tick' });
      if (++ticks % SCRUB_TICKS === 0) this.#scrub();
      this.#around.queue.after(TICK_MS, tick);
    };
    this.#around.queue.after(this.#around.random.integer(1, TICK_MS), tick);
  }

  #scrub(): void {
    const { blocks } = this.options.identity.geometry;
    const lba = this.#scrubAt;
    this.#scrubAt = (lba + SCRUB_BLOCKS) % blocks;
    this.input({ kind: 'scrub', lba, blocks: Math.min(SCRUB_BLOCKS, blocks - lba) });
  }

  pause(forMs: number): void {
    const { queue } = this.#around;
    this.#pausedUntil = Math.max(this.#pausedUntil, queue.now + forMs);
    queue.after(forMs, () => {
      if (queue.now >= this.#pausedUntil) this.resume();
    });
  }

  /** What has come in meanwhile is handled in its order, by the clock of now. */
  resume(): void {
    this.#pausedUntil = 0;
    const life = this.#life;
    for (const event of this.#held.splice(0)) {
      if (this.#life === life) this.input(event);
    }
  }

  /** Starts again after `downMs`; without it, when the world says so. */
  crash(how: CrashKind, downMs?: number): void {
    if (!this.#replica) return;
    this.#replica = undefined;
    this.#held.length = 0;
    this.#life++;
    if (how === 'power') this.disk.losePower();
    else this.disk.kill();
    this.#around.count(`crash-${how}`);
    this.#around.down(this.index, downMs);
  }

  input(event: Input): void {
    if (this.#around.queue.now < this.#pausedUntil) {
      this.#held.push(event);
      return;
    }
    if (!this.#replica) return;
    let effects: readonly Effect[];
    try {
      effects = this.#replica.step({ ...event, now: this.#clock } as ReplicaEvent);
    } catch (error) {
      // A broken invariant stops a replica. It must not break on a disk that never lied.
      if (this.intact) throw new Violation(`${this.id}: ${error instanceof Error ? error.stack : error}`);
      this.#around.count('assertion-after-lie');
      this.crash('kill');
      return;
    }
    const life = this.#life;
    for (const effect of effects) {
      if (this.#life !== life) return;
      this.#carryOut(effect);
    }
  }

  /** Whoever used it after all would find this. Messages share it with other machines here. */
  #poison(parts: readonly Uint8Array[]): void {
    if (this.#around.members === 1) for (const part of parts) part.fill(POISON);
  }

  #carryOut(effect: Effect): void {
    if (effect.kind === 'released') {
      this.#poison(effect.parts);
      return;
    }
    const number = this.#effects++;
    const crash = this.options.crashes.find((fault) => fault.effect === number);
    if (crash?.before) {
      this.crash(crash.how);
      return;
    }
    this.#perform(effect);
    if (crash) this.crash(crash.how);
  }

  #perform(effect: Effect): void {
    switch (effect.kind) {
      case 'disk':
        this.#operate(effect);
        return;
      case 'send':
        this.#around.send(this.index, nodeIndex(effect.to), effect.message);
        return;
      case 'answer':
        this.#around.answered(this.index, effect.request, effect.answer);
        return;
      case 'refresh':
        this.#around.config(this.index, undefined);
        return;
      case 'propose':
        this.#around.config(this.index, effect.config);
        return;
      case 'scrubbed':
        if (effect.damaged.length === 0) return;
        this.#around.count('scrub-found-damage');
        this.#around.scrubFound(this.index);
        return;
      case 'stop':
        this.#around.count('stop');
        this.crash('kill');
        this.#stopReason = effect.reason;
        return;
    }
  }

  #countState(operation: DiskOperation): void {
    if (operation.kind !== 'write') return;
    if (operation.area === 'table') this.#around.count('table-page-written');
    if (operation.area !== 'log') return;
    if (operation.offset === 0) this.#around.count('log-wrapped');
    if (this.state !== 'opening' && operation.data.every((byte) => byte === 0)) this.#around.count('batch-truncated');
  }

  #operate(effect: Extract<Effect, { kind: 'disk' }>): void {
    const { queue, random, mutant } = this.#around;
    const operation = mutant?.disk ? mutant.disk(this.index, effect.operation) : effect.operation;
    this.#countState(operation);
    const { disk } = this;
    const life = this.#life;
    disk.begin(operation);
    const slow = queue.now < this.slowUntil ? 40 : 1;
    const delay = (operation.kind === 'sync' ? 1 + random.next() * 4 : random.next()) * slow;
    queue.after(delay, () => {
      if (this.#life !== life) return;
      const outcome = disk.finish(operation);
      this.input({
        kind: 'disk',
        id: effect.id,
        outcome: mutant?.outcome ? mutant.outcome(operation, outcome) : outcome,
      });
    });
  }
}

export function nodeName(index: number): string {
  return `node-${index}`;
}

export function nodeIndex(name: string): number {
  return Number(name.slice('node-'.length));
}
