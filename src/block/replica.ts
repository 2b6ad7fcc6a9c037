/**
 * One replica of a volume as a state machine: `step(event)` returns what is to be done. Everything it knows of the world
 * comes in events, everything it does goes out as effects; the same code runs in production and in the simulator.
 *
 * It is a backup until it holds the configuration's primary seat in an epoch that it has won itself, and a primary until
 * anything hints at a newer epoch. A dead replica (failed write or sync) stays silent; it may be started anew from its disk.
 */
import { assertNever } from '../base/assert.ts';
import { Backup } from './backup.ts';
import type { Context } from './context.ts';
import { type Decisions, decisions as soundDecisions } from './decisions.ts';
import { Membership } from './membership.ts';
import type { Message } from './messages.ts';
import type { ClientRequest, ConfigOutcome, Effect, ReplicaEvent } from './ports.ts';
import { Primary } from './primary.ts';
import type { Identity } from './recovery.ts';
import { Store } from './store.ts';
import { type Task, Tasks } from './tasks.ts';
import { GRACE_MS } from './timing.ts';
import type { Epoch, ReplicaId } from './units.ts';
import { withPrimary } from './volume-config.ts';

export interface ReplicaOptions {
  readonly id: ReplicaId;
  readonly identity: Identity;
  readonly minInSync: number;
  readonly decisions?: Decisions;
}

export type ReplicaState = 'opening' | 'backup' | 'establishing' | 'serving' | 'stopped';

export class Replica {
  readonly #context: Context;
  readonly #store: Store;
  readonly #tasks: Tasks;
  readonly #membership: Membership;
  #effects: Effect[] = [];
  #now = 0;
  #role: Backup | Primary | undefined;
  /** The epoch this process has proposed to be primary in. A seat won by an earlier life of this replica does not count. */
  #candidacy: Epoch | undefined;
  /** When this replica last lent a lease, or might have, or last heard of a new primary. */
  #patientFrom = 0;
  #stopped = false;

  constructor(options: ReplicaOptions) {
    const decisions = options.decisions ?? soundDecisions;
    this.#store = new Store(options.identity, decisions, (parts) => this.#effects.push({ kind: 'released', parts }));
    this.#tasks = new Tasks(
      (id, operation) => this.#effects.push({ kind: 'disk', id, operation }),
      (reason) => this.#stop(reason),
    );
    this.#membership = new Membership((effect) => this.#effects.push(effect));
    this.#context = {
      id: options.id,
      store: this.#store,
      decisions,
      membership: this.#membership,
      minInSync: options.minInSync,
      now: () => this.#now,
      send: (to, message) => this.#effects.push({ kind: 'send', to, message }),
      answer: (request, answer) => this.#effects.push({ kind: 'answer', request, answer }),
      start: (task) => this.#tasks.start(task),
    };
  }

  get state(): ReplicaState {
    if (this.#stopped) return 'stopped';
    if (this.#role === undefined) return 'opening';
    if (this.#role instanceof Backup) return 'backup';
    return this.#role.isServing ? 'serving' : 'establishing';
  }

  /** Whether what is on its disk counts; when not, only a rebuild helps. */
  get isUsable(): boolean {
    return this.#store.usable;
  }

  /** The volume's size. */
  get blocks(): number {
    return this.#store.blocks;
  }

  step(event: ReplicaEvent): readonly Effect[] {
    if (this.#stopped) return [];
    this.#effects = [];
    this.#now = event.now;
    this.#handle(event);
    this.#tasks.poll();
    this.#advance();
    this.#tasks.poll();
    return this.#effects;
  }

  #handle(event: ReplicaEvent): void {
    switch (event.kind) {
      case 'start':
        this.#tasks.start(this.#open());
        return;
      case 'tick':
        this.#membership.tick(event.now);
        return;
      case 'disk':
        this.#tasks.complete(event.id, event.outcome);
        return;
      case 'config':
        this.#decided(event.outcome);
        return;
      case 'message':
        this.#receive(event.from, event.message);
        return;
      case 'request':
        this.#request(event.request, event.body);
        return;
      case 'scrub':
        this.#tasks.start(this.#scrub(event.lba, event.blocks));
        return;
      default:
        assertNever(event);
    }
  }

  #decided(outcome: ConfigOutcome): void {
    const before = this.#membership.config;
    this.#membership.decided(outcome, this.#now);
    const { config } = this.#membership;
    // A new primary has the same grace as one that has just been heard of.
    if (config && before && config.epoch > before.epoch) this.#patientFrom = this.#now;
  }

  *#open(): Task {
    const opening = yield* this.#store.open();
    if (!opening.ok) this.#stop(opening.reason);
    else {
      // Whatever this replica granted in an earlier life may still be in force: its grace begins now.
      this.#patientFrom = this.#now;
      this.#role = this.#newBackup();
    }
  }

  #newBackup(): Backup {
    return new Backup(this.#context, () => {
      this.#patientFrom = this.#now;
    });
  }

  #receive(from: ReplicaId, message: Message): void {
    const role = this.#role;
    if (role instanceof Backup) role.receive(from, message);
    else if (role !== undefined) {
      if (message.epoch > role.epoch) this.#stepDown();
      else role.receive(from, message);
    }
  }

  #request(request: number, body: ClientRequest): void {
    if (this.#role instanceof Primary && this.#role.isServing) this.#role.request(request, body);
    else this.#context.answer(request, { ok: false, error: 'moved' });
  }

  *#scrub(lba: number, blocks: number): Task {
    const damaged = this.#store.usable ? yield* this.#store.scrub(lba, blocks) : [];
    this.#effects.push({ kind: 'scrubbed', lba, damaged });
    // A backup's primary learns of it from the next status.
    if (damaged.length > 0 && this.#role instanceof Primary) this.#role.stepAside();
  }

  #advance(): void {
    if (this.#stopped || this.#role === undefined) return;
    if (this.#role instanceof Primary) {
      const { config } = this.#membership;
      const unseated = config !== undefined && config.epoch > this.#role.epoch;
      if (unseated || this.#role.hasEnded) this.#stepDown();
      else this.#role.advance();
    }
    if (this.#role instanceof Backup) this.#considerPromotion(this.#role);
    if (this.#store.wantsCheckpoint) this.#tasks.start(this.#store.checkpoint());
  }

  #considerPromotion(backup: Backup): void {
    const { config, proposal } = this.#membership;
    const { id } = this.#context;
    if (config === undefined || !this.#store.usable || !config.inSync.includes(id)) return;
    const seated = config.primary === id;
    if (seated && config.epoch === this.#candidacy) {
      backup.end();
      this.#role = new Primary(this.#context, config.epoch);
      return;
    }
    if (proposal !== undefined) return;
    // Also when seated: the seat may have been won by an earlier life, and this one may have lent a lease since.
    if (config.members.length > 1 && this.#now - this.#patientFrom < GRACE_MS) return;
    const next = withPrimary(config, id, seated ? [] : [config.primary]);
    this.#candidacy = next.epoch;
    this.#membership.propose(next, this.#now);
  }

  #stepDown(): void {
    if (this.#role instanceof Primary) this.#role.end();
    this.#candidacy = undefined;
    this.#role = this.#newBackup();
  }

  #stop(reason: string): void {
    this.#stopped = true;
    this.#effects.push({ kind: 'stop', reason });
  }
}
