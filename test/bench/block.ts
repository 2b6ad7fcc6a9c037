/**
 * `npm run bench:block`: fio's work on a plain file, and over NBD on qemu-nbd, nbdkit and our replica with one copy, all on the
 * same filesystem, in one run, round by round in turn; medians and ratios. README.md here says how to read it.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { eventually } from '../support/eventually.ts';
import { killed } from '../support/processes.ts';
import { program } from '../support/skip.ts';
import { warmMemory } from './machine.ts';
import { measureReplicas } from './replicas.ts';

const help = `usage: npm run bench:block -- [FLAG…]

  --only NAME,…    of raw, qemu-nbd, nbdkit, block, replicas (default all)
  --rounds N       rounds; the table has medians (default 3)
  --mebibytes N    size of the area that is worked on (default 512)
  --seconds N      length of each random phase (default 4)
  --dir DIRECTORY  where files lie (default the temporary directory)
  --volume N       mebibytes of the volume that is rebuilt (default 10240)
  --used N         mebibytes of it that are used (default 1024)
  --json FILE      write every sample
  --check          exit with 1 when a bar is missed
`;

const VOLUME_BYTES = 4 * 1024 ** 3;
const WARM_UP_AREAS = 2;
const unionCsi = fileURLToPath(new URL('../../bin/union-csi', import.meta.url));

interface Settings {
  readonly mebibytes: number;
  readonly seconds: number;
}

interface Phase {
  readonly name: string;
  readonly unit: 'MB/s' | 'k/s';
  /** Our figure as a share of another's. */
  readonly bar?: { readonly against: string; readonly ratio: number };
  readonly flags: (settings: Settings) => readonly string[];
}

/** A random phase ends with a flush, so that nobody is measured by what it has only promised. */
const random =
  (rw: string, ...more: readonly string[]) =>
  (settings: Settings) => [
    `--rw=${rw}`,
    '--bs=4k',
    '--iodepth=32',
    '--time_based',
    `--runtime=${settings.seconds}`,
    '--end_fsync=1',
    ...more,
  ];
const sequential = (rw: string) => () => [`--rw=${rw}`, '--bs=1M', '--iodepth=4', '--end_fsync=1'];

const phases: readonly Phase[] = [
  { name: 'sequential write', unit: 'MB/s', bar: { against: 'raw', ratio: 0.45 }, flags: sequential('write') },
  { name: 'sequential read', unit: 'MB/s', bar: { against: 'qemu-nbd', ratio: 0.8 }, flags: sequential('read') },
  { name: 'random write 4 KiB', unit: 'k/s', flags: random('randwrite') },
  { name: 'the same, flush per 8', unit: 'k/s', flags: random('randwrite', '--fsync=8') },
  { name: 'random read 4 KiB', unit: 'k/s', bar: { against: 'qemu-nbd', ratio: 0.8 }, flags: random('randread') },
];

interface Served {
  /** fio's flags that say what to work on. */
  readonly target: readonly string[];
  readonly close: () => Promise<void>;
}

interface Contender {
  readonly name: string;
  readonly needs: readonly string[];
  readonly serve: (folder: string) => Promise<Served>;
}

const contenders: readonly Contender[] = [
  {
    name: 'raw',
    needs: [],
    serve: async (folder) => {
      const file = sparseFile(folder);
      return { target: ['--ioengine=libaio', `--filename=${file}`, '--allow_file_create=0'], close: async () => {} };
    },
  },
  {
    name: 'qemu-nbd',
    needs: ['qemu-nbd'],
    serve: (folder) => {
      const server = [
        '-t',
        '-e',
        '8',
        '-f',
        'raw',
        '--cache=writeback',
        '--discard=unmap',
        '-k',
        join(folder, 'nbd.sock'),
      ];
      return overNbd(folder, 'qemu-nbd', [...server, sparseFile(folder)]);
    },
  },
  {
    name: 'nbdkit',
    needs: ['nbdkit'],
    serve: (folder) =>
      overNbd(folder, 'nbdkit', ['-f', '-U', join(folder, 'nbd.sock'), 'file', `file=${sparseFile(folder)}`]),
  },
  {
    name: 'block',
    needs: [],
    serve: (folder) => {
      const args = ['block-serve', '--size', String(VOLUME_BYTES), '--socket', join(folder, 'nbd.sock')];
      return overNbd(folder, unionCsi, [...args, join(folder, 'volume')]);
    },
  },
];

function sparseFile(folder: string): string {
  const path = join(folder, 'disk.img');
  const fd = openSync(path, 'w');
  ftruncateSync(fd, VOLUME_BYTES);
  closeSync(fd);
  return path;
}

async function overNbd(folder: string, command: string, args: readonly string[]): Promise<Served> {
  const child: ChildProcess = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const socket = join(folder, 'nbd.sock');
  await eventually(`${command} serves`, () => existsSync(socket), 60_000);
  return {
    target: ['--ioengine=nbd', `--uri=nbd+unix:///?socket=${socket}`],
    close: () => killed(child),
  };
}

