/**
 * A union whose server can be killed: this process is the keeper, which holds the mount's descriptors and the state memory and gives
 * them to one server after another. While no server lives, requests wait: a test touches the mount from other processes or
 * asynchronously.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cloneDevice, createStateMemory, mountDevice, openDevice } from '../../fuse/index.ts';
import { type LoopBranches, makeLoopBranches, unmount } from './loop-branches.ts';
import { killed } from './processes.ts';

const program = fileURLToPath(new URL('serve-union.ts', import.meta.url));
const READERS = 2;

export interface KeptUnionOptions {
  readonly sizesBytes: readonly number[];
  readonly passthrough?: boolean;
  readonly create?: string;
  readonly volumeId?: string;
}

export class KeptUnion {
  readonly mountpoint: string;
  readonly branches: readonly string[];
  readonly folder: string;
  readonly devices: readonly number[];
  readonly state: number;
  readonly #loops: LoopBranches;
  readonly #options: KeptUnionOptions;
  #server: ChildProcess | undefined;
  #output = '';
  #answers = '';

  constructor(options: KeptUnionOptions) {
    this.#options = options;
    this.#loops = makeLoopBranches(options.sizesBytes);
    this.branches = this.#loops.paths;
    this.folder = this.#loops.folder;
    this.mountpoint = join(this.folder, 'union');
    mkdirSync(this.mountpoint);
    const device = openDevice();
    mountDevice({ deviceFd: device, mountpoint: this.mountpoint, fsname: 'union', readOnly: false });
    this.devices = [device, ...cloneDevice(device, READERS)];
    this.state = createStateMemory();
  }

  /** What the servers logged. */
  get output(): string {
    return this.#output;
  }

  /** What they said when they were asked (union-status.ts). */
  get answers(): string {
    return this.#answers;
  }

  get pid(): number {
    return this.#server!.pid!;
  }

  /** Starts a server; resolves when it serves. Answers the milliseconds that took. */
  async start(): Promise<number> {
    const { passthrough = true, create = 'rand', volumeId } = this.#options;
    const begun = performance.now();
    const options = {
      mountpoint: this.mountpoint,
      branches: this.branches.map((path, index) => ({ id: `b${index}`, path, mode: 'RW', minFreeSpaceBytes: 1 << 20 })),
      policies: { create, action: 'ff', search: 'ff' },
      passthrough,
      cache: 'exclusive',
      ...(volumeId !== undefined && { volumeId }),
      state: 3,
      devices: this.devices.map((_, index) => 4 + index),
    };
    const server = spawn(process.execPath, [program, JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', 'pipe', this.state, ...this.devices],
    });
    this.#server = server;
    server.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.#answers += text;
    });
    server.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text;
    });
    await Promise.race([once(server.stdout!, 'data'), once(server, 'exit')]);
    return performance.now() - begun;
  }

  /** Kills the server and waits until its last thread has ended. */
  async kill(): Promise<void> {
    if (this.#server !== undefined) await killed(this.#server);
  }

  /** Asks the server to make way, and waits until its last thread has ended. Answers the milliseconds that took. */
  async handOver(): Promise<number> {
    const begun = performance.now();
    const exited = once(this.#server!, 'exit');
    this.#server!.kill('SIGUSR1');
    await exited;
    return performance.now() - begun;
  }

  /** Unmounts, lets go of everything, and undoes the branches. */
  async close(): Promise<void> {
    let failure: unknown;
    try {
      unmount(this.mountpoint);
    } catch (error) {
      failure = error;
      spawnSync('umount', ['--lazy', this.mountpoint]);
    }
    for (const fd of [...this.devices, this.state]) closeSync(fd);
    // Where another mount namespace has a copy of the mount, it goes on without us: that of a cluster, say.
    await this.kill();
    this.#loops.close();
    if (failure !== undefined) throw failure;
  }
}
