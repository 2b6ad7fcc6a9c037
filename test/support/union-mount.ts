/**
 * A union for tests, made the way a person makes one: `bin/union-csi mount` over loop ext4 branches.
 *
 *   const union = await makeUnion({ sizesBytes: [64, 64].map((mib) => mib << 20), options: ['category.create=rand'] });
 *   … union.mountpoint, union.branches …
 *   await union.close();
 *
 * `close` unmounts, waits for the server to end, undoes the branches and throws if anything stayed behind or the server
 * failed, so that a test that forgets nothing else still notices. The server is a process of its own: a test may touch
 * the mount synchronously.
 */
import { type ChildProcess, type SpawnOptionsWithStdioTuple, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { globSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Patience } from '../../fuse/branch/health.ts';
import { findHolders, formatHolders } from '../../src/host/holders.ts';
import { endCopies, makeLoopBranches, mountpointsBelow } from './loop-branches.ts';

const program = fileURLToPath(new URL('../../bin/union-csi', import.meta.url));
const libraryProgram = fileURLToPath(new URL('serve-union.ts', import.meta.url));
/** Generous: the machine may be busy with much else. */
const startDeadlineMs = 60_000;
const endDeadlineMs = 60_000;
const umountLimitMs = 30_000;
const defaultBusyLimitMs = 30_000;
const copiesMs = 1_000;

export interface UnionMount {
  readonly mountpoint: string;
  readonly pid: number;
  /** What the server wrote so far. */
  output(): string;
  /** The same without what a busy machine is to blame for: that a branch was slow, and is no more. */
  complaints(): string;
  /** Unmounts and waits for the server to end, and before that for whoever uses the mount. Can be repeated. */
  close(busyLimitMs?: number): Promise<void>;
}

export interface LibraryOptions {
  readonly passthrough?: boolean;
  readonly create?: string;
  readonly readers?: number;
  readonly cache?: 'exclusive' | 'shared';
  readonly volumeId?: string;
  readonly patience?: Patience;
}

export interface MountOptions {
  /** As on the command line: `PATH[=MODE[,MINFREE]]`. */
  readonly branches: readonly string[];
  readonly mountpoint: string;
  /** Items of `-o`. Branches of tests are the union's own, so `cache=exclusive` is added unless a cache is named. */
  readonly options?: readonly string[];
  /** How many files the server may have open. */
  readonly openFiles?: number;
  /** Flags of the server's Node. */
  readonly nodeOptions?: string;
  /** In a session of its own, as `union-csi mount` in the background has it. */
  readonly ownSession?: boolean;
  /** Served by the library with these options, where the command has none for them (support/serve-union.ts). */
  readonly library?: LibraryOptions;
}

export async function mountUnion({
  branches,
  mountpoint,
  options = [],
  library,
  openFiles,
  nodeOptions = process.env.NODE_OPTIONS ?? '',
  ownSession = false,
}: MountOptions): Promise<UnionMount> {
  const cache = options.some((option) => option.startsWith('cache=')) ? [] : ['cache=exclusive'];
  const args = ['mount', '-f', '-o', [...options, ...cache].join(','), branches.join(':'), mountpoint];
  const how: SpawnOptionsWithStdioTuple<'ignore', 'pipe', 'pipe'> = {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: ownSession,
  };
  const server = library
    ? spawn(process.execPath, [libraryProgram, libraryOptions(library, branches, mountpoint)], how)
    : openFiles === undefined
      ? spawn(program, args, { ...how, env: { ...process.env, NODE_OPTIONS: nodeOptions } })
      : spawn('prlimit', [`--nofile=${openFiles}`, program, ...args], how);
  let output = '';
  for (const stream of [server.stdout, server.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  await until(startDeadlineMs, () => hasEnded(server) || mountpointsBelow(mountpoint).includes(mountpoint));
  if (hasEnded(server) || !mountpointsBelow(mountpoint).includes(mountpoint)) {
    await end(server);
    throw new Error(`union-csi ${args.join(' ')} did not mount: ${output}`);
  }
  let closed: Promise<void> | undefined;
  return {
    mountpoint,
    pid: server.pid!,
    output: () => output,
    complaints: () => output.replace(/^branch_health .*"(health|was)":"slow".*\n/gm, ''),
    close: (busyLimitMs = defaultBusyLimitMs) => {
      closed ??= unmount({ server, mountpoint, busyLimitMs, output: () => output });
      return closed;
    },
  };
}

function libraryOptions(options: LibraryOptions, branches: readonly string[], mountpoint: string): string {
  const { passthrough = true, create = 'ff', cache = 'exclusive', ...rest } = options;
  return JSON.stringify({
    mountpoint,
    branches: branches.map((path, index) => ({ id: `b${index}`, path, mode: 'RW', minFreeSpaceBytes: 1 << 20 })),
    policies: { create, action: 'ff', search: 'ff' },
    passthrough,
    cache,
    ...rest,
  });
}

interface Served {
  readonly server: ChildProcess;
  readonly mountpoint: string;
  readonly busyLimitMs: number;
  readonly output: () => string;
}

async function unmount({ server, mountpoint, busyLimitMs, output }: Served): Promise<void> {
  const failure = (await unmountWhenFree(mountpoint, busyLimitMs)) ?? (await ending(server, mountpoint));
  await end(server);
  if (failure !== undefined) throw new Error(`${failure}: ${output()}`);
  if (server.exitCode !== 0) {
    throw new Error(`the union's server ended with ${server.signalCode ?? server.exitCode}: ${output()}`);
  }
}

/** What is wrong with the server's end after the unmount: nothing, or that it does not come. */
async function ending(server: ChildProcess, mountpoint: string): Promise<string | undefined> {
  const deadline = Date.now() + endDeadlineMs;
  while (!hasEnded(server) && Date.now() < deadline) {
    await until(copiesMs, () => hasEnded(server));
    if (!hasEnded(server)) endCopies(mountpoint);
  }
  if (hasEnded(server)) return undefined;
  return `the union's server did not end after the unmount of ${mountpoint}, while its threads wait: ${threadsOf(server.pid!)}`;
}

/**
 * Whoever looks through /proc at the files that others have open holds their mounts for an instant: a busy mount is tried
 * again. What keeps it busy for longer is told, and the mount detached.
 */
async function unmountWhenFree(mountpoint: string, busyLimitMs: number): Promise<string | undefined> {
  const deadline = Date.now() + busyLimitMs;
  for (;;) {
    const { status, stderr } = spawnSync('umount', [mountpoint], { encoding: 'utf8', timeout: umountLimitMs });
    if (status === 0) return undefined;
    if (stderr.includes('busy') && Date.now() < deadline) {
      await delay(50);
      continue;
    }
    const holders = formatHolders(findHolders(mountpoint));
    spawnSync('umount', ['--lazy', mountpoint], { timeout: umountLimitMs });
    return `umount ${mountpoint} failed: ${stderr.trim()} It is held by ${holders}`;
  }
}

/** What each thread waits for. */
function threadsOf(pid: number): string {
  const lines = globSync(`/proc/${pid}/task/*`).map((task) =>
    ['comm', 'wchan', 'syscall'].map((file) => readFileSync(join(task, file), 'latin1').trim()).join(' '),
  );
  return `\n${lines.join('\n')}`;
}

function hasEnded(server: ChildProcess): boolean {
  return server.exitCode !== null || server.signalCode !== null;
}

async function end(server: ChildProcess): Promise<void> {
  if (hasEnded(server)) return;
  const exited = once(server, 'exit');
  server.kill('SIGKILL');
  await exited;
}

/** Waits for a condition on other processes, which tell nobody when they meet it. */
async function until(deadlineMs: number, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + deadlineMs;
  while (!condition() && Date.now() < deadline) await delay(5);
}

export interface TestUnion extends UnionMount {
  /** The branches' own paths, in order. */
  readonly branches: readonly string[];
  /** A temporary folder outside of the union that goes with it. */
  readonly folder: string;
}

export interface TestUnionOptions {
  /** One branch of each size. */
  readonly sizesBytes: readonly number[];
  readonly options?: readonly string[];
  readonly library?: LibraryOptions;
  readonly openFiles?: number;
  readonly ownSession?: boolean;
  /** A branch before the others that is there already. */
  readonly first?: string;
  /** What to do to the branches before they are mounted as one. */
  readonly prepare?: (branches: readonly string[]) => void;
}

/** Loop branches and the union over them, as one thing to close. */
export async function makeUnion(asked: TestUnionOptions): Promise<TestUnion> {
  const { sizesBytes, first, prepare, ...rules } = asked;
  const { folder, paths: made, close } = makeLoopBranches(sizesBytes);
  const paths = first === undefined ? made : [first, ...made];
  try {
    prepare?.(paths);
    const mountpoint = join(folder, 'union');
    mkdirSync(mountpoint);
    const union = await mountUnion({ branches: paths, mountpoint, ...rules });
    return { ...union, branches: paths, folder, close: (limitMs) => union.close(limitMs).finally(close) };
  } catch (error) {
    close();
    throw error;
  }
}
