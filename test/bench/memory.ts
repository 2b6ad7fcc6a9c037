/**
 * What a server costs that does nothing, what each file costs that the kernel remembers, and how soon a mount answers.
 *
 * Memory is what the server has for itself: anonymous memory and the state memory. The pages of Node's program file that
 * it has mapped (50 MB of its resident set) belong to the page cache: all Node programs of the machine share them, and the kernel
 * takes them back when it needs memory.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { removeFolderWithMounts, runProgram } from '../support/loop-branches.ts';
import { mountUnion } from '../support/union-mount.ts';
import { atMost, median, type Verdict } from './table.ts';
import type { Outcome, Workshop } from './workload.ts';

const program = fileURLToPath(new URL('../../bin/union-csi', import.meta.url));
const BRANCHES = 4;
const FILES_IN_FOLDER = 1000;
const options = ['cache=exclusive', 'minfreespace=1M'];

export async function measureMemory(
  { knownFiles, rounds }: { readonly knownFiles: number; readonly rounds: number },
  shop: Workshop,
): Promise<Outcome> {
  const folder = join(shop.folder, 'memory');
  const mountpoint = join(folder, 'union');
  mkdirSync(mountpoint, { recursive: true });
  try {
    const empty = makeBranches(folder, 0);
    startMs(empty, mountpoint); // the first after a change compiles what later ones find compiled
    const starts = Array.from({ length: rounds }, () => startMs(empty, mountpoint));
    const memory = await known(makeBranches(folder, knownFiles), mountpoint, knownFiles);
    const { idleBytes, residentBytes, knownBytes, perMillionBytes } = memory;
    shop.say(
      `idle: ${mib(idleBytes)} MiB of its own, ${mib(residentBytes)} MiB resident with the program; ` +
        `with ${knownFiles} known files ${mib(knownBytes)} MiB; starts: ${starts.map((ms) => ms.toFixed(0)).join(', ')} ms`,
    );
    const verdicts: Verdict[] = [
      atMost('idle server, memory of its own', idleBytes / 1024 ** 2, 64, 'MiB'),
      atMost('each further million known files', perMillionBytes / 1e6, 160, 'MB'),
      atMost('a mount answers', median(starts), 300, 'ms'),
    ];
    return { verdicts, samples: { ...memory, starts } };
  } finally {
    removeFolderWithMounts(folder);
  }
}

const mib = (bytes: number) => (bytes / 1024 ** 2).toFixed(0);

/** Branches in memory, with this many empty files below folders of FILES_IN_FOLDER, each folder on one of them. */
export function makeBranches(folder: string, files: number): string[] {
  const paths = Array.from({ length: BRANCHES }, (_, index) => join(folder, `branch${index}-${files}`));
  const folders = Math.ceil(files / FILES_IN_FOLDER);
  const names = Array.from({ length: Math.min(files, FILES_IN_FOLDER) }, (_, file) => `source-file-${file}.txt`);
  for (const [index, path] of paths.entries()) {
    mkdirSync(path);
    runProgram('mount', ['-t', 'tmpfs', '-o', 'nr_inodes=0', 'tmpfs', path]);
    for (let at = index; at < folders; at += BRANCHES) {
      mkdirSync(join(path, `folder${at}`));
      runProgram('touch', names, { cwd: join(path, `folder${at}`) });
    }
  }
  return paths;
}

export function foldersOf(mountpoint: string, files: number): string[] {
  return Array.from({ length: Math.ceil(files / FILES_IN_FOLDER) }, (_, at) => join(mountpoint, `folder${at}`));
}

/**
 * As a person starts it: until the command returns. Before all else that runs, by scheduling policy: the server gets a session
 * of its own, and with it an equal share of a busy machine, whatever its niceness.
 */
function startMs(branches: readonly string[], mountpoint: string): number {
  const begin = process.hrtime.bigint();
  const command = [program, 'mount', '-o', options.join(','), branches.join(':'), mountpoint];
  execFileSync('chrt', ['--rr', '5', ...command], { stdio: 'ignore' });
  const ms = Number(process.hrtime.bigint() - begin) / 1e6;
  runProgram('umount', [mountpoint]);
  return ms;
}

interface Memory {
  readonly idleBytes: number;
  readonly residentBytes: number;
  readonly knownBytes: number;
  readonly perMillionBytes: number;
}

/**
 * Makes the kernel know a quarter of the files, which also fills what has a fixed size and warms up the readers, then the
 * others: the difference is what further files take.
 */
async function known(branches: readonly string[], mountpoint: string, files: number): Promise<Memory> {
  const union = await mountUnion({ branches, mountpoint, options });
  const folders = foldersOf(mountpoint, files);
  const own = async () => {
    await settled(union.pid);
    return ownBytes(union.pid);
  };
  try {
    const idleBytes = await own();
    const residentBytes = rollup(union.pid, 'Rss');
    const some = learn(folders.slice(0, folders.length / 4));
    const someBytes = await own();
    const all = learn(folders);
    if (all !== files) throw new Error(`found ${all} of ${files} files`);
    const knownBytes = await own();
    const perMillionBytes = ((knownBytes - someBytes) / (all - some)) * 1e6;
    return { idleBytes, residentBytes, knownBytes, perMillionBytes };
  } finally {
    await union.close();
  }
}

/** Asks for the attributes of every file; answers how many there are. */
export function learn(folders: readonly string[]): number {
  const args = ['-type', 'f', '-size', '0', '-printf', '.'];
  return runProgram('find', [...folders, ...args], { timeoutMs: 300_000 }).length;
}

/** Anonymous memory and the state memory. */
function ownBytes(pid: number): number {
  return rollup(pid, 'Pss_Anon') + rollup(pid, 'Pss_Shmem');
}

function rollup(pid: number, field: string): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)![1]) * 1024;
}

/** Until the server's memory has stopped moving: its collector and compiler work on for a moment. */
async function settled(pid: number): Promise<void> {
  for (let before = 0, now = ownBytes(pid), looks = 0; now !== before && looks < 20; looks++) {
    await delay(250);
    before = now;
    now = ownBytes(pid);
  }
}
