/** `union-csi mount -o keep` as a test has it: its processes, found by their command lines, and a mount to be used meanwhile. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { unmount } from './loop-branches.ts';
import { statFields, until } from './processes.ts';

const installed = fileURLToPath(new URL('../../bin/union-csi', import.meta.url));

/** Of 10 ms, that loading takes at least. */
const LOADING_TICKS = 15;
const REST_MS = 200;

export interface KeptProcess {
  readonly pid: number;
  readonly command: string;
}

/** The processes of the mount at a place: its name must be no other's. */
export class MountProcesses {
  readonly mountpoint: string;

  constructor(mountpoint: string) {
    this.mountpoint = mountpoint;
  }

  /** Servers, oldest first: all but the oldest wait for their turn. */
  servers(): readonly KeptProcess[] {
    return this.processes().filter(({ command }) => command.includes('--kept-server'));
  }

  keepers(): readonly KeptProcess[] {
    return this.processes().filter(({ command }) => !/ --(kept-server|refuser) /.test(command));
  }

  refusers(): readonly KeptProcess[] {
    return this.processes().filter(({ command }) => command.includes('--refuser'));
  }

  /** Resolves when the server that waits for its turn has loaded what it needs: it rests after having worked. */
  async nextHasLoaded(): Promise<void> {
    let seen = { ticks: 0, at: 0 };
    await until(() => {
      const next = this.servers()[1];
      const ticks = next === undefined ? 0 : cpuTicks(next.pid);
      if (ticks !== seen.ticks) seen = { ticks, at: performance.now() };
      return ticks > LOADING_TICKS && performance.now() - seen.at > REST_MS;
    });
  }

  processes(): readonly KeptProcess[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((name) => ({ pid: Number(name), command: commandOf(name), born: birthOf(name) }))
      .filter(({ command }) => command.includes('cli.ts mount ') && command.includes(this.mountpoint))
      .sort((one, other) => one.born - other.born || one.pid - other.pid);
  }

  /** Kills all processes, also those that one starts meanwhile because another has died. */
  async kill(): Promise<void> {
    await until(() => {
      const alive = this.processes();
      for (const { pid } of alive) killIfThere(pid);
      return alive.length === 0;
    });
  }
}

export class KeptMount extends MountProcesses {
  /** Mounts in the background. The mountpoint must name this mount alone. */
  constructor(branches: readonly string[], mountpoint: string, options: readonly string[], program = installed) {
    super(mountpoint);
    const args = ['mount', '-o', options.join(','), branches.join(':'), mountpoint];
    const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
    if (status !== 0 || stderr !== '') throw new Error(`union-csi ${args.join(' ')} ended with ${status}: ${stderr}`);
  }

  /** Unmounts and waits for the end of all processes; kills them if that fails. */
  async close(): Promise<void> {
    try {
      unmount(this.mountpoint);
      await until(() => this.processes().length === 0);
    } finally {
      await this.kill();
    }
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

function commandOf(pid: string): string {
  try {
    return readFileSync(join('/proc', pid, 'cmdline'), 'utf8').replaceAll('\0', ' ');
  } catch {
    return ''; // it has ended
  }
}

/** Clock ticks since the machine's start. */
function birthOf(pid: string): number {
  return Number(statFields(pid)[19] ?? 0);
}

/** That a process has worked. */
function cpuTicks(pid: number): number {
  const [user = 0, system = 0] = statFields(`${pid}`).slice(11, 13).map(Number);
  return user + system;
}
