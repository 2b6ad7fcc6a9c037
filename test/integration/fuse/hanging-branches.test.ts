/**
 * One branch of three does not answer: frozen, so that changes wait, or served by a process that is stopped, so that everything
 * does. Who needs the branch waits, then has an error; everybody else goes on, and so does the status.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { eventually } from '../../support/eventually.ts';
import { freeze, thaw } from '../../support/faults.ts';
import { makeLoopBranches } from '../../support/loop-branches.ts';
import { killed } from '../../support/processes.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, mountUnion, type TestUnion, type UnionMount } from '../../support/union-mount.ts';
import { healthOf } from '../../support/union-status.ts';

const mebibyte = 1024 ** 2;
const patience = { slowMs: 1_000, hangingMs: 4_000, maxWaiting: 6 };

describe('a union with a branch that hangs', () => {
  const clients: ChildProcess[] = [];

  before(function () {
    needs(this, fuse, loop);
  });

  afterEach(async () => {
    await Promise.all(clients.splice(0).map(killed));
  });

  /** Does something that may wait for the branch; resolves to the exit code. */
  function run(program: string, ...args: string[]): Promise<number | null> {
    const client = spawn(program, args, { stdio: 'ignore' });
    clients.push(client);
    return once(client, 'exit').then(([code]) => code as number | null);
  }

  const untilHealth = (union: UnionMount, health: string) =>
    eventually(`the first branch is ${health}`, async () => (await healthOf(union))[0]!.health === health, 30_000);

  /** Does it in a process that can be ended when it hangs; answers what it prints. */
  function apart(script: string, ...args: readonly string[]): string {
    const code = `const fs = require('node:fs'); const [directory, ...args] = process.argv.slice(1);
      const at = (name) => directory + '/' + name;
      const codeOf = (action) => { try { action(); return 'none'; } catch (error) { return error.code; } };
      ${script}`;
    const { stdout, stderr, signal } = spawnSync(process.execPath, ['-e', code, ...args], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    return signal === null ? `${stdout}${stderr}`.trim() : `hung: ${signal}`;
  }

  /** New files, and looks at what is on other branches; as many as there are readers and more. */
  function expectOthersGoOn(directory: string, prefix: string, known: string): void {
    const script = `const [prefix, known] = args;
      for (let i = 0; i < 30; i++) {
        fs.writeFileSync(at(prefix + i), 'new');
        if (fs.readFileSync(at(known), 'utf8') !== known) console.log('another text');
      }
      for (const name of [known, prefix + 29]) if (!fs.readdirSync(directory).includes(name)) console.log(name, 'is missing');`;
    expect(apart(script, directory, prefix, known)).to.equal('');
  }

  const readIn = (directory: string, name: string) =>
    apart(`console.log(codeOf(() => fs.readFileSync(at(args[0]))))`, directory, name);
  const touchIn = (directory: string, name: string) =>
    apart(`console.log(codeOf(() => fs.utimesSync(at(args[0]), 1, 1)))`, directory, name);

  it('frozen: changes wait and succeed when it thaws, others go on meanwhile, and later ones have errors', async () => {
    const union = await makeUnion({
      sizesBytes: [64, 64, 64].map((size) => size * mebibyte),
      library: { create: 'rand', patience },
    });
    const directory = join(union.mountpoint, 'd');
    const [first] = union.branches as [string];
    let isFrozen = false;
    try {
      mkdirSync(directory);
      // So many that each branch has enough of them.
      for (let i = 0; i < 100; i++) writeFileSync(join(directory, `f${i}`), `f${i}`);
      const names = union.branches.map((branch) => readdirSync(join(branch, 'd')));
      const known = names[1]![0]!;
      freeze(first);
      isFrozen = true;
      const touched = names[0]!.slice(0, 3);
      const waiting = touched.map((name) => run('touch', '-d', '@7', join(directory, name)));
      await untilHealth(union, 'slow');
      expectOthersGoOn(directory, 'slow', known);
      // Reading is not held up by a frozen filesystem.
      expect(readIn(directory, names[0]![5]!)).to.equal('none');

      await untilHealth(union, 'hanging');
      expectOthersGoOn(directory, 'hanging', known);
      expect(touchIn(directory, names[0]![5]!)).to.equal('EIO');
      expect(readIn(directory, names[0]![6]!)).to.equal('none');
      expect(readdirSync(join(first, 'd')).filter((name) => /^(slow|hanging)/.test(name))).to.deep.equal([]);

      thaw(first);
      isFrozen = false;
      expect(await Promise.all(waiting)).to.deep.equal([0, 0, 0]);
      for (const name of touched) expect(statSync(join(first, 'd', name)).mtimeMs).to.equal(7_000);
      await untilHealth(union, 'ok');
      expect(touchIn(directory, names[0]![5]!)).to.equal('none');
    } finally {
      if (isFrozen) thaw(first);
      await union.close();
    }
  }).timeout(90_000);

  it('stopped: whatever needs it waits, or has an error, and nothing else does', async () => {
    const lower = makeLoopBranches([64 * mebibyte]);
    let inner: UnionMount | undefined;
    let outer: TestUnion | undefined;
    try {
      const place = join(lower.folder, 'inner');
      mkdirSync(place);
      inner = await mountUnion({ branches: lower.paths, mountpoint: place, library: {} });
      mkdirSync(join(place, 'd'));
      for (let i = 0; i < 20; i++) writeFileSync(join(place, 'd', `below${i}`), '');
      outer = await makeUnion({
        sizesBytes: [64, 64].map((size) => size * mebibyte),
        library: { create: 'rand', patience },
        first: place,
      });
      const directory = join(outer.mountpoint, 'd');
      mkdirSync(join(outer.branches[1]!, 'd'));
      writeFileSync(join(outer.branches[1]!, 'd/known'), 'known');
      expect(readdirSync(directory)).to.include.members(['known', 'below0']);
      expect(readFileSync(join(directory, 'known'), 'utf8')).to.equal('known');

      process.kill(inner.pid, 'SIGSTOP');
      const waiting = [0, 1, 2, 3].map((i) => run('cat', join(directory, `below${i}`)));
      await untilHealth(outer, 'slow');
      expectOthersGoOn(directory, 'slow', 'known');
      await untilHealth(outer, 'hanging');
      expectOthersGoOn(directory, 'hanging', 'known');
      expect(readIn(directory, 'below10')).to.equal('EIO');

      process.kill(inner.pid, 'SIGCONT');
      expect(await Promise.all(waiting)).to.deep.equal([0, 0, 0, 0]);
      await untilHealth(outer, 'ok');
      expect(readIn(directory, 'below10')).to.equal('none');
    } finally {
      if (inner !== undefined) process.kill(inner.pid, 'SIGCONT');
      await outer?.close();
      await inner?.close();
      lower.close();
    }
  }).timeout(90_000);
});
