/**
 * The custodian of this node's unions: it makes their mounts, keeps duplicates of their descriptors and of their state memory,
 * and gives them to one server after another (held-union.ts). It never reads a request itself.
 *
 * A mount lives while its server or this process does: a custodian that is started anew takes the descriptors back from the
 * servers.
 */
import { closeSync } from 'node:fs';
import { cloneDevice, createStateMemory, isMounted, mountDevice, openDevice } from '../../fuse/index.ts';
import { messageOf } from '../base/errors.ts';
import { unionAt } from '../host/mounter.ts';
import type { MountInfo } from '../host/mountinfo.ts';
import { HeldUnion, type HeldUnionOptions } from './held-union.ts';
import type { ServerPlace, Taken } from './union-link.ts';
import { isAlive, removeDead } from './union-mounts.ts';

export interface Standing {
  /** `held`: no server lives, the next one is awaited; `refused`: it answers errors meanwhile; `lost`: not known here. */
  readonly kind: 'served' | 'held' | 'refused' | 'lost';
  /** Why it is refused or lost, where that is known, or which branches of a union that is served do not work. */
  readonly message?: string | undefined;
}

const FIRST_RECOVERY_MS = 10;
const MAX_RECOVERY_MS = 10_000;
const LOOK_MS = 50;

export class Custodian {
  readonly #options: HeldUnionOptions;
  readonly #unions = new Map<string, HeldUnion>();
  readonly #lost = new Map<string, string>();

  constructor(options: HeldUnionOptions) {
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
        this.#hold(volumeId, socket, { ...mount, connection });
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
    const union = this.#unions.get(volumeId);
    if (union?.device !== device) return { kind: 'lost', message: this.#lost.get(volumeId) };
    if (union.refusal !== undefined) return { kind: 'refused', message: union.refusal };
    return union.isServed ? { kind: 'served', message: union.complaint } : { kind: 'held' };
  }

  isHolding(device: string): boolean {
    return this.#all.some((union) => union.device === device);
  }

  /** To be called after an unmount: what we hold of a volume that is mounted nowhere keeps its branches in use. */
  async releaseUnmounted(volumeId: string): Promise<void> {
    const union = this.#unions.get(volumeId);
    if (union?.isMounted) return;
    this.#lost.delete(volumeId);
    this.#unions.delete(volumeId);
    this.#options.records.remove(volumeId);
    await union?.release();
  }

  /** Lets go of everything: mounts live on with their servers. */
  async close(): Promise<void> {
    const all = this.#all;
    this.#unions.clear();
    await Promise.all(all.map((union) => union.release()));
  }

  /** By volume: servers that took over from one that had ended. */
  get restarts(): ReadonlyMap<string, number> {
    return new Map(this.#all.map(({ volumeId, restarts }) => [volumeId, restarts]));
  }

  get heldCount(): number {
    return this.#all.filter(({ isServed }) => !isServed).length;
  }

  get #all(): readonly HeldUnion[] {
    return [...this.#unions.values()];
  }

  /** Resolves when every union is served, or after `limitMs`: those that are not would end with this process. */
  async settled(limitMs: number): Promise<void> {
    const { clock } = this.#options;
    for (const until = clock.now() + limitMs; this.heldCount > 0 && clock.now() < until; ) await clock.sleep(LOOK_MS);
  }

  /** Takes back from living servers what they hold of mounts that are not ours, as `list` has them, until it is done. */
  async recover(list: () => readonly MountInfo[], signal: AbortSignal): Promise<void> {
    const volumeIds = new Set(list().map(({ source }) => source));
    await Promise.all([...volumeIds].map((volumeId) => this.#recover(volumeId, list, signal)));
  }

  async #recover(volumeId: string, list: () => readonly MountInfo[], signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    let delayMs = FIRST_RECOVERY_MS;
    while (!signal.aborted && !this.#unions.has(volumeId)) {
      const mount = list().find(({ source }) => source === volumeId);
      if (mount === undefined) return;
      try {
        if (await this.#takeBack(volumeId, signal)) return;
        if (!(await isAlive(mount, this, signal))) {
          return this.#lose(volumeId, 'its server and the node plugin were away at the same time');
        }
      } catch (error) {
        log.debug('custodian.not_taken_back', { volumeId, error: messageOf(error) });
      }
      await clock.sleep(delayMs, signal).catch(() => {});
      delayMs = Math.min(2 * delayMs, MAX_RECOVERY_MS);
    }
  }

  /** False when its server does not give anything back, or is not there. */
  async #takeBack(volumeId: string, signal: AbortSignal): Promise<boolean> {
    const { link, log } = this.#options;
    const socket = await this.#findServing(volumeId, signal);
    if (socket === undefined) return false;
    const taken = await link.takeBack(socket, signal);
    if (this.#unions.has(volumeId) || !isMounted(taken.descriptors[1]!)) {
      letGo(taken);
    } else {
      this.#hold(volumeId, socket, taken);
      log.info('custodian.taken_back', { volumeId });
    }
    return true;
  }

  /** In the attachment's pod, or in one that is to make way for it. */
  async #findServing(volumeId: string, signal: AbortSignal): Promise<string | undefined> {
    const { link, records } = this.#options;
    const place = await link.locate(volumeId, signal);
    for (const socket of new Set([place?.socket, records.socketOf(volumeId)])) {
      if (socket === undefined) continue;
      const status = await link.status(socket, signal);
      if (status.ok && status.volume === volumeId && status.state === 'serving') return socket;
    }
    return undefined;
  }

  #hold(volumeId: string, socket: string, mount: Taken): void {
    // One before it is of a mount that is gone, or that nobody is to use any more.
    void this.#unions.get(volumeId)?.release();
    this.#lost.delete(volumeId);
    const union = new HeldUnion(this.#options, { volumeId, socket, mount });
    this.#unions.set(volumeId, union);
    void this.#keep(union);
  }

  async #keep(union: HeldUnion): Promise<void> {
    const { volumeId } = union;
    let why: string | undefined;
    try {
      await union.keep();
    } catch (error) {
      why = messageOf(error);
    }
    await union.release();
    if (this.#unions.get(volumeId) !== union) return;
    this.#unions.delete(volumeId);
    if (why === undefined) this.#options.records.remove(volumeId);
    else this.#lose(volumeId, why);
  }

  /** With the last descriptor the connection has ended. */
  #lose(volumeId: string, why: string): void {
    const { log, records, tell } = this.#options;
    log.error('custodian.lost', { volumeId, why });
    this.#lost.set(volumeId, why);
    records.remove(volumeId);
    tell?.(volumeId, { state: 'Failed', message: `${why}; pods that use it must be started again` });
  }
}

function letGo({ connection, descriptors }: Taken): void {
  connection.close();
  closeAll(descriptors);
}

function closeAll(descriptors: readonly number[]): void {
  for (const descriptor of descriptors) closeSync(descriptor);
}
