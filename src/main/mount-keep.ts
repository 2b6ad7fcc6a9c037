/**
 * `union-csi mount -o keep`: the keeper, which mounts, holds the descriptors of the mount and of the state memory, and gives them
 * to one server process after another. It serves nothing itself; requests wait while no server lives.
 *
 * The next server is started in advance and waits: taking over then takes as long as mapping the memory, not as starting a
 * program. When servers die too often a refuser takes their place, and applications get errors instead of waiting for ever.
 *
 * Upgrade: a new server is started, says that it can read the memory, and only then the old one makes way. A keeper in the background
 * ends then too: the new server starts another, of its own version.
 */
import type { ChildProcess } from 'node:child_process';
import { closeSync } from 'node:fs';
import { cloneDevice, createStateMemory, isMounted, mountDevice, openDevice, policyNames } from '../../fuse/index.ts';
import type { Logger } from '../base/logger.ts';
import { removeControlSockets } from '../host/mount-control.ts';
import { unionAt, unmountOnce } from '../host/mounter.ts';
import { realMountPath } from '../host/real-path.ts';
import { notifyReady } from '../host/service-manager.ts';
import {
  type Descriptors,
  type KeptMount,
  ownDescriptors,
  ROLE,
  type Role,
  send,
  startKept,
  type ToKeeper,
} from './kept-process.ts';
import { checkMachine, type MountBranch, resolveBranches, resolveMountpoint } from './mount-checks.ts';
import { removeDeadMount, tellParent, unmountOnSignals } from './mount-end.ts';
import type { MountRequest } from './mount-options.ts';
import { checkPolicies } from './policy-options.ts';
import { createStderrLogger } from './stderr-logger.ts';
import { findStoredMount, storeMount } from './stored-mount.ts';

const MINUTE_MS = 60_000;

export async function keepMount(request: MountRequest): Promise<number> {
  let silent = false;
  const log = createStderrLogger('union-csi mount', () => silent);
  checkPolicies(request.policies, policyNames);
  checkMachine();
  const { policies, moveOnNoSpace, cache, readOnly } = request;
  const branches = resolveBranches(request.branches, request.minFreeSpaceBytes);
  const { mountpoint, descriptors } = findMount(request) ?? (await makeMount(request, branches, log));
  storeMount(descriptors);
  const mount: KeptMount = {
    ...{ branches, policies, moveOnNoSpace, cache, readOnly, mountpoint },
    device: unionAt(mountpoint)?.device ?? '',
    keep: request.keep!,
    readers: descriptors.devices.length,
  };
  unmountOnSignals(mountpoint, log, process);
  return await new Keeper(mount, descriptors, log, async () => {
    notifyReady();
    silent = await tellParent();
    return silent;
  }).run();
}

interface Mount {
  readonly mountpoint: string;
  readonly descriptors: Descriptors;
}

/** Of a keeper that was killed with its servers. Nobody answers: the mountpoint must not be looked at. */
function findMount(request: MountRequest): Mount | undefined {
  const mountpoint = realMountPath(request.mountpoint);
  const descriptors = findStoredMount();
  return mountpoint === undefined || descriptors === undefined ? undefined : { mountpoint, descriptors };
}

async function makeMount(request: MountRequest, branches: readonly MountBranch[], log: Logger): Promise<Mount> {
  await removeDeadMount(request.mountpoint, log);
  const mountpoint = resolveMountpoint(request.mountpoint, branches);
  const { readOnly, restrictions, source, fsname = source } = request;
  const device = openDevice();
  mountDevice({ deviceFd: device, mountpoint, fsname, readOnly, restrictions });
  return { mountpoint, descriptors: { state: createStateMemory(), devices: [device, ...cloneDevice(device)] } };
}

/** A keeper that a server started when its own had died. Its channel leads to that server. */
export async function keepAgain(text: string): Promise<number> {
  const mount: KeptMount = JSON.parse(text);
  process.stderr.on('error', () => {});
  const log = createStderrLogger('union-csi mount', () => false);
  unmountOnSignals(mount.mountpoint, log);
  return await new Keeper(mount, ownDescriptors(mount), log).run(process);
}

/** A server, or refuser, as its keeper has it: a child, or the process that started the keeper. */
type Server = ChildProcess | NodeJS.Process;

/** The mount has ended; its server has died, or has ended for another one; this keeper is to end for another one. */
type End = 'unmounted' | 'died' | 'made way' | 'replaced';

class Keeper {
  readonly #mount: KeptMount;
  readonly #descriptors: Descriptors;
  readonly #log: Logger;
  readonly #onServing: (() => Promise<boolean>) | undefined;
  /** Nobody waits for this process to end: another keeper is as good. */
  #isInBackground: boolean;
  #isAnnounced: boolean;
  #waiting: ChildProcess | undefined;
  /** The server, or refuser, has said that it answers the mount. */
  #isAnswering = false;
  #makesWay = false;
  #isUpgraded = false;
  readonly #deaths: number[] = [];

