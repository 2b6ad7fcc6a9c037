/**
 * What the union adds to reading and writing a file: the same file through the union and on its branch, in turn (beside.c), on one
 * CPU. Two files, or two filesystems, differ by more than that: by the memory and the buffers that they happened to get.
 */
import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { makeUnion } from '../support/union-mount.ts';
import { runOn } from './machine.ts';
import { atLeast, dataPhases, formatTable, median, type Phase, rows } from './table.ts';
import { compile, type Outcome, type Workshop } from './workload.ts';

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
  runOn('one CPU');
  try {
    const samples = await measureBeside(scale, shop);
    shop.say(`\n${formatTable(mediansOf(samples), [])}\n`);
    return { verdicts: dataPhases.map((phase) => verdictOn(phase, samples)), samples };
  } finally {
    runOn('every CPU');
  }
}

async function measureBeside({ rounds, mebibytes }: DataScale, shop: Workshop): Promise<Samples> {
  const beside = compile('beside', shop);
  const branchBytes = (mebibytes * 2 + 256) * 1024 ** 2;
  const options = ['category.create=rand', 'minfreespace=1M'];
  const union = await makeUnion({ sizesBytes: Array(4).fill(branchBytes), options });
  try {
    const upper = join(union.mountpoint, 'large');
    writeFileSync(upper, '');
    const lower = union.branches.map((branch) => join(branch, 'large')).find((path) => existsSync(path))!;
    const args = ['-m', mebibytes, '-t', rounds * TURNS_PER_ROUND, upper, lower].map(String);
    return JSON.parse((await promisify(execFile)(beside, args, { signal: shop.signal })).stdout);
  } finally {
    await union.close();
  }
}

function mediansOf(samples: Samples) {
  const side = (which: 'upper' | 'lower') =>
    Object.fromEntries(dataPhases.map((phase) => [phase, median(samples[phase][which])]));
  return { [BESIDE]: side('lower'), [THROUGH]: side('upper') };
}

function verdictOn(phase: Phase, samples: Samples) {
  const { upper, lower } = samples[phase];
  const ratios = upper.map((speed, turn) => speed / lower[turn]!);
  return atLeast(`${rows[phase].title}: ${THROUGH}`, median(ratios), BAR, `× ${BESIDE}`);
}
