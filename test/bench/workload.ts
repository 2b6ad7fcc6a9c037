/**
 * Runs metadata.c over several filesystems, round by round in turn, so that whatever else happens on the machine hits all of
 * them alike.
 */
import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { makeLoopBranches, runProgram } from '../support/loop-branches.ts';
import { type Contender, type ContenderName, contenders } from './contenders.ts';
import { runOn } from './machine.ts';
import { type Figures, lowerPhases, metadataPhases, type Phase, phases, type Verdict } from './table.ts';

/** A filesystem that takes part in a run, and how. */
export interface Entry {
  /** Its column. */
  readonly name: string;
  readonly contender: ContenderName;
  readonly branches: number;
  readonly cpus: 'one CPU' | 'every CPU';
  readonly clients: number;
}

export interface Scale {
  readonly rounds: number;
  readonly files: number;
  readonly mebibytes: number;
  readonly phases: readonly Phase[];
}

/** Where the benchmark keeps its things, what it has compiled, and how it is ended. */
export interface Workshop {
  readonly folder: string;
  readonly signal: AbortSignal;
  say(line: string): void;
}

/** What a section of the benchmark found. */
export interface Outcome {
  readonly verdicts: readonly Verdict[];
  /** What `--json` keeps. */
  readonly samples: unknown;
}

/** fuse-native is so slow that fewer files say as much. */
const SLOWNESS: Partial<Record<ContenderName, number>> = { 'fuse-native': 10 };

/** What those can do that cannot do everything: the null server's files have no data of their own. */
const ABILITIES: Partial<Record<ContenderName, readonly Phase[]>> = { null: metadataPhases, least: lowerPhases };

/** JavaScript is compiled in the first round, and again in the second, which goes on with what the first has left behind. */
export const WARM_UPS = 2;

interface MountOverOptions {
  readonly nullServer?: string;
  readonly cpus: Entry['cpus'];
  /** Gets what takes it away again. */
  readonly undo: (() => Promise<void> | void)[];
}

/** A contender over new branches. */
export async function mountOver(
  sizesBytes: readonly number[],
  contender: Contender,
  { nullServer = '', cpus, undo }: MountOverOptions,
): Promise<{ readonly mountpoint: string; readonly branches: readonly string[] }> {
  const branches = makeLoopBranches(sizesBytes);
  undo.push(() => branches.close());
  const mountpoint = join(branches.folder, 'mount');
  mkdirSync(mountpoint);
  const ownSession = cpus === 'every CPU';
  const mounted = await contender.mount({ branches: branches.paths, mountpoint, nullServer, ownSession });
  undo.push(() => mounted.close());
  return { mountpoint: mounted.mountpoint, branches: branches.paths };
}

/** Samples of each entry by name; entries that cannot run here are told and left out. */
export async function measure(
  entries: readonly Entry[],
  scale: Scale,
  shop: Workshop,
): Promise<Record<string, Figures[]>> {
  const metadata = compile('metadata', shop);
  const undo: (() => Promise<void> | void)[] = [];
  const running: { entry: Entry; mountpoint: string }[] = [];
  const samples: Record<string, Figures[]> = {};
  try {
    for (const entry of entries) {
      const contender = contenders.find(({ name }) => name === entry.contender)!;
      const missing = contender.missing();
      if (missing !== undefined) {
        shop.say(`not measured: ${entry.name}: ${missing}`);
        continue;
      }
      runOn(entry.cpus);
      const sizesBytes = Array(entry.branches).fill(branchBytes(entry, scale));
      const nullServer = entry.contender === 'null' ? compile('null', shop) : '';
      const { mountpoint } = await mountOver(sizesBytes, contender, { nullServer, cpus: entry.cpus, undo });
      running.push({ entry, mountpoint });
      samples[entry.name] = [];
    }
    // Servers run for weeks: what they do in their first seconds is not counted, except where there is one round only.
    for (let round = scale.rounds > 1 ? 1 - WARM_UPS : 1; round <= scale.rounds; round++) {
      for (const { entry, mountpoint } of running) {
        shop.say(round <= 0 ? `warming up: ${entry.name}` : `round ${round} of ${scale.rounds}: ${entry.name}`);
        const figures = await work(metadata, entry, scale, mountpoint, shop.signal);
        if (round > 0) samples[entry.name]!.push(figures);
      }
    }
    return samples;
  } finally {
    runOn('every CPU');
    await undoAll(undo, shop.signal);
  }
}

/**
 * Undoes what was done, last first, and goes on where a step fails. Throws the first failure, unless the benchmark is being ended: Ctrl-C
 * in a terminal ends servers too, and they are gone already.
 */
export async function undoAll(steps: readonly (() => Promise<void> | void)[], signal: AbortSignal): Promise<void> {
  const failures: unknown[] = [];
  for (const step of steps.toReversed())
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  // A signal that came while a program was waited for is told in the next turn.
  await setImmediate();
  if (failures.length > 0 && !signal.aborted) throw failures[0];
}

/** Any one branch may get all of the large files, and small files take a block each. */
function branchBytes({ clients }: Entry, { mebibytes, files }: Scale): number {
  return Math.ceil((mebibytes * 2 + files / 64) * clients + 256) * 1024 ** 2;
}

export function compile(name: string, { folder }: Workshop): string {
  const binary = join(folder, name);
  runProgram('cc', ['-O2', '-pthread', '-o', binary, fileURLToPath(new URL(`${name}.c`, import.meta.url))]);
  return binary;
}

async function work(
  metadata: string,
  { contender, cpus, clients }: Entry,
  scale: Scale,
  directory: string,
  signal: AbortSignal,
): Promise<Figures> {
  const wanted = scale.phases.filter((phase) => (ABILITIES[contender] ?? phases).includes(phase));
  if (wanted.length === 0) return {};
  const files = Math.ceil(scale.files / clients / (SLOWNESS[contender] ?? 1));
  const args = ['-n', files, '-c', clients, '-m', scale.mebibytes, '-p', withNeeds(wanted).join(), directory];
  runOn(cpus);
  spawnSync('sync');
  const { stdout } = await promisify(execFile)(metadata, args.map(String), { signal });
  return JSON.parse(stdout);
}

/** Phases use what earlier ones made. */
function withNeeds(wanted: readonly Phase[]): readonly Phase[] {
  const needed = new Set(wanted);
  if (wanted.includes('unlink')) needed.add('rename');
  if (wanted.some((phase) => metadataPhases.includes(phase))) needed.add('create');
  if (wanted.some((phase) => !metadataPhases.includes(phase))) needed.add('sequential_write');
  return phases.filter((phase) => needed.has(phase));
}
