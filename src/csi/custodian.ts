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
import { HeldUnion, type HeldUnionOptions } from './held-union.ts';
import type { ServerPlace, Taken } from './union-link.ts';
import { removeDead } from './union-mounts.ts';

export interface Standing {
  /** `held`: no server lives, the next one is awaited; `refused`: it answers errors meanwhile; `lost`: not known here. */
  readonly kind: 'served' | 'held' | 'refused' | 'lost';
  /** Why it is refused or lost, where that is known. */
  readonly message?: string | undefined;
}

const FIRST_RECOVERY_MS = 10;
/** Of a mount whose server gives nothing back: it may be dead. */
const MAX_RECOVERY_MS = 10_000;

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
    return { kind: union.isServed ? 'served' : 'held' };
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
    let delayMs = FIRST_RECOVERY_MS;
    while (!signal.aborted && isStaged(volumeId) && !this.#unions.has(volumeId)) {
      try {
        const place = await link.locate(volumeId, signal);
        if (place !== undefined) {
          const taken = await link.takeBack(place.socket, signal);
          if (this.#unions.has(volumeId) || !isMounted(taken.descriptors[1]!)) return letGo(taken);
          this.#hold(volumeId, place.socket, taken);
          log.info('custodian.taken_back', { volumeId });
          return;
        }
      } catch (error) {
        log.debug('custodian.not_taken_back', { volumeId, error: messageOf(error) });
      }
      await clock.sleep(delayMs, signal).catch(() => {});
      delayMs = Math.min(2 * delayMs, MAX_RECOVERY_MS);
    }
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
    const { log, tell } = this.#options;
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
    if (why === undefined) return;
    // With the last descriptor the connection has ended.
    log.error('custodian.given_up', { volumeId, why });
    this.#lost.set(volumeId, why);
    tell?.(volumeId, { state: 'Failed', message: why });
  }
}

function letGo({ connection, descriptors }: Taken): void {
  connection.close();
  closeAll(descriptors);
}

function closeAll(descriptors: readonly number[]): void {
  for (const descriptor of descriptors) closeSync(descriptor);
}
