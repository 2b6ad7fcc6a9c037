/**
 * The custodian of this node's unions: it makes their mounts, keeps duplicates of their descriptors and of their state memory,
 * and gives them to one server after another. While no server lives, requests wait. It never reads one itself.
 *
 * A mount lives while its server or this process does: a custodian that is started anew takes the descriptors back from the
 * servers. The next server is told only when the connection to the one before has ended, and with it its last thread.
 */
import { closeSync } from 'node:fs';
import { cloneDevice, createStateMemory, isMounted, mountDevice, openDevice } from '../../fuse/index.ts';
import type { Clock } from '../base/clock.ts';
import { messageOf, UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { HeldConnection } from '../host/descriptor-client.ts';
import { unionAt } from '../host/mounter.ts';
import type { MountStatus } from '../protocol/resources.ts';
import { afterDeath, type Deaths, hopelessness } from '../union/crash-loop.ts';
import { checkServer, type HeldMount, type ServerPlace, type Taken, type UnionLink } from './union-link.ts';
import { removeDead } from './union-mounts.ts';

export interface CustodianOptions {
  readonly link: UnionLink;
  readonly clock: Clock;
  readonly log: Logger;
  /** Told of every change. */
  readonly tell?: (volumeId: string, status: MountStatus) => void;
}

export interface Standing {
  /** `held`: no server lives, the next one is awaited; `lost`: it was given up, or is not known here. */
  readonly kind: 'served' | 'held' | 'lost';
  /** Why it is lost, where that is known. */
  readonly message?: string | undefined;
}

interface Custody extends HeldMount {
  readonly volumeId: string;
  readonly released: AbortController;
  /** Where its server was last. */
  socket: string;
  connection: HeldConnection | undefined;
  servedSince: number;
  deaths: Deaths;
}

const FIRST_RETRY_MS = 10;
const RETRY_MS = 250;
/** How often the API is asked where the server is, when nobody listens where it was. */
const LOCATE_MS = 1_000;
/** Of a mount whose server gives nothing back: it may be dead. */
const MAX_RECOVERY_RETRY_MS = 10_000;

export class Custodian {
  readonly #options: CustodianOptions;
  readonly #custodies = new Map<string, Custody>();
  readonly #lost = new Map<string, string>();
  readonly #restarts = new Map<string, number>();

  constructor(options: CustodianOptions) {
    this.#options = options;
  }

  /** Mounts the volume at an empty directory and has the server at `place` serve it, or leaves nothing. */
  async mount(volumeId: string, mountpoint: string, place: ServerPlace, signal: AbortSignal): Promise<void> {
    const { socket, readOnly } = place;
    const descriptors = [createStateMemory()];
    try {
      const device = openDevice();
      descriptors.push(device);
      mountDevice({ deviceFd: device, mountpoint, fsname: volumeId, readOnly });
      try {
        // One for each reader, for the server's pod may not open the device itself.
        descriptors.push(...cloneDevice(device));
        const mount = { descriptors, readOnly, device: unionAt(mountpoint)?.device ?? '' };
        const connection = await this.#options.link.serve(volumeId, socket, mount, signal);
        this.#take(volumeId, socket, { ...mount, connection });
      } catch (error) {
        await removeDead(mountpoint, volumeId);
        throw error;
      }
    } catch (error) {
      closeAll(descriptors);
      throw error;
    }
  }

  /** How a mount of the volume is. */
  standing(volumeId: string, device: string): Standing {
    const custody = this.#custodies.get(volumeId);
    if (custody?.device !== device) return { kind: 'lost', message: this.#lost.get(volumeId) };
    return { kind: custody.connection === undefined ? 'held' : 'served' };
  }

  isHolding(device: string): boolean {
    return [...this.#custodies.values()].some((custody) => custody.device === device);
  }

  /** To be called after an unmount: what we hold of a volume that is mounted nowhere keeps its branches in use. */
  releaseUnmounted(volumeId: string): void {
    const custody = this.#custodies.get(volumeId);
    if (custody !== undefined && isMounted(custody.descriptors[1]!)) return;
    this.#release(volumeId);
    this.#restarts.delete(volumeId);
  }

  /** Lets go of everything: mounts live on with their servers. */
  close(): void {
    for (const volumeId of this.#custodies.keys()) this.#release(volumeId);
  }

  #release(volumeId: string): void {
    this.#lost.delete(volumeId);
    const custody = this.#custodies.get(volumeId);
    if (custody === undefined) return;
    this.#custodies.delete(volumeId);
    custody.released.abort(new UnionError('CANCELLED', `volume ${volumeId} was unmounted`));
    custody.connection?.close();
    closeAll(custody.descriptors);
  }

  /** By volume: servers that took over from a dead one. */
  get restarts(): ReadonlyMap<string, number> {
    return this.#restarts;
  }

  get heldCount(): number {
    return [...this.#custodies.values()].filter(({ connection }) => connection === undefined).length;
  }

  /** Takes back from living servers what they hold, each volume's as long as `isStaged` says so and nobody has done it. */
  async recover(
    volumeIds: readonly string[],
    isStaged: (volumeId: string) => boolean,
    signal: AbortSignal,
  ): Promise<void> {
    await Promise.all(volumeIds.map((volumeId) => this.#recover(volumeId, isStaged, signal)));
  }

  async #recover(volumeId: string, isStaged: (volumeId: string) => boolean, signal: AbortSignal): Promise<void> {
    const { link, clock, log } = this.#options;
    let delayMs = FIRST_RETRY_MS;
    while (!signal.aborted && isStaged(volumeId) && !this.#custodies.has(volumeId)) {
      try {
        const place = await link.locate(volumeId, signal);
        if (place !== undefined) {
          const taken = await link.takeBack(place.socket, signal);
          if (this.#custodies.has(volumeId) || !isMounted(taken.descriptors[1]!)) return letGo(taken);
          this.#take(volumeId, place.socket, taken);
          log.info('custodian.taken_back', { volumeId });
          return;
        }
      } catch (error) {
        log.debug('custodian.not_taken_back', { volumeId, error: messageOf(error) });
      }
      await clock.sleep(delayMs, signal).catch(() => {});
      delayMs = Math.min(2 * delayMs, MAX_RECOVERY_RETRY_MS);
    }
  }

  #take(volumeId: string, socket: string, taken: Taken): void {
    this.#release(volumeId);
    const custody: Custody = {
      ...{ ...taken, volumeId, socket },
      released: new AbortController(),
      servedSince: this.#options.clock.now(),
      deaths: [],
    };
    this.#custodies.set(volumeId, custody);
    this.#tell(volumeId, 'Served');
    this.#keep(custody).catch((error: unknown) => {
      if (!custody.released.signal.aborted) this.#giveUp(custody, messageOf(error));
    });
  }

  /** From one server to the next, until the volume is released or given up. */
  async #keep(custody: Custody): Promise<void> {
    const { clock, log } = this.#options;
    const { volumeId, released } = custody;
    for (;;) {
      await custody.connection?.ended;
      if (released.signal.aborted) return;
      custody.connection = undefined;
      const now = clock.now();
      custody.deaths = afterDeath(custody.deaths, { servedSince: custody.servedSince, now });
      if (isMounted(custody.descriptors[1]!)) {
        log.warn('custodian.server_died', { volumeId });
        this.#tell(volumeId, 'Held');
      }
      custody.connection = await this.#nextServer(custody);
      if (custody.connection === undefined) return;
      custody.servedSince = clock.now();
      this.#restarts.set(volumeId, (this.#restarts.get(volumeId) ?? 0) + 1);
      this.#tell(volumeId, 'Served');
      log.info('custodian.server_took_over', { volumeId, pausedMs: custody.servedSince - now });
    }
  }

  /** The connection to a server that has taken over; undefined when the volume was released or given up instead. */
  async #nextServer(custody: Custody): Promise<HeldConnection | undefined> {
    const { clock } = this.#options;
    const { volumeId, descriptors, deaths, released } = custody;
    let refusal: { message: string; since: number } | undefined;
    let locatedAt = 0;
    for (let delayMs = FIRST_RETRY_MS; ; delayMs = Math.min(2 * delayMs, RETRY_MS)) {
      if (!isMounted(descriptors[1]!)) {
        this.#release(volumeId);
        return undefined;
      }
      const answer = await this.#tryServer(custody);
      if (answer.kind === 'serves') return answer.connection;
      const now = clock.now();
      if (answer.kind === 'refuses') refusal = { message: answer.message, since: refusal?.since ?? now };
      else if (now - locatedAt >= LOCATE_MS) {
        locatedAt = now;
        await this.#locate(custody);
      }
      const why = hopelessness({ deaths, refusal, now });
      if (why !== undefined) {
        this.#giveUp(custody, why);
        return undefined;
      }
      await clock.sleep(delayMs, released.signal);
    }
  }

  async #tryServer(custody: Custody): Promise<Attempt> {
    const { link } = this.#options;
    const { volumeId, socket, released } = custody;
    const { signal } = released;
    const status = await link.status(socket, signal);
    if (!status.ok) return { kind: 'absent' };
    try {
      checkServer(volumeId, status);
      if (status.state !== 'serving') {
        return { kind: 'serves', connection: await link.serve(volumeId, socket, custody, signal) };
      }
      // Only the connection had ended.
      const taken = await link.takeBack(socket, signal);
      closeAll(taken.descriptors);
      return { kind: 'serves', connection: taken.connection };
    } catch (error) {
      signal.throwIfAborted();
      return { kind: 'refuses', message: messageOf(error) };
    }
  }

  /** The next server may be another pod's. */
  async #locate(custody: Custody): Promise<void> {
    const { link, log } = this.#options;
    const { volumeId, released } = custody;
    try {
      custody.socket = (await link.locate(volumeId, released.signal))?.socket ?? custody.socket;
    } catch (error) {
      released.signal.throwIfAborted();
      log.warn('custodian.cannot_locate', { volumeId, error: messageOf(error) });
    }
  }

  /** With the last descriptor the connection ends. */
  #giveUp({ volumeId }: Custody, why: string): void {
    this.#options.log.error('custodian.given_up', { volumeId, why });
    this.#release(volumeId);
    this.#lost.set(volumeId, why);
    this.#tell(volumeId, 'Failed', why);
  }

  #tell(volumeId: string, state: MountStatus['state'], message = ''): void {
    this.#options.tell?.(volumeId, { state, message });
  }
}

type Attempt =
  | { readonly kind: 'serves'; readonly connection: HeldConnection }
  | { readonly kind: 'refuses'; readonly message: string }
  | { readonly kind: 'absent' };

function letGo({ connection, descriptors }: Taken): void {
  connection.close();
  closeAll(descriptors);
}

function closeAll(descriptors: readonly number[]): void {
  for (const descriptor of descriptors) closeSync(descriptor);
}
