/**
 * The production commands that a cluster runs as child processes: started again when they die, with back-off, and recorded by
 * pid and start time in `processes.json`, so that whoever comes after a kill ends exactly those.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { isAlive, type ProcessIdentity, processIdentity } from '../host/process-identity.ts';
import { replaceFile } from '../host/replace-file.ts';

export interface ChildSpec {
  readonly name: string;
  readonly command: readonly string[];
}

export interface ChildrenOptions {
  readonly clusterDir: string;
  readonly clock: Clock;
  readonly log: Logger;
}

const RESTART_BASE_MS = 100;
const RESTART_MAX_MS = 5_000;
/** A child that ran this long was healthy. */
const HEALTHY_MS = 30_000;
/** How long a child has to end after SIGTERM. */
const STOP_LIMIT_MS = 3_000;

export class Children {
  readonly #options: ChildrenOptions;
  readonly #running = new Map<string, ProcessIdentity>();

  constructor(options: ChildrenOptions) {
    this.#options = options;
    mkdirSync(join(options.clusterDir, 'logs'), { recursive: true });
  }

  /** Keeps a child running until the signal aborts; resolves when it has ended. */
  async run(spec: ChildSpec, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    for (let failures = 0; !signal.aborted; ) {
      const startedAt = clock.now();
      const { child, file } = this.#start(spec);
      const ended = new Promise<string>((resolve) => {
        child.once('error', (error) => resolve(error.message));
        child.once('exit', (code, by) => resolve(by ?? `exit code ${code}`));
      });
      const stop = () => void this.#stop(child, ended);
      signal.addEventListener('abort', stop, { once: true });
      if (signal.aborted) stop();
      const why = await ended;
      signal.removeEventListener('abort', stop);
      this.#running.delete(spec.name);
      this.#record();
      if (signal.aborted) return;
      failures = clock.now() - startedAt >= HEALTHY_MS ? 1 : failures + 1;
      const delayMs = Math.min(RESTART_MAX_MS, RESTART_BASE_MS * 2 ** Math.min(failures - 1, 10));
      log.warn('child.ended', { child: spec.name, why, restartInMs: delayMs, log: file });
      await clock.sleep(delayMs, signal).catch(() => {});
    }
  }

  #start({ name, command }: ChildSpec): { child: ChildProcess; file: string } {
    const file = join(this.#options.clusterDir, 'logs', `${name}.log`);
    const log = openSync(file, 'a', 0o640);
    try {
      // In a session of its own: a Ctrl-C at the terminal is for the cluster, which ends its children in order. Should it be
      // killed, the kernel ends them; the record is for what was killed before that could be set up.
      const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command], {
        detached: true,
        stdio: ['ignore', log, log],
      });
      const identity = child.pid === undefined ? undefined : processIdentity(child.pid);
      if (identity) this.#running.set(name, identity);
      this.#record();
      return { child, file };
    } finally {
      closeSync(log);
    }
  }

  async #stop(child: ChildProcess, ended: Promise<unknown>): Promise<void> {
    child.kill('SIGTERM');
    const limit = new AbortController();
    const sleep = this.#options.clock.sleep(STOP_LIMIT_MS, limit.signal).then(
      () => child.kill('SIGKILL'),
      () => {},
    );
    await Promise.race([ended, sleep]);
    limit.abort();
  }

  #record(): void {
    const processes = [...this.#running].map(([name, identity]) => ({ name, ...identity }));
    writeProcesses(this.#options.clusterDir, processes);
  }
}

function recordFile(clusterDir: string): string {
  return join(clusterDir, 'processes.json');
}

interface ChildRecord extends ProcessIdentity {
  readonly name: string;
}

function writeProcesses(clusterDir: string, processes: readonly ChildRecord[]): void {
  const file = recordFile(clusterDir);
  mkdirSync(dirname(file), { recursive: true });
  replaceFile(file, JSON.stringify(processes));
}

/** The children that a cluster in this directory recorded and that still run. */
export function recordedChildren(clusterDir: string): readonly ChildRecord[] {
  try {
    const recorded: ChildRecord[] = JSON.parse(readFileSync(recordFile(clusterDir), 'utf8'));
    return recorded.filter(isAlive);
  } catch {
    return [];
  }
}

/** Kills processes and waits until they are gone, at most for `limitMs`. Returns those that are not. */
export async function endProcesses(
  processes: readonly ProcessIdentity[],
  { clock, limitMs }: { clock: Clock; limitMs: number },
): Promise<readonly ProcessIdentity[]> {
  for (const identity of processes) {
    if (!isAlive(identity)) continue;
    try {
      process.kill(identity.pid, 'SIGKILL');
    } catch {
      // it ended in between
    }
  }
  const until = clock.now() + limitMs;
  let left = processes.filter(isAlive);
  while (left.length > 0 && clock.now() < until) {
    await clock.sleep(10);
    left = left.filter(isAlive);
  }
  return left;
}
