/**
 * A seeded world: machines, network, object store, client, judge. One run is a function of the plan (and of the mutant under
 * test); it throws a Violation when a promise of the engine is broken, or when it does not recover once all faults are over.
 */
import type { Message } from '../../src/block/messages.ts';
import type { ClientRequest } from '../../src/block/ports.ts';
import { toEpoch } from '../../src/block/units.ts';
import type { VolumeConfig } from '../../src/block/volume-config.ts';
import { Client } from './client.ts';
import { compareReplicas } from './compare.ts';
import { Custody } from './custody.ts';
import { inflict } from './faults.ts';
import type { Mutant } from './mutants.ts';
import { nodeName, SimNode, type Surroundings } from './node.ts';
import { ObjectStore } from './object-store.ts';
import { Oracle, Violation } from './oracle.ts';
import type { Fault, Plan } from './plan.ts';
import { Queue } from './queue.ts';
import { type Random, random } from './random.ts';

/** All faults are over after so long, and everything must work again so much later. */
const FAULTS_END_MS = 12_000;
const PATIENCE_MS = 40_000;
const MAX_EVENTS = 400_000;
const VOLUME = '0123456789abcdef0123456789abcdef';

export class World {
  readonly plan: Plan;
  readonly queue = new Queue();
  readonly oracle = new Oracle();
  readonly nodes: readonly SimNode[];
  readonly counts = new Map<string, number>();
  readonly store: ObjectStore;
  readonly client: Client;
  /** Where a machine may be lost. */
  readonly custody: Custody | undefined;
  /** Directed links that are cut, as `from>to`, and machines that cannot reach the object store. */
  readonly cuts = new Map<string, number>();
  readonly isolated = new Map<number, number>();
  noise = { until: 0, drop: 0, double: 0 };
  #network: Random;
  #mutant: Mutant | undefined;
  #calm = false;
  /** As of the last change. */
  #config: VolumeConfig;

  constructor(plan: Plan, mutant?: Mutant) {
    this.plan = plan;
    this.#mutant = mutant;
    this.#network = random(plan.seed, 'network');
    this.nodes = plan.clockRates.map((clockRate, index) => this.#makeNode(index, clockRate));
    const members = this.nodes.slice(0, plan.replicas).map(({ id }) => id);
    const config: VolumeConfig = { version: 1, epoch: toEpoch(0), primary: members[0]!, inSync: members, members };
    this.#config = config;
    const store = { queue: this.queue, random: random(plan.seed, 'api') };
    this.store = new ObjectStore(store, config, (next) => this.#configChanged(next));
    this.client = this.#makeClient();
    this.custody = this.nodes.length > plan.replicas ? this.#makeCustody() : undefined;
  }

  #makeCustody(): Custody {
    const { plan, nodes, queue, store } = this;
    return new Custody({
      ...{ seed: plan.seed, nodes, queue, store, mutant: this.#mutant },
      isCalm: () => this.#calm,
      canReachStore: (node) => (this.isolated.get(node) ?? 0) <= queue.now,
      count: (what) => this.count(what),
    });
  }

  #makeNode(index: number, clockRate: number): SimNode {
    const { plan } = this;
    const around: Surroundings = {
      queue: this.queue,
      random: random(plan.seed, `disk-${index}`),
      mutant: this.#mutant,
      members: plan.replicas,
      send: (from, to, message) => this.#send(from, to, message),
      answered: (node, request, answer) => this.client.answered(node, request, answer),
      config: (node, proposal) => this.#callStore(node, proposal),
      down: (node, downMs) => this.#wentDown(node, downMs),
      count: (what) => this.count(what),
      scrubFound: (node) => this.#scrubFound(node),
    };
    const geometry = { blocks: plan.blocks, ringBlocks: plan.ringBlocks };
    const identity = { volume: VOLUME, replica: String(index).padStart(32, 'a'), geometry };
    const crashes = plan.faults.filter((fault): fault is Extract<Fault, { kind: 'crash' }> => fault.kind === 'crash');
    const mine = crashes.filter(({ node }) => node === index);
    return new SimNode({ index, identity, minInSync: plan.minInSync, clockRate, crashes: mine }, around);
  }

  #makeClient(): Client {
    const { plan } = this;
    return new Client(
      {
        ...plan,
        nodes: this.nodes.length,
        submit: (node, request, body) => {
          const target = this.nodes[node]!;
          if (target.isUp) this.queue.after(0.1, () => this.#deliver(target, request, body));
          return target.isUp;
        },
        mayBeDamaged: (node) => this.#mayBeDamaged(node),
      },
      { oracle: this.oracle, queue: this.queue, random: random(plan.seed, 'client') },
    );
  }

  /** EIO is right only when the disk has given reason and no other member of the in-sync set could take over. */
  #mayBeDamaged(index: number): boolean {
    const { inSync } = this.store.config;
    const others = this.nodes.filter((node) => node.index !== index && node.intact && inSync.includes(node.id));
    const reason = !this.nodes[index]!.intact || this.plan.faults.some(isReadError);
    return reason && others.length === 0;
  }

