/**
 * Runs one replica: carries out what its state machine wants (block/ports.ts) and reports what came of it, one event at a
 * time. Whatever it waits for is reported as an event; it decides nothing itself.
 */
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Message } from '../../block/messages.ts';
import type { ClientAnswer, ClientRequest, ConfigOutcome, Effect, ReplicaEvent } from '../../block/ports.ts';
import { Replica, type ReplicaOptions, type ReplicaState } from '../../block/replica.ts';
import type { ReplicaId } from '../../block/units.ts';
import type { VolumeConfig } from '../../block/volume-config.ts';
import { BufferPool } from '../buffers.ts';
import type { BlockDevice } from '../nbd/byte-device.ts';
import type { ConfigStore } from './config-register.ts';
import type { BlockDisk } from './replica-files.ts';

const TICK_MS = 50;
/** So much is scrubbed each second: 1 MiB, that is 100 GiB in 28 hours. */
const SCRUB_MS = 1000;
const SCRUB_BLOCKS = 256;
/** Memory that was not needed for so long goes back to the machine. */
const SHRINK_MS = 1000;

/** The way to the other members. Messages may be lost. */
export interface ReplicaNetwork {
  send(to: ReplicaId, message: Message): void;
  /** From now on messages are delivered there. */
  deliver(receive: (from: ReplicaId, message: Message) => void): void;
  close(): Promise<void>;
}

export interface ReplicaSurroundings {
  readonly disk: BlockDisk;
  readonly config: ConfigStore;
  /** Undefined for a volume with one replica. */
  readonly network: ReplicaNetwork | undefined;
  readonly log: Logger;
  /** The replica is dead: only a new process may open its files again. */
  readonly onStop: (reason: string) => void;
}

type WithoutNow<T> = T extends { readonly now: number } ? Omit<T, 'now'> : never;
type Input = WithoutNow<ReplicaEvent>;

export class ReplicaHost {
  readonly #replica: Replica;
  readonly #around: ReplicaSurroundings;
  readonly #buffers = new BufferPool();
  readonly #waiting = new Map<number, (answer: ClientAnswer) => void>();
  readonly #events: Input[] = [];
  #nextRequest = 1;
  #handling = false;
  #timers: readonly NodeJS.Timeout[] = [];
  #scrubAt = 0;
  #scrubbing = false;
  /** Operations of the disk that have not come back. */
  #operations = 0;
  #closed = false;
  #lastState: ReplicaState = 'opening';
  readonly #changed: (() => void)[] = [];
  #idle: (() => void) | undefined;

  constructor(options: ReplicaOptions, around: ReplicaSurroundings) {
    this.#replica = new Replica(options);
    this.#around = around;
  }

  get state(): ReplicaState {
    return this.#replica.state;
  }

  /** The volume's size, which a request may have changed. */
  get blocks(): number {
    return this.#replica.blocks;
  }

  /** Whether clients are answered. */
  get isServing(): boolean {
    return !this.#closed && this.#replica.state === 'serving';
  }

  /** The volume as clients see it, under that name. */
  deviceOf(name: string): BlockDevice {
    const blocks = () => this.blocks;
    return {
      name,
      get blocks() {
        return blocks();
      },
      room: (bytes) => this.#buffers.take(bytes),
      request: (body) => this.request(body),
    };
  }

