/**
 * Real work over a union whose server and keeper are killed at random: nothing may fail, happen twice or be lost, and nothing may
 * leak. CHAOS_KILLS=200, which is `npm run test:chaos`, is the long form. It prints how long applications waited.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { findTool } from '../../posix/tools.ts';
import { closeBackingIds, deviceOf } from '../../support/backing-ids.ts';
import { descriptorsOf, type OpenDescriptor } from '../../support/descriptors.ts';
import { KeptMount } from '../../support/kept-mount.ts';
import { type LoopBranches, makeLoopBranches } from '../../support/loop-branches.ts';
import { until } from '../../support/processes.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { describeTree, mergeTrees, readTree } from '../../support/tree.ts';

const kills = Number(process.env.CHAOS_KILLS ?? 5);
const mebibyte = 1024 ** 2;
const client = fileURLToPath(new URL('../../support/chaos-client.ts', import.meta.url));
const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));
const sources = fileURLToPath(new URL('../../../fuse', import.meta.url));
const operations = fileURLToPath(new URL('../../posix/fsx.toml', import.meta.url));
const isLong = kills >= 50;
const KEEPER_ONE_IN = 5;

/** Programs that others wrote, over and over, until the file `stop` is there. */
const loops: Readonly<Record<string, string>> = {
  git: `git init -q r && cd r && n=0 && until [ $n -gt 0 -a -e "$STOP" ]; do n=$((n+1)); echo $n > f$((n%7)); git add -A;
        git -c user.name=a -c user.email=a@b -c gc.auto=0 commit -qm $n; done; git fsck --strict 2>&1 && [ $(git rev-list --count HEAD) = $n ]`,
  ...(isLong && {
    fsx: `n=0; while [ ! -e "$STOP" ]; do n=$((n+1)); "$FSX" -q -N 300 -S $n -f "$FSX_OPERATIONS" -P "$(dirname "$STOP")" f; done`,
  }),
  tar: `while [ ! -e "$STOP" ]; do tar cf a.tar -C "$SOURCES" . && mkdir d && tar xf a.tar -C d && diff -r "$SOURCES" d && rm -r d; done`,
};

interface Client {
  readonly name: string;
  readonly child: ChildProcess;
  output: string;
}

