/**
 * `npm run bench`: the same work on plain ext4, mergerfs, a union over fuse-native, the null server and our union, in one
 * run, round by round in turn, as medians and ratios. README.md here says how to read it.
 */
import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { type LoopBranches, makeLoopBranches, runProgram } from '../support/loop-branches.ts';
import { fuse, loop } from '../support/skip.ts';
import { type Contender, contenderNames, contenders, type Mounted } from './contenders.ts';
import { type Figures, formatTable, judge, type Medians, medians } from './table.ts';

const help = `usage: npm run bench -- [FLAG…]

  --only NAME,…     of ${contenderNames.join(', ')} (default all)
  --rounds N        rounds; the table has medians (default 5)
  --clients N       processes that work at the same time (default 1)
  --branches N      branches of each union (default 4)
  --files N         files of the metadata phases (default 10000)
  --mebibytes N     size of the large file (default 512)
  --unpinned        use every CPU; else clients and servers share CPU 0
  --quick           one round over 2000 files and 64 MiB: a smoke test, no measurement
  --json FILE       write every sample
  --check           exit with 1 when the union is below a bar
`;

interface Plan {
  readonly chosen: readonly Contender[];
  readonly rounds: number;
  readonly clients: number;
  readonly branches: number;
  readonly files: number;
  readonly mebibytes: number;
  readonly pinned: boolean;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      rounds: { type: 'string' },
      clients: { type: 'string', default: '1' },
      branches: { type: 'string', default: '4' },
      files: { type: 'string' },
      mebibytes: { type: 'string' },
      unpinned: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
      check: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const only = values.only?.split(',') ?? contenderNames;
  const unknown = only.find((name) => !contenderNames.some((known) => known === name));
  if (unknown !== undefined) throw new Error(`unknown contender ${unknown}; known are ${contenderNames.join(', ')}`);
  const plan: Plan = {
    chosen: contenders.filter(({ name }) => only.includes(name)),
    rounds: count(values.rounds ?? (values.quick ? '1' : '5'), 'rounds'),
    clients: count(values.clients, 'clients'),
    branches: count(values.branches, 'branches'),
    files: count(values.files ?? (values.quick ? '2000' : '10000'), 'files'),
    mebibytes: count(values.mebibytes ?? (values.quick ? '64' : '512'), 'mebibytes'),
    pinned: !values.unpinned,
  };
  const reason = fuse() ?? loop();
  if (reason !== undefined) throw new Error(`the benchmark ${reason}`);
  const samples = await measure(plan);
  const measured: Medians = Object.fromEntries(Object.entries(samples).map(([name, runs]) => [name, medians(runs)]));
  process.stdout.write(`\n${formatTable(measured)}\n`);
  if (values.json !== undefined) {
    const { chosen, ...settings } = plan;
    const machine = { kernel: release(), cpus: availableParallelism() };
    writeFileSync(values.json, `${JSON.stringify({ machine, settings, samples, bars: judge(measured) }, null, 2)}\n`);
  }
  const below = judge(measured).filter(({ met }) => !met);
  return values.check && below.length > 0 ? 1 : 0;
}

function count(text: string, flag: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${flag} ${text} is not a count`);
  return value;
}

async function measure(plan: Plan): Promise<Record<string, Figures[]>> {
  // Every process started from here on inherits it, the servers' threads too.
  if (plan.pinned) runProgram('taskset', ['--all-tasks', '--pid', '--cpu-list', '0', String(process.pid)]);
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => stop.abort(new Error(`ended by ${signal}`)));

  const folder = mkdtempSync(join(tmpdir(), 'union-bench-'));
  const undo: (() => Promise<void> | void)[] = [() => rmSync(folder, { recursive: true, force: true })];
  const samples: Record<string, Figures[]> = {};
  try {
    const [metadata, nullServer] = ['metadata', 'null'].map((name) => compile(name, folder)) as [string, string];
    const running: { contender: Contender; mounted: Mounted }[] = [];
    for (const contender of plan.chosen) {
      const missing = contender.missing();
      if (missing !== undefined) {
        process.stdout.write(`not measured: ${contender.name}: ${missing}\n`);
        continue;
      }
      const branches = branchesFor(plan);
      undo.push(() => branches.close());
      const mountpoint = join(branches.folder, 'mount');
      mkdirSync(mountpoint);
      const mounted = await contender.mount({ branches: branches.paths, mountpoint, nullServer });
      undo.push(() => mounted.close());
      running.push({ contender, mounted });
      samples[contender.name] = [];
    }
    for (let round = 1; round <= plan.rounds; round++) {
      for (const { contender, mounted } of running) {
        process.stdout.write(`round ${round} of ${plan.rounds}: ${contender.name}\n`);
        samples[contender.name]!.push(await work(metadata, plan, contender, mounted.mountpoint, stop.signal));
      }
    }
    return samples;
  } finally {
    for (const step of undo.reverse()) await step();
  }
}

function branchesFor({ branches, mebibytes, clients, files }: Plan): LoopBranches {
  // Any one branch may get all of the large files, and small files take a block each.
  const mebibytesNeeded = (mebibytes * 2 + files / 64) * clients + 256;
  return makeLoopBranches(Array(branches).fill(Math.ceil(mebibytesNeeded) * 1024 ** 2));
}

function compile(name: string, folder: string): string {
  const binary = join(folder, name);
  runProgram('cc', ['-O2', '-pthread', '-o', binary, fileURLToPath(new URL(`${name}.c`, import.meta.url))]);
  return binary;
}

async function work(
  metadata: string,
  plan: Plan,
  contender: Contender,
  directory: string,
  signal: AbortSignal,
): Promise<Figures> {
  // The null server has no files: only names that are missing, in its root.
  const part = contender.name === 'null' ? ['-d', '0', '-p', 'missing_cold,missing_warm'] : [];
  const args = ['-n', plan.files, '-c', plan.clients, '-m', plan.mebibytes, ...part, directory].map(String);
  spawnSync('sync');
  const { stdout } = await promisify(execFile)(metadata, args, { signal });
  return JSON.parse(stdout);
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.exit(1);
  },
);
