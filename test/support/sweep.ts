/**
 * Takes away what tests left below their temporary directory: processes that were started with it or name it, mounts, loop devices,
 * files. Whatever ended them: Ctrl-C ends mocha's workers in the middle of a test.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { loopDevicesOf, mountpointsBelow } from './loop-branches.ts';

/** What supervises others may start them anew while they are being ended. */
const ROUNDS = 20;
const ROUND_MS = 100;

interface Leftover {
  readonly name: string;
  readonly end: () => void;
}

/** Answers what there was, a line each, but for files; what goes by itself in so many milliseconds does not count. */
export async function sweep(directory: string, graceMs = 0): Promise<readonly string[]> {
  const find = () => [...processes(directory), ...mounts(directory), ...loops(directory)];
  for (const until = Date.now() + graceMs; Date.now() < until && find().length > 0; ) await delay(ROUND_MS);
  const found = new Set<string>();
  for (let round = 0; round < ROUNDS; round++) {
    const left = find();
    if (left.length === 0) break;
    for (const { name, end } of left) {
      found.add(name);
      end();
    }
    await delay(ROUND_MS);
  }
  rmSync(directory, { recursive: true, force: true });
  return [...found];
}

function processes(directory: string): readonly Leftover[] {
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return [];
    const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
    const environment = read(`/proc/${pid}/environ`).split('\0');
    const isOurs = environment.includes(`TMPDIR=${directory}`) || command.includes(`${directory}/`);
    // One that has ended, and that nobody has waited for, has no command line.
    if (!isOurs || command === '') return [];
    return [{ name: `process ${pid} ${command}`, end: () => kill(Number(pid)) }];
  });
}

/** Those on top first. One whose server was ended above has nothing left to write. */
function mounts(directory: string): readonly Leftover[] {
  return mountpointsBelow(directory)
    .reverse()
    .map((point) => ({ name: `mount ${point}`, end: () => run('umount', '--lazy', point) }));
}

function loops(directory: string): readonly Leftover[] {
  return loopDevicesOf(directory).map((device) => ({
    name: `loop device ${device}`,
    end: () => run('losetup', '--detach', device),
  }));
}

/** Empty when it is gone. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has just ended.
  }
}

function run(command: string, ...args: readonly string[]): void {
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  spawnSync(command, args, { stdio: 'ignore', timeout: 10_000, env });
}