for (const cache of isLong ? (['exclusive', 'shared'] as const) : (['exclusive'] as const))
  describe(`work over a union, cache=${cache}, of which ${kills} servers and keepers are killed`, function () {
    this.timeout(120_000 + kills * 10_000);
    let branches: LoopBranches | undefined;
    let union: KeptMount | undefined;
    const clients: Client[] = [];

    before(function () {
      needs(this, fuse, loop);
      branches = makeLoopBranches([96, 96, 96].map((size) => size * mebibyte));
      const mountpoint = join(branches.folder, 'union');
      mkdirSync(mountpoint);
      union = new KeptMount(branches.paths, mountpoint, ['keep=1000000', `cache=${cache}`, 'category.create=rand']);
    });

    after(async () => {
      for (const { child } of clients) child.kill('SIGKILL');
      await union?.close();
      branches?.close();
    });

    const begin = (name: string, command: string, args: readonly string[]) => {
      const cwd = join(union!.mountpoint, name);
      mkdirSync(cwd);
      const env = {
        ...process.env,
        STOP: join(branches!.folder, 'stop'),
        SOURCES: sources,
        FSX: isLong ? findTool('fsx', 'cargo install fsx --version 0.3.2 --locked') : '',
        FSX_OPERATIONS: operations,
      };
      const child = spawn(
        command,
        args.map((arg) => arg.replace('FOLDER', cwd)),
        { cwd, env },
      );
      const running: Client = { name, child, output: '' };
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text: string) => {
          running.output += text;
        });
      clients.push(running);
    };

    it('goes on', async () => {
      const seed = Date.now() % 1_000_000;
      for (const kind of ['storm', 'append', 'sqlite'])
        begin(kind, process.execPath, ['--disable-warning=ExperimentalWarning', client, kind, 'FOLDER', `${seed}`]);
      begin('storm2', process.execPath, [client, 'storm', 'FOLDER', `${seed + 1}`]);
      for (const [name, script] of Object.entries(loops)) begin(name, 'bash', ['-ec', script]);
      const pauses = await killAtRandom();
      writeFileSync(join(branches!.folder, 'stop'), '');
      for (const { child } of clients) child.stdin!.end();
      const codes = await Promise.all(
        clients.map(async ({ child }) => child.exitCode ?? (await once(child, 'close'))[0]),
      );
      const said = clients.map(({ name, output }, index) => (codes[index] === 0 ? '' : `${name}: ${output}`)).join('');
      expect(said, `seed ${seed}`).to.equal('');
      const { loaded, loading } = pauses;
      console.log(
        `    pause, ms: ${summary(loaded)}; if the next server was loading: ${summary(loading)}; seed ${seed}`,
      );
    });

    it('leaves on the branches what the union shows', () => {
      const seen = describeTree(readTree(union!.mountpoint));
      expect(seen).to.deep.equal(describeTree(mergeTrees(branches!.paths.map(readTree))));
    });

    it('leaves no handle and no inode behind', async () => {
      for (const { name } of clients) rmSync(join(union!.mountpoint, name), { recursive: true });
      const known = () => {
        const { stdout } = spawnSync(program, ['status', '--json', union!.mountpoint], { encoding: 'utf8' });
        const { openHandles, knownInodes } = JSON.parse(stdout);
        return { openHandles, knownInodes };
      };
      // The kernel forgets in its own time.
      await until(() => known().knownInodes === 1).catch(() => {});
      expect(known()).to.deep.equal({ openHandles: 0, knownInodes: 1 });
    });

    it('leaves no descriptor and no backing file behind', () => {
      const folder = `${branches!.folder}/`;
      for (const { pid } of union!.processes()) {
        const open = descriptorsOf(pid);
        // Those of directories are kept for the next operation there.
        const isFile = ({ link }: OpenDescriptor) => statSync(link, { throwIfNoEntry: false })?.isDirectory() === false;
        const files = open.filter((descriptor) => descriptor.target.startsWith(folder) && isFile(descriptor));
        expect(files.map(({ target }) => target).join(' '), `process ${pid}`).to.equal('');
        const devices = open.filter(({ target }) => target === '/dev/fuse');
        expect(devices.length).to.equal(Math.min(4, availableParallelism()));
      }
      const device = deviceOf(union!.servers()[0]!.pid);
      expect(closeBackingIds(device)).to.deep.equal([]);
      closeSync(device);
    });

    /** Kills, and answers for how long a client had to wait each time. */
    /** Kills; every other time as soon as there is a next server, which has to load first, else when that has loaded. */
    async function killAtRandom(): Promise<Pauses> {
      const pauses: Pauses = { loaded: [], loading: [] };
      for (let kill = 0; kill < kills; kill++) {
        await until(() => union!.servers().length === 2 && union!.keepers().length === 1);
        const kind = kill % 2 === 0 ? 'loaded' : 'loading';
        if (kind === 'loaded') await union!.nextHasLoaded();
        await delay(Math.random() * 300);
        const isKeeper = kill % KEEPER_ONE_IN === KEEPER_ONE_IN - 1;
        const victim = isKeeper ? union!.keepers()[0] : union!.servers()[0];
        if (victim === undefined) continue;
        const begun = performance.now();
        process.kill(victim.pid, 'SIGKILL');
        await stat(join(union!.mountpoint, `none-${kill}`)).catch(() => {});
        if (!isKeeper) pauses[kind].push(performance.now() - begun);
        const failed = clients.find(({ child }) => child.exitCode !== null && child.exitCode !== 0);
        if (failed !== undefined) throw new Error(`${failed.name}, after ${kill + 1} kills: ${failed.output}`);
      }
      return pauses;
    }
  });

interface Pauses {
  readonly loaded: number[];
  readonly loading: number[];
}

function summary(pauses: readonly number[]): string {
  if (pauses.length === 0) return 'none';
  const sorted = [...pauses].sort((one, other) => one - other);
  return `median ${sorted[sorted.length >> 1]!.toFixed(0)}, most ${sorted.at(-1)!.toFixed(0)}`;
}
