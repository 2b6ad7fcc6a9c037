/**
 * One union in custody (custodian.ts): from server to server, until it is unmounted.
 *
 *   served --the server died--> held --another one is there--> served
 *   held --servers keep dying (union/crash-loop.ts)--> refused --a minute later, another one is there--> served
 *
 * A server whose pod is to go says that it is leaving, and serves on. When another pod's can go on, it makes way.
 * Invariant: a server is given the descriptors only when nothing else serves: the connection to the one before has ended, and with
 * it its last thread. Descriptors are closed once, by `release`.
 */
import { closeSync } from 'node:fs';
import { dirname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { isMounted } from '../../fuse/index.ts';
import type { Clock } from '../base/clock.ts';
import { messageOf, UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { HeldConnection } from '../host/descriptor-client.ts';
import { isWithin, readMountInfo } from '../host/mountinfo.ts';
import type { IllBranch, MountStatus } from '../protocol/resources.ts';
import { illBranchesOf, type ServerStatus } from '../protocol/server-control.ts';
import { complaintOf } from '../union/branches-available.ts';
import { firstOf } from '../union/conditions.ts';
import { afterDeath, type Deaths, hopelessness } from '../union/crash-loop.ts';
import type { ServerRecords } from './server-records.ts';
import { checkServer, type Taken, type UnionLink } from './union-link.ts';
import { Whereabouts } from './whereabouts.ts';

/** A process that answers errors. */
export interface Refuser {
  readonly ended: Promise<void>;
  /** Resolves when it is dead to the last thread. */
  end(): Promise<void>;
}

export interface HeldUnionOptions {
  readonly link: UnionLink;
  readonly records: ServerRecords;
  readonly clock: Clock;
  readonly log: Logger;
  /** Starts one with the descriptors of a mount; undefined when there are too many. */
  readonly refuse: (descriptors: readonly number[]) => Refuser | undefined;
  /** Told of every change. */
  readonly tell?: (volumeId: string, status: MountStatus) => void;
}

const FIRST_RETRY_MS = 10;
const RETRY_MS = 250;
/** Between servers that are tried while errors are answered. */
const REFUSED_RETRY_MS = 60_000;
/** Between looks at whether it is still mounted. */
const REFUSED_LOOK_MS = 1_000;

export class HeldUnion {
  readonly volumeId: string;
  readonly #options: HeldUnionOptions;
  readonly #mount: Taken;
  readonly #released = new AbortController();
  /** Where its server is, or was last. */
  #socket: string;
  #connection: HeldConnection | undefined;
  #servedSince: number;
  #deaths: Deaths = [];
  /** The server was asked to make way: its end is no death. */
  #makesWay = false;
  /** While errors are answered in place of a server. */
  #refusing: { readonly refuser: Refuser; readonly message: string } | undefined;
  /** When it is too early for another server, after so many. */
  #retryAt = 0;
  /** Filesystems that the server has as branches: `major:minor`. */
  #branchDevices: readonly string[];
  /** As the last server told. */
  #illBranches: readonly IllBranch[] = [];
  /** Servers that took over. */
  restarts = 0;

  /** Takes the descriptors over from the caller. */
  constructor(
    options: HeldUnionOptions,
    of: { readonly volumeId: string; readonly socket: string; readonly mount: Taken },
  ) {
    this.#options = options;
    this.volumeId = of.volumeId;
    this.#socket = of.socket;
    this.#mount = of.mount;
    this.#connection = of.mount.connection;
    this.#servedSince = options.clock.now();
    this.#branchDevices = branchDevices(of.socket);
  }

  /** `major:minor` of the mount. */
  get device(): string {
    return this.#mount.device;
  }

  get isMounted(): boolean {
    return isMounted(this.#mount.descriptors[1]!);
  }

  get isServed(): boolean {
    return this.#connection !== undefined;
  }

  /** Of branches that do not work, where there are any. */
  get complaint(): string | undefined {
    return this.#illBranches.length === 0 ? undefined : firstOf(this.#illBranches.map(complaintOf));
  }

  /** Why errors are answered, while they are. */
  get refusal(): string | undefined {
    return this.#refusing?.message;
  }

  /** Ends the custody: the mount lives on with its server, if it has one. Resolves when nothing has its descriptors for us. */
  async release(): Promise<void> {
    if (this.#released.signal.aborted) return;
    this.#released.abort(new UnionError('CANCELLED', `volume ${this.volumeId} is not held any more`));
    this.#connection?.close();
    for (const descriptor of this.#mount.descriptors) closeSync(descriptor);
    await this.#refusing?.refuser.end();
  }

  /** From one server to the next. Resolves when the union is unmounted or released; rejects with why it cannot be held any more. */
  async keep(): Promise<void> {
    const { clock, log } = this.#options;
    const { volumeId } = this;
    const { signal } = this.#released;
    this.#tell('Served');
    try {
      for (;;) {
        this.#options.records.write(volumeId, this.#socket);
        void this.#follow(this.#connection!);
        await this.#connection!.ended;
        signal.throwIfAborted();
        this.#connection = undefined;
        const diedAt = clock.now();
        if (!this.#makesWay) {
          this.#deaths = afterDeath(this.#deaths, { servedSince: this.#servedSince, now: diedAt });
          if (this.isMounted) log.warn('custodian.server_died', { volumeId });
        }
        if (!(await this.#nextServer())) return;
        this.#makesWay = false;
        this.#servedSince = clock.now();
        this.#branchDevices = branchDevices(this.#socket);
        this.restarts++;
        this.#tell('Served');
        log.info('custodian.server_took_over', { volumeId, pausedMs: this.#servedSince - diedAt });
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** Serves again: true; was unmounted instead: false. */
  async #nextServer(): Promise<boolean> {
    const { clock } = this.#options;
    const { signal } = this.#released;
    const deaths = this.#deaths;
    let isTold = false;
    let refusal: { message: string; since: number } | undefined;
    const whereabouts = new Whereabouts(this.#options, this.volumeId);
    for (let delayMs = FIRST_RETRY_MS; this.isMounted; delayMs = Math.min(2 * delayMs, RETRY_MS)) {
      this.#checkBranches();
      // The successor of one that made way is there already.
      if (!isTold && !(this.#makesWay && delayMs === FIRST_RETRY_MS)) {
        isTold = true;
        this.#tell('Held');
      }
      const why = hopelessness({ deaths, starts: whereabouts.starts, refusal, now: clock.now() });
      if (why !== undefined && this.#refusing === undefined) this.#refuse(why);
      if (why === undefined || clock.now() >= this.#retryAt) {
        const answer = await this.#tryServer();
        if (answer === 'serves') return true;
        const now = clock.now();
        if (answer !== 'absent') {
          refusal = { message: answer.refuses, since: refusal?.since ?? now };
          this.#retryAt = now + REFUSED_RETRY_MS;
        } else {
          whereabouts.ask(signal);
          await this.#turnTo(whereabouts.socket);
        }
      }
      await clock.sleep(why === undefined ? delayMs : REFUSED_LOOK_MS, signal);
    }
    return false;
  }

  /** To the server of another pod, once that of this one cannot be alive any more. */
  async #turnTo(socket: string | undefined): Promise<void> {
    if (socket === undefined || socket === this.#socket) return;
    if (await this.#options.link.isGone(this.#socket, this.#released.signal)) this.#socket = socket;
  }

  async #tryServer(): Promise<'serves' | 'absent' | { readonly refuses: string }> {
    const { link } = this.#options;
    const { signal } = this.#released;
    const status = await link.status(this.#socket, signal);
    if (!status.ok) return 'absent';
    try {
      checkServer(this.volumeId, status);
      await this.#refusing?.refuser.end();
      this.#connection =
        status.state === 'serving'
          ? await this.#connectTo(this.#socket)
          : await link.serve(this.volumeId, this.#socket, this.#mount, signal);
      return 'serves';
    } catch (error) {
      signal.throwIfAborted();
      return { refuses: messageOf(error) };
    }
  }

  /** To a server that serves already: it took longer than we waited for its answer. */
  async #connectTo(socket: string): Promise<HeldConnection> {
    const { connection, descriptors, device } = await this.#options.link.takeBack(socket, this.#released.signal);
    for (const descriptor of descriptors) closeSync(descriptor);
    if (device === this.device) return connection;
    connection.close();
    throw new UnionError('FAILED_PRECONDITION', `the server of volume ${this.volumeId} serves another mount of it`);
  }

  /**
   * Files of branches stay open with the mount (passthrough). Once a branch's filesystem is mounted nowhere, its driver takes the
   * device away: what was written must get there before, which the end of the mount brings about.
   */
  #checkBranches(): void {
    const mounted = new Set(readMountInfo().map(({ device }) => device));
    if (this.#branchDevices.every((device) => mounted.has(device))) return;
    throw new UnionError('FAILED_PRECONDITION', 'its server has ended, and a branch was unmounted');
  }

  #refuse(message: string): void {
    const { clock, log, refuse } = this.#options;
    log.error('custodian.refusing', { volumeId: this.volumeId, why: message });
    const refuser = refuse(this.#mount.descriptors);
    if (refuser === undefined) throw new UnionError('RESOURCE_EXHAUSTED', message);
    this.#refusing = { refuser, message };
    this.#retryAt = clock.now() + REFUSED_RETRY_MS;
    this.#tell('Failed', message);
    // One that ends by itself is followed by another.
    void refuser.ended.then(() => {
      if (this.#refusing?.refuser === refuser) this.#refusing = undefined;
    });
  }

  /** While this connection stands: tells of branches that fail, and once its server is leaving looks for one of another pod. */
  async #follow(connection: HeldConnection): Promise<void> {
    const { log } = this.#options;
    try {
      for (let isLeaving = false; !isLeaving && this.#connection === connection; ) {
        const news = connection.nudged;
        const status = await this.#options.link.status(this.#socket, this.#released.signal);
        if (status.ok) this.#tellOfBranches(status);
        isLeaving = status.ok && status.leaving;
        if (!isLeaving) await news;
      }
      await this.#followLeaving(connection);
    } catch (error) {
      if (this.#released.signal.aborted) return;
      log.warn('custodian.cannot_hand_over', { volumeId: this.volumeId, error: messageOf(error) });
    }
  }

  /** Hands over to a server of another pod that can go on, once there is one. */
  async #followLeaving(connection: HeldConnection): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#released;
    const whereabouts = new Whereabouts(this.#options, this.volumeId);
    while (this.#connection === connection) {
      whereabouts.ask(signal);
      const { socket } = whereabouts;
      if (socket !== undefined && socket !== this.#socket && (await this.#canGoOn(socket))) {
        log.info('custodian.hand_over', { volumeId: this.volumeId });
        return await this.#handOver(socket);
      }
      await clock.sleep(RETRY_MS, signal);
    }
  }

  /** Has the server make way for the one at `socket`. Whether it did is told by the end of its connection. */
  async #handOver(socket: string): Promise<void> {
    const before = this.#socket;
    this.#makesWay = true;
    this.#socket = socket;
    try {
      await this.#options.link.makeWay(before, this.#released.signal);
    } catch (error) {
      this.#makesWay = false;
      this.#socket = before;
      throw error;
    }
  }

  async #canGoOn(socket: string): Promise<boolean> {
    const { link, log } = this.#options;
    const { signal } = this.#released;
    const status = await link.status(socket, signal);
    if (!status.ok) return false;
    try {
      checkServer(this.volumeId, status);
      await link.check(socket, this.#mount.descriptors[0]!, signal);
      return true;
    } catch (error) {
      signal.throwIfAborted();
      log.warn('custodian.unfit_server', { volumeId: this.volumeId, error: messageOf(error) });
      return false;
    }
  }

  #tellOfBranches(status: ServerStatus): void {
    const before = this.#illBranches;
    this.#illBranches = illBranchesOf(status);
    if (!isDeepStrictEqual(before, this.#illBranches)) this.#tell('Served');
  }

  #tell(state: MountStatus['state'], message = ''): void {
    this.#options.tell?.(this.volumeId, { state, message, illBranches: this.#illBranches });
  }
}

/** Filesystems that the pod of a server has mounted; the socket is in one of the pod's volumes. */
function branchDevices(socket: string): readonly string[] {
  const volumes = dirname(dirname(dirname(socket)));
  const mounted = readMountInfo().filter(({ mountpoint }) => isWithin(mountpoint, volumes));
  return [...new Set(mounted.map(({ device }) => device))];
}