  #scrubFound(index: number): void {
    const node = this.nodes[index]!;
    if (node.intact && !this.plan.faults.some(isReadError)) {
      throw new Violation(`a scrub of ${node.id} finds damage although its disk never lied`);
    }
  }

  #deliver(node: SimNode, request: number, body: ClientRequest): void {
    if (node.isUp) node.input({ kind: 'request', request, body });
    else this.client.serverDown(node.index);
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  #send(from: number, to: number, original: Message): void {
    const message = this.#mutant?.message ? this.#mutant.message(original) : original;
    if (message === undefined) return;
    const dice = this.#network;
    const noisy = this.queue.now < this.noise.until;
    if (message.kind === 'seal' || message.kind === 'nack') this.count(`sent-${message.kind}`);
    const isCut = (this.cuts.get(`${from}>${to}`) ?? 0) > this.queue.now;
    if (isCut || (noisy && dice.chance(this.noise.drop))) {
      this.count('message-lost');
      return;
    }
    const times = noisy && dice.chance(this.noise.double) ? 2 : 1;
    if (times === 2) this.count('message-doubled');
    for (let time = 0; time < times; time++) {
      const delay = noisy && dice.chance(0.2) ? dice.integer(1, 900) : 0.1 + dice.next() * 2;
      this.queue.after(delay, () => this.nodes[to]!.input({ kind: 'message', from: nodeName(from), message }));
    }
  }

  #callStore(index: number, proposal: VolumeConfig | undefined): void {
    const node = this.nodes[index]!;
    if ((this.isolated.get(index) ?? 0) > this.queue.now) {
      this.queue.after(100, () => node.input({ kind: 'config', outcome: { kind: 'unknown' } }));
      return;
    }
    this.store.call(proposal, (outcome) => node.input({ kind: 'config', outcome }));
  }

  #configChanged(config: VolumeConfig): void {
    const before = this.#config;
    this.#config = config;
    if (config.epoch > before.epoch) this.count(config.primary === before.primary ? 'new-epoch' : 'failover');
    if (config.inSync.length < before.inSync.length) this.count('left-in-sync');
    if (config.inSync.length > before.inSync.length) this.count('joined-in-sync');
    if (config.members.some((id) => !before.members.includes(id))) this.count('replaced');
    if (config.inSync.length === 0) throw new Violation('nobody is left in sync');
    const stranger = config.inSync.find((id) => !config.members.includes(id));
    if (stranger !== undefined) throw new Violation(`${stranger} is in sync and no member`);
    this.judgeIntactness(config);
  }

  /** The promise holds while one member of the in-sync set is intact. */
  judgeIntactness(config: VolumeConfig = this.store.config): void {
    if (this.nodes.some((node) => node.intact && config.inSync.includes(node.id))) return;
    this.oracle.relaxed = true;
  }

  #wentDown(index: number, downMs: number | undefined): void {
    this.client.serverDown(index);
    const dice = random(this.plan.seed, `restart-${index}-${this.queue.now}`);
    const delay = this.#calm ? 200 : (downMs ?? dice.integer(5, 2500));
    this.queue.after(delay, () => this.#start(this.nodes[index]!));
  }

  #start(node: SimNode): void {
    if (this.custody) this.custody.start(node);
    else node.start();
  }

  run(): void {
    this.custody?.begin(this.plan.replicas);
    for (const fault of this.plan.faults) inflict(this, fault);
    for (const node of this.nodes) this.#start(node);
    this.queue.after(5, () => this.client.pump());
    this.#runUntil(() => this.queue.now > FAULTS_END_MS || (this.client.hasIssuedAll && this.queue.now > 9000));
    this.#calm = true;
    this.#heal();
    this.client.finish();
    const deadline = this.queue.now + PATIENCE_MS;
    this.#runUntil(() => this.#isWell() || this.queue.now > deadline);
    if (this.oracle.relaxed) {
      this.count('relaxed-world');
      return;
    }
    if (!this.#isWell()) throw new Violation(`not well ${PATIENCE_MS} ms after the last fault: ${this.#describe()}`);
    compareReplicas(this);
  }

  #heal(): void {
    this.cuts.clear();
    this.isolated.clear();
    this.noise = { until: 0, drop: 0, double: 0 };
    this.store.lossRate = 0;
    this.custody?.allComeBack();
    for (const node of this.nodes) {
      node.disk.heal();
      node.slowUntil = 0;
      node.resume();
      this.#start(node);
    }
  }

  #isWell(): boolean {
    if (!this.client.isDone) return false;
    if (this.oracle.relaxed) return true;
    const { config } = this.store;
    const leader = this.nodes.find(({ id }) => id === config.primary);
    // A primary that serves has made all of the in-sync set agree, and nobody writes any more.
    const areAll = config.inSync.length === this.plan.replicas && leader?.state === 'serving';
    return areAll && (this.custody?.isTidy(config) ?? true);
  }

  #describe(): string {
    const { config } = this.store;
    const states = this.nodes.map(
      (node) => `${node.id} ${node.state}${node.stopReason ? ` (${node.stopReason})` : ''}`,
    );
    return `${states.join(', ')}; epoch ${config.epoch}, primary ${config.primary}, in sync ${config.inSync.join(' ')} of ${config.members.join(' ')}`;
  }

  #runUntil(done: () => boolean): void {
    for (let events = 0; !done(); events++) {
      if (events > MAX_EVENTS) throw new Violation(`still busy after ${MAX_EVENTS} events: ${this.#describe()}`);
      if (!this.queue.step()) throw new Violation('nothing happens any more');
    }
  }
}

function isReadError(fault: Fault): boolean {
  return fault.kind === 'disk-error' && fault.error === 'eio-read';
}
