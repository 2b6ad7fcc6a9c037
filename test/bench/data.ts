/**
 * What the union adds to reading and writing a file: the same file through the union and on its branch, in turn (beside.c), on one
 * CPU. Two files, or two filesystems, differ by more than that: by the memory and the buffers that they happened to get. What the kernel
 * adds, whoever serves, is what the least server (least.ts) adds.
 */
import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type ContenderName, contenders } from './contenders.ts';
import { runOn } from './machine.ts';
import { atLeast, dataPhases, formatTable, median, type Phase, rows } from './table.ts';
import { compile, mountOver, type Outcome, undoAll, type Workshop } from './workload.ts';

const BAR = 0.95;
/** A turn takes less than a second, so that there can be many. */
const TURNS_PER_ROUND = 3;
const [THROUGH, BESIDE] = ['union', 'the same file on its branch'];

interface DataScale {
  readonly rounds: number;
  readonly mebibytes: number;
}

type Samples = Readonly<Record<Phase, { readonly upper: readonly number[]; readonly lower: readonly number[] }>>;

export async function measureData(scale: DataScale, shop: Workshop): Promise<Outcome> {
  const samples = {
    union: await measureBeside('union', 4, scale, shop),
    least: await measureBeside('least', 4, scale, shop),
  };
  shop.say(`\n${formatTable(mediansOf(samples.union), [])}\n`);
  const verdicts = dataPhases.map((phase) => {
    const [reached, limit] = [share(phase, samples.union), share(phase, samples.least)];
    return atLeast(`${rows[phase].title}: ${THROUGH}`, reached, BAR, `× ${BESIDE}`, limit);
  });
  return { verdicts, samples };
}

/** Whether it is the same for a union of many branches as for one of one: that shall be at least `bar` times as fast, files apart. */
export async function measureFlatData(
  branches: number,
  bar: number,
  scale: DataScale,
  shop: Workshop,
): Promise<Outcome> {
  const samples = {
    one: await measureBeside('union', 1, scale, shop),
    many: await measureBeside('union', branches, scale, shop),
  };
  const verdicts = dataPhases.map((phase) => {
    const reached = share(phase, samples.many) / share(phase, samples.one);
    return atLeast(`${rows[phase].title}: ${branches} branches`, reached, bar, '× 1 branch, each beside its file');
  });
  return { verdicts, samples };
}

async function measureBeside(
  name: ContenderName,
  count: number,
  { rounds, mebibytes }: DataScale,
  shop: Workshop,
): Promise<Samples> {
  const beside = compile('beside', shop);
  shop.say(`file data: ${name} of ${count} ${count === 1 ? 'branch' : 'branches'}`);
  const undo: (() => Promise<void> | void)[] = [() => runOn('every CPU')];
  try {
    runOn('one CPU');
    const sizesBytes = Array(count).fill((mebibytes * 2 + 256) * 1024 ** 2);
    const contender = contenders.find((known) => known.name === name)!;
    const { mountpoint, branches } = await mountOver(sizesBytes, contender, { cpus: 'one CPU', undo });
    const upper = join(mountpoint, 'large');
    writeFileSync(upper, '');
    const lower = branches.map((branch) => join(branch, 'large')).find((path) => existsSync(path))!;
    const args = ['-m', mebibytes, '-t', rounds * TURNS_PER_ROUND, upper, lower].map(String);
    return JSON.parse((await promisify(execFile)(beside, args, { signal: shop.signal })).stdout);
  } finally {
    await undoAll(undo, shop.signal);
  }
}

function mediansOf(samples: Samples) {
  const side = (which: 'upper' | 'lower') =>
    Object.fromEntries(dataPhases.map((phase) => [phase, median(samples[phase][which])]));
  return { [BESIDE]: side('lower'), [THROUGH]: side('upper') };
}

/** Of the speed beside the union what is left through it. */
function share(phase: Phase, samples: Samples): number {
  const { upper, lower } = samples[phase];
  return median(upper.map((speed, turn) => speed / lower[turn]!));
}