  /** `onServing` is called once, and says whether this process is in the background from then on; without it, it is already. */
  constructor(mount: KeptMount, descriptors: Descriptors, log: Logger, onServing?: () => Promise<boolean>) {
    this.#mount = mount;
    this.#descriptors = descriptors;
    this.#log = log;
    this.#onServing = onServing;
    this.#isInBackground = this.#isAnnounced = onServing === undefined;
  }

  /** Keeps the mount until it is unmounted, or has another keeper: 0, or given up: 1. */
  async run(serving?: Server): Promise<number> {
    let role: Role = ROLE.server;
    let end = await this.#watch(serving ?? this.#serve());
    while (end === 'died' || end === 'made way') {
      const isUseless = role === ROLE.refuser && !this.#isAnswering;
      role = end === 'died' && this.#diesTooOften() ? ROLE.refuser : ROLE.server;
      if (role === ROLE.refuser && (isUseless || !this.#isAnnounced)) return await this.#giveUp();
      end = await this.#watch(role === ROLE.server ? this.#serve() : this.#refuse());
    }
    this.#letGoOfNext();
    return 0;
  }

  #serve(): Server {
    const server = this.#waiting ?? this.#start(ROLE.server);
    this.#waiting = undefined;
    send(server, 'serve');
    return server;
  }

  #refuse(): Server {
    const { mountpoint, keep } = this.#mount;
    this.#log.error(`the server of ${mountpoint} died ${keep} times in a minute: all is answered EIO`);
    this.#letGoOfNext();
    return this.#start(ROLE.refuser);
  }

  #start(role: Role): ChildProcess {
    return startKept(role, this.#mount, this.#descriptors).on('message', (message: ToKeeper) => {
      if (typeof message === 'object') this.#log.error(message.unfit);
    });
  }

  #watch(server: Server): Promise<End> {
    this.#makesWay = false;
    this.#isAnswering = server === process;
    return new Promise((resolve) => {
      server.on('message', (message: ToKeeper) => {
        if (message === 'serving' || message === 'refusing') this.#isAnswering = true;
        if (message === 'ended') resolve('unmounted');
        else if (message === 'upgrade') void this.#upgrade(server);
        else if (message !== 'serving') return;
        else if (this.#isUpgraded && this.#isInBackground) resolve('replaced');
        else void this.#prepareNext();
      });
      // The channel ends with the last of the server's threads: nothing of it works on the branches any more.
      server.on('disconnect', () => resolve(this.#makesWay ? 'made way' : 'died'));
      if (!server.connected) resolve('died');
      else if (server === process) void this.#prepareNext();
    });
  }

  async #prepareNext(): Promise<void> {
    if (!this.#isAnnounced) this.#isInBackground = (await this.#onServing?.()) === true;
    this.#isAnnounced = true;
    if (this.#waiting === undefined) this.#keepWaiting(this.#start(ROLE.server));
  }

  #keepWaiting(next: ChildProcess): void {
    this.#waiting = next.on('disconnect', () => {
      if (this.#waiting === next) this.#waiting = undefined;
    });
  }

  /** Another server than the one that waits: that may be of the program as it was before. */
  async #upgrade(server: Server): Promise<void> {
    this.#letGoOfNext();
    const next = this.#start(ROLE.server);
    const reason = await whyNotReady(next);
    if (reason !== undefined) {
      if (next.connected) next.disconnect();
      send(server, { refused: `${reason}; the mount goes on as before` });
      return;
    }
    this.#keepWaiting(next);
    this.#makesWay = this.#isUpgraded = true;
    send(server, 'make way');
  }

  #diesTooOften(): boolean {
    const now = performance.now();
    this.#deaths.push(now);
    while (now - this.#deaths[0]! > MINUTE_MS) this.#deaths.shift();
    this.#log.warn('the server of the mount has died', {
      mountpoint: this.#mount.mountpoint,
      deathsInAMinute: this.#deaths.length,
    });
    return this.#deaths.length >= this.#mount.keep;
  }

  /** With the last descriptor the connection ends. */
  async #giveUp(): Promise<number> {
    const { mountpoint, device } = this.#mount;
    this.#log.error(`no server of ${mountpoint} lives: the mount is given up; mount it again`);
    this.#letGoOfNext();
    const { state, devices } = this.#descriptors;
    // Once it is unmounted, the next union may have its place, and its number.
    const isInPlace = isMounted(devices[0]!) && unionAt(mountpoint)?.device === device;
    for (const fd of [state, ...devices]) closeSync(fd);
    if (isInPlace) await unmountOnce(mountpoint, { lazy: true });
    removeControlSockets(device);
    return 1;
  }

  #letGoOfNext(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting?.connected) waiting.disconnect();
  }
}

/** Undefined when it could take over. */
async function whyNotReady(server: ChildProcess): Promise<string | undefined> {
  return await new Promise((resolve) => {
    server.on('message', (message: ToKeeper) => resolve(typeof message === 'object' ? message.unfit : undefined));
    server.on('disconnect', () => resolve('the program as it is installed now does not start'));
  });
}
