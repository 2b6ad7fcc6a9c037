/**
 * A PostgreSQL cluster of its own, as an unprivileged user: in a directory, reached by a unix socket, stopped in an orderly way or
 * killed with all of its processes at once. Debian's paths.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, globSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../support/eventually.ts';
import { runProgram } from '../support/loop-branches.ts';
import { statFields, until } from '../support/processes.ts';
import type { Need } from '../support/skip.ts';

const NOBODY = 65_534;
const answerMs = 60_000;
/** Of /proc/PID/stat, behind the name. */
const PPID = 1;
const asNobody = ['--reuid', `${NOBODY}`, '--regid', `${NOBODY}`, '--clear-groups', '--'];
/** Of the newest version that there is. */
const programs = globSync('/usr/lib/postgresql/*/bin').sort((a, b) => version(b) - version(a))[0] ?? '';

function version(path: string): number {
  return Number(path.split('/')[4]);
}

export const postgresql: Need = () =>
  programs === '' ? 'needs PostgreSQL; run apt-get install postgresql postgresql-contrib' : undefined;

/** Recovery has something to do, and checkpoints come often. */
const settings = {
  listen_addresses: '',
  checkpoint_timeout: '30s',
  max_wal_size: '32MB',
  wal_sync_method: 'fdatasync',
  full_page_writes: 'on',
};

export class Cluster {
  readonly #data: string;
  readonly #socket: string;
  #postmaster: ChildProcess | undefined;
  #log = '';

  /** Makes one: `parent` is on the filesystem to be tried, `folder` for the socket. */
  constructor(parent: string, folder: string) {
    this.#data = join(parent, 'postgresql');
    this.#socket = join(folder, 'socket');
    for (const directory of [this.#data, this.#socket]) {
      mkdirSync(directory, { recursive: true });
      chownSync(directory, NOBODY, NOBODY);
    }
    this.run('initdb', ['--data-checksums', '--auth=trust', '--username=postgres', '--pgdata', this.#data]);
  }

  /** Starts it and waits until it answers, which is after recovery. */
  async start(): Promise<void> {
    const flags = Object.entries({ ...settings, unix_socket_directories: this.#socket });
    const args = [
      join(programs, 'postgres'),
      '-D',
      this.#data,
      ...flags.flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ];
    const postmaster = spawn('setpriv', [...asNobody, ...args], { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] });
    postmaster.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#log += text;
    });
    this.#postmaster = postmaster;
    await eventually(
      'an answer of postgres',
      () => {
        if (postmaster.exitCode !== null) throw new Error(`postgres ended with ${postmaster.exitCode}: ${this.#log}`);
        return spawnSync(join(programs, 'pg_isready'), ['--host', this.#socket, '--quiet']).status === 0;
      },
      answerMs,
    );
  }

  /** What it logged so far. */
  get log(): string {
    return this.#log;
  }

  run(program: string, args: readonly string[]): string {
    return runProgram('setpriv', [...asNobody, join(programs, program), ...args], { cwd: '/', timeoutMs: 120_000 });
  }

  /** Runs a client program to its end, with the connection's flags before its own. */
  client(program: string, args: readonly string[]): string {
    return this.run(program, [...this.#connection, ...args]);
  }

  startClient(program: string, args: readonly string[], cwd: string): ChildProcess {
    const command = [...asNobody, join(programs, program), ...this.#connection, ...args];
    return spawn('setpriv', command, { cwd, stdio: 'ignore' });
  }

  query(sql: string): string {
    return this.client('psql', ['--no-psqlrc', '--tuples-only', '--no-align', '--command', sql, 'postgres']).trim();
  }

  /** SIGKILL to all processes at once: the postmaster is stopped first so that it starts no others. */
  async kill(): Promise<void> {
    const postmaster = this.#postmaster;
    if (postmaster?.pid === undefined || postmaster.exitCode !== null) return;
    const ended = once(postmaster, 'close');
    postmaster.kill('SIGSTOP');
    const children = childrenOf(postmaster.pid);
    for (const pid of [...children, postmaster.pid]) process.kill(pid, 'SIGKILL');
    await ended;
    await until(() => children.every((pid) => !isRunning(pid)));
    this.#postmaster = undefined;
  }

  /** Fast shutdown: with a checkpoint. */
  async stop(): Promise<void> {
    const postmaster = this.#postmaster!;
    const ended = once(postmaster, 'close');
    postmaster.kill('SIGINT');
    const [code] = await ended;
    this.#postmaster = undefined;
    if (code !== 0) throw new Error(`postgres ended with ${code}: ${this.#log}`);
  }

  /** Every page's checksum. Throws; only while it is stopped. */
  checkPages(): string {
    return this.run('pg_checksums', ['--check', '--pgdata', this.#data]);
  }

  get #connection(): readonly string[] {
    return ['--host', this.#socket, '--username', 'postgres'];
  }
}

function childrenOf(parent: number): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => Number(statFields(pid)[PPID]) === parent).map(Number);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
