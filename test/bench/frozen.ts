/** How fast a union is for who needs other branches while one of four does not answer: frozen, so that whoever changes it waits. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from '../support/eventually.ts';
import { freeze, thaw } from '../support/faults.ts';
import { killed } from '../support/processes.ts';
import { makeUnion, type TestUnion } from '../support/union-mount.ts';
import { healthOf } from '../support/union-status.ts';
import { runOn } from './machine.ts';
import { type Comparison, type Figures, formatTable, judge, medians, type Phase } from './table.ts';
import { compile, type Outcome, WARM_UPS, type Workshop } from './workload.ts';

/** Threads that replace those which wait have yet to compile what they do, as everybody in a first round; that is told apart. */
const [BEFORE, AT_FIRST, DURING] = ['all answer', 'one is frozen, at first', 'one is frozen'];
const phases: readonly Phase[] = ['create', 'stat_cold', 'missing_cold', 'open_read', 'rename', 'unlink'];
const bars: readonly Comparison[] = phases.map((phase) => ({ phase, of: DURING, against: BEFORE, ratio: 0.9 }));
const branchBytes = 512 * 1024 ** 2;
/** Shorter than usual: the time until a frozen branch is taken for hanging is not what is measured. */
const patience = { slowMs: 1_000, hangingMs: 2_000, maxWaiting: 8 };
const WAITING = 4;

export async function measureFrozen(
  { files, rounds }: { readonly files: number; readonly rounds: number },
  shop: Workshop,
): Promise<Outcome> {
  const metadata = compile('metadata', shop);
  const union = await makeUnion({ sizesBytes: Array(4).fill(branchBytes), library: { create: 'rand', patience } });
  const samples: Record<string, Figures[]> = { [BEFORE]: [], [AT_FIRST]: [], [DURING]: [] };
  const work = async (name: string): Promise<Figures> => {
    const directory = join(union.mountpoint, name);
    mkdirSync(directory);
    const args = ['-n', String(files), '-c', '1', '-m', '1', '-p', phases.join(), directory];
    return JSON.parse((await promisify(execFile)(metadata, args, { signal: shop.signal })).stdout);
  };
  try {
    const directory = join(union.mountpoint, 'waited');
    mkdirSync(directory);
    for (let file = 0; file < 40; file++) writeFileSync(join(directory, `f${file}`), '');
    runOn('one CPU');
    for (let time = 1; time <= WARM_UPS; time++) await work(`warm${time}`);
    for (let round = 1; round <= rounds; round++) {
      shop.say(`round ${round} of ${rounds}`);
      samples[BEFORE]!.push(await work(`before${round}`));
      await whileFrozen(union, directory, async () => {
        samples[AT_FIRST]!.push(await work(`first${round}`));
        for (let time = 2; time <= WARM_UPS; time++) await work(`warm${round}-${time}`);
        samples[DURING]!.push(await work(`during${round}`));
      });
    }
  } finally {
    runOn('every CPU');
    await union.close();
  }
  const measured = Object.fromEntries(Object.entries(samples).map(([name, runs]) => [name, medians(runs)]));
  shop.say(`\n${formatTable(measured, bars)}\n`);
  return { verdicts: judge(measured, bars), samples };
}

/** With some who wait for the branch. */
async function whileFrozen<T>(union: TestUnion, directory: string, use: () => Promise<T>): Promise<T> {
  const branch = union.branches[0]!;
  const names = readdirSync(join(branch, 'waited')).slice(0, WAITING);
  const waiting: ChildProcess[] = [];
  const health = async () => (await healthOf(union))[0]!.health;
  freeze(branch);
  try {
    for (const name of names) waiting.push(spawn('touch', [join(directory, name)], { stdio: 'ignore' }));
    await eventually('the branch hangs', async () => (await health()) === 'hanging');
    return await use();
  } finally {
    thaw(branch);
    await eventually('the branch is back', async () => (await health()) === 'ok');
    await Promise.all(waiting.map(killed));
  }
}