/** Servers run for weeks: what they do in their first seconds, where JavaScript is compiled, is not counted. Of an area of its own. */
async function warmUp(served: Served, { mebibytes }: Settings): Promise<void> {
  const area = [`--offset=${mebibytes}M`, `--size=${WARM_UP_AREAS * mebibytes}M`];
  for (const rw of ['write', 'read']) {
    await promisify(execFile)('fio', ['--name=warm-up', ...area, ...served.target, ...sequential(rw)()]);
  }
}

async function measure(served: Served, phase: Phase, settings: Settings): Promise<number> {
  const flags = ['--name=bench', '--output-format=json', `--size=${settings.mebibytes}M`, '--randrepeat=1'];
  const { stdout } = await promisify(execFile)('fio', [...flags, ...served.target, ...phase.flags(settings)]);
  const [job] = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs;
  // With the final flush: a job's own figures leave it out.
  const { io_bytes: bytes, total_ios: operations } = phase.name.includes('read') ? job.read : job.write;
  const seconds = job.job_runtime / 1000;
  return phase.unit === 'MB/s' ? bytes / seconds / 1e6 : operations / seconds / 1e3;
}

type Samples = Record<string, Record<string, number[]>>;

interface Run {
  readonly chosen: readonly Contender[];
  readonly rounds: number;
  readonly settings: Settings;
  readonly directory: string;
  /** Filled as it goes: what was measured before something failed can still be told. */
  readonly samples: Samples;
}

async function run({ chosen, rounds, settings, directory, samples }: Run): Promise<void> {
  const folder = mkdtempSync(join(directory, 'union-bench-block-'));
  try {
    for (let round = 1; round <= rounds; round++) {
      for (const contender of chosen) {
        process.stdout.write(`round ${round} of ${rounds}: ${contender.name}\n`);
        const own = join(folder, contender.name);
        mkdirSync(own);
        const served = await contender.serve(own);
        try {
          await warmUp(served, settings);
          warmMemory();
          for (const phase of phases) {
            const figure = await measure(served, phase, settings);
            samples[phase.name] = { ...samples[phase.name] };
            samples[phase.name]![contender.name] = [...(samples[phase.name]![contender.name] ?? []), figure];
          }
        } finally {
          await served.close();
          rmSync(own, { recursive: true, force: true });
        }
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
}

/** Prints the table; true when no bar is missed. */
function report(samples: Samples, names: readonly string[]): boolean {
  const met: boolean[] = [];
  process.stdout.write(`\n${''.padEnd(30)}${names.map((name) => name.padStart(10)).join('')}  block compared\n`);
  for (const { name, unit, bar } of phases) {
    const figures = Object.entries(samples[name] ?? {}).map(([who, values]) => [who, median(values)] as const);
    const of = (who: string) => figures.find(([other]) => other === who)?.[1];
    const cells = names.map((who) => (of(who)?.toFixed(unit === 'MB/s' ? 0 : 1) ?? '–').padStart(10));
    const [own, other] = [of('block'), bar && of(bar.against)];
    let verdict = '';
    if (own !== undefined && bar !== undefined && other !== undefined) {
      met.push(own / other >= bar.ratio);
      verdict = `${(own / other).toFixed(2)} × ${bar.against} (${met.at(-1) ? 'bar' : 'below bar'} ${bar.ratio})`;
    }
    process.stdout.write(`${`${name} (${unit})`.padEnd(30)}${cells.join('')}  ${verdict}\n`);
  }
  return met.every(Boolean);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      rounds: { type: 'string', default: '3' },
      mebibytes: { type: 'string', default: '512' },
      seconds: { type: 'string', default: '4' },
      volume: { type: 'string', default: '10240' },
      used: { type: 'string', default: '1024' },
      dir: { type: 'string', default: tmpdir() },
      json: { type: 'string' },
      check: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const only = values.only?.split(',');
  const chosen = contenders.filter(({ name, needs }) => {
    if (only && !only.includes(name)) return false;
    const missing = [...needs, 'fio'].map((tool) => program(tool)()).find(Boolean);
    if (missing) process.stdout.write(`not measured: ${name}: ${missing}\n`);
    return missing === undefined;
  });
  const settings: Settings = { mebibytes: Number(values.mebibytes), seconds: Number(values.seconds) };
  const met: boolean[] = [];
  const samples: Samples = {};
  if (chosen.length > 0) {
    const names = chosen.map(({ name }) => name);
    try {
      await run({ chosen, rounds: Number(values.rounds), settings, directory: values.dir, samples });
    } finally {
      met.push(report(samples, names));
    }
  }
  if ((!only || only.includes('replicas')) && program('fio')() === undefined) {
    const sizes = { volumeMebibytes: Number(values.volume), usedMebibytes: Number(values.used) };
    met.push(await measureReplicas({ directory: values.dir, seconds: settings.seconds, ...sizes }));
  }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ settings, samples }, null, 2)}\n`);
  return values.check && !met.every(Boolean) ? 1 : 0;
}

process.exit(await main());