  start(): void {
    this.#around.network?.deliver((from, message) => this.#input({ kind: 'message', from, message }));
    this.#timers = [
      setInterval(() => this.#input({ kind: 'tick' }), TICK_MS),
      setInterval(() => this.#scrub(), SCRUB_MS),
      setInterval(() => this.#buffers.shrink(), SHRINK_MS),
    ];
    this.#input({ kind: 'start' });
    this.#input({ kind: 'tick' });
  }

  /** Resolves once this replica serves, or has stopped. */
  async whenServing(): Promise<void> {
    while (this.state !== 'serving' && !this.#closed) await new Promise<void>((resolve) => this.#changed.push(resolve));
  }

  /** What a client asks for. `moved` when this replica does not serve. */
  request(body: ClientRequest): Promise<ClientAnswer> {
    if (this.#closed) return Promise.resolve({ ok: false, error: 'moved' });
    return new Promise((resolve) => {
      const request = this.#nextRequest++;
      this.#waiting.set(request, resolve);
      this.#input({ kind: 'request', request, body });
    });
  }

  /** Ends without a goodbye, as a crash does; files are closed when nothing uses them any more. */
  async close(): Promise<void> {
    this.#end();
    if (this.#operations > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
    await this.#around.network?.close();
    await this.#around.disk.close();
  }

  #end(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    this.#events.length = 0;
    for (const answer of this.#waiting.values()) answer({ ok: false, error: 'moved' });
    this.#waiting.clear();
    for (const wake of this.#changed.splice(0)) wake();
  }

  #scrub(): void {
    if (this.#scrubbing) return;
    this.#scrubbing = true;
    const lba = this.#scrubAt < this.blocks ? this.#scrubAt : 0;
    const blocks = Math.min(SCRUB_BLOCKS, this.blocks - lba);
    this.#scrubAt = lba + blocks;
    this.#input({ kind: 'scrub', lba, blocks });
  }

  #input(event: Input): void {
    if (this.#closed) return;
    this.#events.push(event);
    if (this.#handling) return;
    this.#handling = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
        const effects = this.#replica.step({ ...next, now: performance.now() } as ReplicaEvent);
        for (const effect of effects) this.#carryOut(effect);
        this.#noteState();
      }
    } catch (error) {
      // A broken invariant: nothing that this replica says from now on can be relied on.
      this.#stop(error instanceof Error && error.stack ? error.stack : messageOf(error));
    } finally {
      this.#handling = false;
    }
  }

  #noteState(): void {
    const { state } = this.#replica;
    if (state === this.#lastState) return;
    const opened = this.#lastState === 'opening';
    this.#lastState = state;
    for (const wake of this.#changed.splice(0)) wake();
    if (opened && state === 'backup' && !this.#replica.isUsable && this.#around.network === undefined) {
      this.#stop('the log is damaged, and the volume has no other replica from which this one could be rebuilt');
    }
  }

  #carryOut(effect: Effect): void {
    switch (effect.kind) {
      case 'disk':
        this.#operations++;
        void this.#around.disk.perform(effect.operation).then((outcome) => {
          this.#input({ kind: 'disk', id: effect.id, outcome });
          if (--this.#operations === 0) this.#idle?.();
        });
        return;
      case 'send':
        this.#around.network?.send(effect.to, effect.message);
        return;
      case 'answer':
        this.#waiting.get(effect.request)?.(effect.answer);
        this.#waiting.delete(effect.request);
        return;
      case 'released':
        // What is on its way to a peer may be read from yet.
        if (this.#around.network === undefined) for (const part of effect.parts) this.#buffers.give(part);
        return;
      case 'refresh':
        this.#configure(async () => ({ kind: 'current', config: await this.#around.config.read() }));
        return;
      case 'propose':
        this.#propose(effect.config);
        return;
      case 'scrubbed':
        this.#scrubbing = false;
        if (effect.damaged.length > 0) this.#around.log.error('block.damaged', { blocks: effect.damaged.slice(0, 10) });
        return;
      case 'stop':
        this.#stop(effect.reason);
        return;
    }
  }

  #propose(config: VolumeConfig): void {
    const { epoch, primary, inSync } = config;
    this.#around.log.info('block.propose', { epoch: String(epoch), primary, inSync });
    this.#configure(() => this.#around.config.replace(config));
  }

  #configure(call: () => Promise<ConfigOutcome>): void {
    void call().then(
      (outcome) => this.#input({ kind: 'config', outcome }),
      (error: unknown) => {
        this.#around.log.warn('block.config', { error: messageOf(error) });
        this.#input({ kind: 'config', outcome: { kind: 'unknown' } });
      },
    );
  }

  #stop(reason: string): void {
    this.#around.log.error('block.stop', { reason });
    this.#end();
    this.#around.onStop(reason);
  }
}
