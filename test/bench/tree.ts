/**
 * What programs do with many small files: unpacking a source tree, and `git status` in it after its names and attributes
 * have left the kernel. On one CPU, then on all; the union and mergerfs in turn.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runProgram } from '../support/loop-branches.ts';
import { contenders } from './contenders.ts';
import { runOn } from './machine.ts';
import { atLeast, median } from './table.ts';
import { mountOver, type Outcome, undoAll, WARM_UPS, type Workshop } from './workload.ts';

const FILES_IN_FOLDER = 40;
const BRANCHES = 4;
const BAR = 1.5;
const names = ['mergerfs', 'union'] as const;
type Name = (typeof names)[number];
type Task = 'untar' | 'git status';

type Seconds = Record<Task, Record<Name, number[]>>;

interface TreeScale {
  readonly rounds: number;
  readonly files: number;
}

export async function measureTree(scale: TreeScale, shop: Workshop): Promise<Outcome> {
  for (const name of names) {
    const missing = contenders.find((known) => known.name === name)!.missing();
    if (missing === undefined) continue;
    shop.say(`not measured: tree: ${missing}`);
    return { verdicts: [], samples: {} };
  }
  const archive = makeArchive(scale.files, shop.folder);
  const samples: Record<string, Seconds> = {};
  for (const cpus of ['one CPU', 'every CPU'] as const)
    try {
      runOn(cpus);
      samples[cpus] = await compare(cpus, { ...scale, archive }, shop);
    } finally {
      runOn('every CPU');
    }
  const verdicts = Object.entries(samples).flatMap(([cpus, seconds]) =>
    (['untar', 'git status'] as const).map((task) => {
      const ratio = median(seconds[task].mergerfs) / median(seconds[task].union);
      return atLeast(`${task} of ${scale.files} files, ${cpus}: union`, ratio, BAR, '× mergerfs');
    }),
  );
  return { verdicts, samples };
}

async function compare(
  cpus: 'one CPU' | 'every CPU',
  { rounds, files, archive }: TreeScale & { readonly archive: string },
  shop: Workshop,
): Promise<Seconds> {
  const seconds: Seconds = { untar: { mergerfs: [], union: [] }, 'git status': { mergerfs: [], union: [] } };
  const undo: (() => Promise<void> | void)[] = [];
  try {
    const mounted: [Name, string][] = [];
    for (const name of names) {
      const sizesBytes = Array(BRANCHES).fill((files * 6144 + 256 * 1024 ** 2) | 0);
      const contender = contenders.find((known) => known.name === name)!;
      const { mountpoint } = await mountOver(sizesBytes, contender, { cpus, undo });
      mounted.push([name, mountpoint]);
    }
    for (let round = rounds > 1 ? 1 - WARM_UPS : 1; round <= rounds; round++) {
      for (const [name, mountpoint] of mounted) {
        shop.signal.throwIfAborted();
        const took = workIn(mountpoint, archive);
        const which = round > 0 ? `round ${round} of ${rounds}` : 'warming up';
        const times = `untar ${took.untar.toFixed(2)} s, git status ${took['git status'].toFixed(2)} s`;
        shop.say(`${cpus}, ${which}: ${name}: ${times}`);
        if (round <= 0) continue;
        for (const task of ['untar', 'git status'] as const) seconds[task][name].push(took[task]);
      }
    }
  } finally {
    await undoAll(undo, shop.signal);
  }
  return seconds;
}

function workIn(mountpoint: string, archive: string): Record<Task, number> {
  const tree = join(mountpoint, 'tree');
  mkdirSync(tree);
  settle(1);
  const untar = timed(() => runProgram('tar', ['-xf', archive, '-C', tree]));
  // The index that was unpacked describes other inodes; git learns the new ones once.
  const status = () => runProgram('git', ['-c', 'safe.directory=*', 'status', '--porcelain'], { cwd: tree });
  if (status() !== '') throw new Error(`the tree unpacked below ${mountpoint} is not what was packed`);
  settle(2);
  const took = { untar, 'git status': timed(status) };
  rmSync(tree, { recursive: true });
  return took;
}

function timed(work: () => unknown): number {
  const begin = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - begin) / 1e9;
}

/** Writes what is dirty; 2: drops names and attributes from the kernel too. */
function settle(level: 1 | 2): void {
  spawnSync('sync');
  if (level === 2) writeFileSync('/proc/sys/vm/drop_caches', '2\n');
}

/** A tar file of a git repository whose tree has this many files, of 1 to 4 KiB. */
function makeArchive(files: number, folder: string): string {
  const repository = join(folder, 'repository');
  const archive = join(folder, 'tree.tar');
  runProgram('git', ['init', '-q', repository]);
  const { status, stderr } = spawnSync('git', ['-C', repository, 'fast-import', '--quiet'], {
    input: importStream(files),
    stdio: ['pipe', 'ignore', 'pipe'],
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`git fast-import ended with ${status}: ${stderr}`);
  runProgram('git', ['-C', repository, 'reset', '-q', '--hard', 'tree']);
  runProgram('tar', ['--format=posix', '-cf', archive, '-C', repository, '.']);
  rmSync(repository, { recursive: true });
  return archive;
}

/** The language of git-fast-import(1): one commit. */
function importStream(files: number): string {
  const parts = ['commit refs/heads/tree\ncommitter bench <bench@example.org> 1700000000 +0000\ndata 4\ntree\n'];
  for (let i = 0; i < files; i++) {
    const folder = Math.floor(i / FILES_IN_FOLDER);
    const path = `part${Math.floor(folder / 50)}/module${folder % 50}/source${i}.txt`;
    const content = `line ${i} of a file\n`.repeat(50 + (i % 150));
    parts.push(`M 644 inline ${path}\ndata ${content.length}\n${content}\n`);
  }
  return parts.join('');
}
