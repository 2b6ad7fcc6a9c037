/**
 * `union-csi mount -o keep`: the keeper, which mounts, holds the descriptors of the mount and of the state memory, and gives them
 * to one server process after another. It serves nothing itself; requests wait while no server lives.
 *
 * The next server is started in advance and waits: taking over then takes as long as mapping the memory, not as starting a
 * program. A server that dies too often lets the mount end: applications get errors then instead of waiting for ever.
 */
import type { ChildProcess } from 'node:child_process';
import { closeSync } from 'node:fs';
import { cloneDevice, createStateMemory, isMounted, mountDevice, openDevice, policyNames } from '../../fuse/index.ts';
import type { Logger } from '../base/logger.ts';
import { removeControlSockets } from '../host/mount-control.ts';
import { unionAt, unmountOnce } from '../host/mounter.ts';
import { type Descriptors, KEPT_SERVER, type KeptMount, ownDescriptors, startKept } from './kept-process.ts';
import { checkMachine, resolveBranches, resolveMountpoint } from './mount-checks.ts';
import { removeDeadMount, tellParent, unmountOnSignals } from './mount-end.ts';
import type { MountRequest } from './mount-options.ts';
import { checkPolicies } from './policy-options.ts';
import { createStderrLogger } from './stderr-logger.ts';

const MINUTE_MS = 60_000;

export async function keepMount(request: MountRequest): Promise<number> {
  let silent = false;
  const log = createStderrLogger('union-csi mount', () => silent);
  checkPolicies(request.policies, policyNames);
  checkMachine();
  const branches = resolveBranches(request.branches, request.minFreeSpaceBytes);
  await removeDeadMount(request.mountpoint, log);
  const mountpoint = resolveMountpoint(request.mountpoint, branches);
  const { policies, moveOnNoSpace, cache, readOnly, restrictions, source, fsname = source } = request;
  const device = openDevice();
  mountDevice({ deviceFd: device, mountpoint, fsname, readOnly, restrictions });
  const descriptors = { state: createStateMemory(), devices: [device, ...cloneDevice(device)] };
  const mount: KeptMount = {
    ...{ branches, policies, moveOnNoSpace, cache, readOnly, mountpoint },
    device: unionAt(mountpoint)?.device ?? '',
    keep: request.keep!,
    readers: descriptors.devices.length,
  };
  unmountOnSignals(mountpoint, log, process);
  return await new Keeper(mount, descriptors, log, async () => {
    silent = await tellParent();
  }).run();
}

/** A keeper that a server started when its own had died. Its channel leads to that server. */
export async function keepAgain(text: string): Promise<number> {
  const mount: KeptMount = JSON.parse(text);
  process.stderr.on('error', () => {});
  const log = createStderrLogger('union-csi mount', () => false);
  unmountOnSignals(mount.mountpoint, log);
  return await new Keeper(mount, ownDescriptors(mount), log).run(process);
}

/** A server as its keeper has it: a child, or the process that started the keeper. */
type Server = Pick<ChildProcess, 'connected' | 'send' | 'on' | 'pid'> | NodeJS.Process;

class Keeper {
  readonly #mount: KeptMount;
  readonly #descriptors: Descriptors;
  readonly #log: Logger;
  readonly #onServing: () => Promise<void>;
  #waiting: ChildProcess | undefined;
  #isAnnounced = false;
  readonly #deaths: number[] = [];

  constructor(mount: KeptMount, descriptors: Descriptors, log: Logger, onServing = async () => {}) {
    this.#mount = mount;
    this.#descriptors = descriptors;
    this.#log = log;
    this.#onServing = onServing;
  }

  /** Keeps the mount until it is unmounted: 0, or given up: 1. */
  async run(serving?: Server): Promise<number> {
    let ended = serving === undefined ? await this.#serveNext() : await this.#watch(serving);
    while (!ended) {
      if (this.#diesTooOften()) return await this.#giveUp();
      ended = await this.#serveNext();
    }
    this.#end();
    return 0;
  }

  async #serveNext(): Promise<boolean> {
    const server = this.#waiting ?? startKept(KEPT_SERVER, this.#mount, this.#descriptors);
    this.#waiting = undefined;
    server.send('serve', () => {}); // one that died meanwhile is noticed below
    return await this.#watch(server);
  }

  /** Resolves with true when the mount has ended, with false when the server has died. */
  async #watch(server: Server): Promise<boolean> {
    return await new Promise((resolve) => {
      server.on('message', (message: unknown) => {
        if (message === 'ended') resolve(true);
        else if (message === 'serving') void this.#prepareNext();
      });
      // The channel ends with the last of the server's threads: nothing of it works on the branches any more.
      server.on('disconnect', () => resolve(false));
      if (!server.connected) resolve(false);
      else if (server === process) void this.#prepareNext();
    });
  }

  async #prepareNext(): Promise<void> {
    if (!this.#isAnnounced) await this.#onServing();
    this.#isAnnounced = true;
    if (this.#waiting !== undefined) return;
    const next = startKept(KEPT_SERVER, this.#mount, this.#descriptors);
    next
      .on('error', () => {})
      .on('disconnect', () => {
        if (this.#waiting === next) this.#waiting = undefined;
      });
    this.#waiting = next;
  }

  #diesTooOften(): boolean {
    const now = performance.now();
    this.#deaths.push(now);
    while (now - this.#deaths[0]! > MINUTE_MS) this.#deaths.shift();
    this.#log.warn('the server of the mount has died; another one takes over', {
      mountpoint: this.#mount.mountpoint,
      deathsInAMinute: this.#deaths.length,
    });
    return this.#deaths.length >= this.#mount.keep;
  }

  /** With the last descriptor the connection ends. */
  async #giveUp(): Promise<number> {
    const { mountpoint, keep, device } = this.#mount;
    this.#log.error(
      `the server of ${mountpoint} died ${keep} times in a minute: the mount is given up; mount it again`,
    );
    this.#end();
    const { state, devices } = this.#descriptors;
    // Once it is unmounted, the next union may have its place, and its number.
    const isInPlace = isMounted(devices[0]!) && unionAt(mountpoint)?.device === device;
    for (const fd of [state, ...devices]) closeSync(fd);
    if (isInPlace) await unmountOnce(mountpoint, { lazy: true });
    removeControlSockets(device);
    return 1;
  }

  #end(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting?.connected) waiting.disconnect();
  }
}
