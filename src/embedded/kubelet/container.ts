/**
 * Containers: what container.sh starts, found again after a restart by what it left on disk.
 *
 * A run of a container is a directory `<kubelet>/pods/<uid>/containers/<name>/<restart>-<random>`:
 *   shim   stat line of the process that waits for it (container.sh, which says more)
 *   init   stat line of its first process; from then on it exists
 *   started  not empty once its command runs
 *   exit   its exit code; from then on it is over
 * Invariant: a run that has no `init` can be given up by moving its directory away; it will then never run.
 *
 * The image of a container is recorded in its status and otherwise ignored: the host is the image.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isWithin } from '../../host/mountinfo.ts';
import { isAlive, type ProcessIdentity, parseStartTime } from '../../host/process-identity.ts';
import { checkout } from '../checkout.ts';

const script = fileURLToPath(new URL('container.sh', import.meta.url));

export interface ContainerMount {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

/** A bare volume: `source` is or shows a block device, of which the container gets a node. */
export interface ContainerDevice {
  readonly source: string;
  readonly target: string;
}

export interface ContainerSpec {
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly workingDirectory: string;
  readonly mounts: readonly ContainerMount[];
  readonly devices: readonly ContainerDevice[];
  readonly readOnlyRoot: boolean;
  readonly logFile: string;
}

export type ContainerRun = {
  readonly directory: string;
  readonly restart: number;
} /** With `init` it exists, and will run; without it may yet be given up. */ & (
  | { readonly kind: 'starting'; readonly init?: ProcessIdentity }
  | { readonly kind: 'running'; readonly init: ProcessIdentity; readonly startedAt: number }
  | { readonly kind: 'exited'; readonly exitCode: number; readonly startedAt: number; readonly finishedAt: number }
);

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Starts a run and returns its directory at once; what becomes of it is told by `readRun`. `onChange` is called when the
 * process that waits for it ended.
 */
export function startContainer(
  containerDir: string,
  restart: number,
  spec: ContainerSpec,
  onChange: () => void,
): string {
  const directory = join(containerDir, `${restart}-${randomBytes(4).toString('hex')}`);
  mkdirSync(join(directory, 'root'), { recursive: true });
  mkdirSync(dirname(spec.logFile), { recursive: true });
  const log = openSync(spec.logFile, 'a', 0o640);
  try {
    const child = spawn('/bin/sh', containerArguments(directory, spec), {
      cwd: '/',
      detached: true,
      stdio: ['ignore', log, log],
    });
    child.on('exit', onChange);
    child.on('error', onChange);
    child.unref();
  } finally {
    closeSync(log);
  }
  return directory;
}

function containerArguments(directory: string, spec: ContainerSpec): string[] {
  const mounts = [...systemMounts(), ...spec.mounts].flatMap(({ source, target, readOnly }) => [
    readOnly ? 'ro' : 'rw',
    source,
    target,
  ]);
  const devices = spec.devices.flatMap(({ source, target }) => ['device', source, target]);
  const environment = { PATH: `${DEFAULT_PATH}:${join(checkout, 'bin')}`, HOME: '/root', ...spec.environment };
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const command = ['env', '-i', '-C', spec.workingDirectory, ...variables, ...spec.command];
  return [script, 'outer', directory, spec.readOnlyRoot ? 'ro' : 'rw', ...mounts, ...devices, '--', ...command];
}

/** The checkout with its dependencies, and the Node that runs us, wherever they are. */
function systemMounts(): readonly ContainerMount[] {
  const sources = [checkout, dirname(dirname(realpathSync(process.execPath)))];
  try {
    sources.push(realpathSync(join(checkout, 'node_modules')));
  } catch {
    // installed elsewhere: Node finds modules above the checkout, which we cannot know
  }
  const present = ['/usr', '/etc'];
  const mounts: ContainerMount[] = [];
  for (const source of sources) {
    if (present.some((directory) => isWithin(source, directory))) continue;
    present.push(source);
    mounts.push({ source, target: source, readOnly: true });
  }
  return mounts;
}

/** The state of a run, from its directory and /proc. */
export function readRun(directory: string): ContainerRun {
  const base = { directory, restart: Number.parseInt(basename(directory), 10) };
  // In this order: init was there before exit was.
  const exit = readRecord(join(directory, 'exit'));
  const init = readRecord(join(directory, 'init'));
  if (exit) {
    const startedAt = init?.changedAt ?? exit.changedAt;
    return { ...base, kind: 'exited', exitCode: Number(exit.text), startedAt, finishedAt: exit.changedAt };
  }
  const shimRecord = readRecord(join(directory, 'shim'));
  // Empty for the moment between its creation and its only write.
  const shim = shimRecord && parseIdentity(shimRecord.text);
  const shimLives = shim !== undefined && isAlive(shim);
  if (!init && (shimLives || !shim)) return { ...base, kind: 'starting' };
  const identity = init && parseIdentity(init.text);
  if (identity && (shimLives || isAlive(identity))) {
    if (!readRecord(join(directory, 'started'))?.text) return { ...base, kind: 'starting', init: identity };
    return { ...base, kind: 'running', init: identity, startedAt: init.changedAt };
  }
  // It may have written the exit code since we looked; if not, it was killed.
  if (existsSync(join(directory, 'exit'))) return readRun(directory);
  const startedAt = (init ?? shimRecord)?.changedAt ?? 0;
  return { ...base, kind: 'exited', exitCode: 137, startedAt, finishedAt: Date.now() };
}

/** The latest run of a container, if it ever ran. */
export function latestRun(containerDir: string): ContainerRun | undefined {
  const runs = runDirectories(containerDir);
  const latest = runs.sort((a, b) => Number.parseInt(basename(a), 10) - Number.parseInt(basename(b), 10)).at(-1);
  return latest === undefined ? undefined : readRun(latest);
}

/** Directories of all runs of a container, in no order. */
export function runDirectories(containerDir: string): string[] {
  const names = listDirectories(containerDir).filter((name) => /^\d+-[0-9a-f]+$/.test(name));
  return names.map((name) => join(containerDir, name));
}

/**
 * Makes sure that a run which did not come into being when its kubelet was killed never does.
 * Returns what it is now: gone, or running after all.
 */
export function giveUpStarting(directory: string): ContainerRun | undefined {
  const aside = `${directory}.abandoned`;
  renameSync(directory, aside);
  const run = readRun(aside);
  if (run.kind === 'starting' && !run.init) {
    rmSync(aside, { recursive: true });
    return undefined;
  }
  renameSync(aside, directory);
  return readRun(directory);
}

/** Sends a signal to a container's first process, if it still is that process. */
export function signalContainer(init: ProcessIdentity, signal: 'SIGTERM' | 'SIGKILL'): void {
  if (!isAlive(init)) return;
  try {
    process.kill(init.pid, signal);
  } catch {
    // it ended in between
  }
}

export function listDirectories(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function readRecord(path: string): { readonly text: string; readonly changedAt: number } | undefined {
  try {
    return { text: readFileSync(path, 'utf8').trim(), changedAt: Math.floor(statSync(path).mtimeMs) };
  } catch {
    return undefined;
  }
}

function parseIdentity(stat: string): ProcessIdentity | undefined {
  const startTime = parseStartTime(stat);
  return startTime === undefined ? undefined : { pid: Number.parseInt(stat, 10), startTime };
}
