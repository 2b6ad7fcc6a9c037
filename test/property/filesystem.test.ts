/**
 * A union does what a filesystem does: random operations by two processes on it and on a model in memory, with every answer
 * compared, and at the end the view with the model, and both with what is on the branches. Half of the runs begin in a
 * directory that the branches disagree about.
 *
 * A failure names its seed and all that was done; MODEL_SEED repeats it (the union chooses branches at random, so perhaps not at once),
 * MODEL_SHRINK=1 looks for the shortest run that fails.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { mountImage } from '../support/faults.ts';
import { imageOf, type LoopBranches, makeLoopBranches, unmountBranch } from '../support/loop-branches.ts';
import { ModelFilesystem } from '../support/model/filesystem.ts';
import { readAll } from '../support/model/reading.ts';
import { fuse, loop, needs } from '../support/skip.ts';
import { isLong } from '../support/torture.ts';
import { mountUnion, type UnionMount } from '../support/union-mount.ts';
import { checkBranches, checkView, type Held, placesOf, treeAt } from './agreement.ts';
import { Clients } from './clients.ts';
import { choose, type Step, steps } from './drafts.ts';
import { countHidden, HIDDEN_COUNT, plantDuplicates, plantModel } from './duplicates.ts';

const branchBytes = 256 * 1024 ** 2;
const stepsPerRun = 100;
/** At least: the steps of a run are as many as there may be, or half of that. */
const commands = isLong ? 10_000 : 400;
const seed = Number(process.env.MODEL_SEED ?? Date.now() % 1_000_000_000);
const shrinks = process.env.MODEL_SHRINK !== undefined;
const numRuns = Math.ceil((2 * commands) / stepsPerRun);
/** Directories with duplicates are there before the union is mounted. */
const planted = shrinks ? 1000 : numRuns;

for (const passthrough of [true, false]) {
  describe(`a union against a model, ${passthrough ? 'passthrough' : 'proxied'}`, function () {
    // Each answer of a client has a limit of its own; how many there are, and how busy the machine is, is no matter.
    this.timeout(0);
    let branches: LoopBranches;
    let union: UnionMount;
    let clients: Clients;
    /** What each run left, to be found again after a remount. */
    const runs = new Map<string, Pick<Held, 'view' | 'places' | 'isPlanted'>>();
    /** What the last run did, for whoever has to find out why it failed. */
    let trace: string[] = [];

    const mount = (mountpoint: string) =>
      mountUnion({ branches: branches.paths, mountpoint, library: { passthrough, create: 'rand' } });

    before(async function () {
      needs(this, fuse, loop);
      branches = makeLoopBranches(Array(3).fill(branchBytes));
      for (let run = 0; run < planted; run++) plantDuplicates(branches.paths, `planted${run}`);
      const mountpoint = join(branches.folder, 'union');
      mkdirSync(mountpoint);
      union = await mount(mountpoint);
      clients = new Clients();
    });

    after(async () => {
      await clients?.close();
      await union?.close().finally(() => branches.close());
    });

    async function run(name: string, isPlanted: boolean, list: readonly Step[]): Promise<void> {
      const root = join(union.mountpoint, name);
      if (!isPlanted) mkdirSync(root);
      await clients.begin(root);
      const model = new ModelFilesystem();
      if (isPlanted) plantModel(model);
      trace = [name];
      for (const [index, { client, draft }] of list.entries()) {
        const operation = choose(model, draft);
        const difference = await clients.compare(model, client, operation);
        trace.push(`${client} ${JSON.stringify(operation).replace(/(long ?){5,}/g, 'long…')}`);
        if (difference !== undefined) throw new Error(`step ${index}, ${trace.at(-1)}: ${difference}`);
      }
      const view = readAll(root);
      checkView(model, view);
      const places = placesOf(view, root);
      const trees = new Map(branches.paths.map((branch) => [branch, treeAt(join(branch, name))] as const));
      checkBranches({ view, places, trees, isPlanted });
      if (isPlanted) expect(countHidden(branches.paths, name), 'hidden files that are left').to.equal(HIDDEN_COUNT);
      // It says what it sets aside, which it may.
      expect(union.complaints().replace(/^hidden_file_set_aside .*\n/gm, '')).to.equal('');
      runs.set(name, { view, places, isPlanted });
    }

    it(`answers as the model, shows what it has, and keeps that on the branches, from seed ${seed}`, async () => {
      let count = 0;
      const property = fc.asyncProperty(fc.boolean(), steps(stepsPerRun), (isPlanted, list) => {
        const name = isPlanted ? `planted${count++}` : `run${count++}`;
        return run(name, isPlanted, list);
      });
      const { failed, counterexamplePath, errorInstance } = await fc.check(property, {
        seed,
        numRuns,
        endOnFailure: !shrinks,
      });
      if (failed) throw new Error(`seed ${seed}, path ${counterexamplePath}: ${errorInstance}\n${trace.join('\n')}`);
    });

    it('shows the same when it is mounted anew, inode numbers included, and leaves sound branches', async () => {
      await clients.close();
      await union.close();
      const again = await mount(union.mountpoint);
      try {
        for (const [name, { view }] of runs) {
          const seen = readAll(join(union.mountpoint, name));
          expect([...seen.keys()], name).to.deep.equal([...view.keys()]);
          for (const [path, whole] of view) expect(seen.get(path), `${name}/${path}`).to.deep.equal(whole);
        }
      } finally {
        await again.close();
      }
      for (const branch of branches.paths) {
        unmountBranch(branch);
        const check = spawnSync('e2fsck', ['-fn', imageOf(branch)], { encoding: 'utf8' });
        expect(check.status, check.stdout).to.equal(0);
      }
    });

    it('has on any branch, mounted alone, what it said is there', async () => {
      for (const branch of branches.paths) {
        mountImage(imageOf(branch), branch);
        const alone = await mountUnion({ branches: [branch], mountpoint: union.mountpoint, library: { passthrough } });
        try {
          for (const [name, held] of runs)
            checkBranches({ ...held, trees: new Map([[branch, treeAt(join(alone.mountpoint, name))]]) });
        } finally {
          await alone.close();
        }
      }
    });
  });
}
