/** A server that follows another one, where a branch has gone meanwhile: the mount goes on without it, until it is back. */
import { mkdirSync, readdirSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { eventually } from '../../support/eventually.ts';
import { KeptUnion } from '../../support/kept-union.ts';
import { runProgram } from '../../support/loop-branches.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { healthOf } from '../../support/union-status.ts';

const branchBytes = 32 * 1024 ** 2;
const FILES = 20;

for (const volumeId of [undefined, 'volume'])
  describe(`a server that finds a branch gone, ${volumeId === undefined ? 'without' : 'with'} a record in it`, () => {
    let union: KeptUnion;

    before(function () {
      needs(this, fuse, loop);
    });

    afterEach(() => union.close());

    it('serves the others, leaves alone what is in its place, and takes it back', async () => {
      const options = volumeId === undefined ? {} : { volumeId };
      union = new KeptUnion({ sizesBytes: [branchBytes, branchBytes], create: 'rand', ...options });
      const at = (name: string) => join(union.mountpoint, name);
      await union.start();
      for (let file = 0; file < FILES; file++) await writeFile(at(`f${file}`), `${file}`);
      const [first, second] = union.branches as [string, string];
      const filesOf = (branch: string) => readdirSync(branch).filter((name) => name.startsWith('f'));
      const [lost, left] = [filesOf(first), filesOf(second)];
      await union.kill();
      const elsewhere = join(union.folder, 'elsewhere');
      mkdirSync(elsewhere);
      runProgram('mount', ['--bind', first, elsewhere]);
      runProgram('umount', ['--lazy', first]);
      await union.start();
      const codes = await Promise.all(lost.map((name) => readFile(at(name)).catch(({ code }) => code)));
      expect([...new Set(codes)]).to.deep.equal(['EIO']);
      for (const name of left) expect(await readFile(at(name), 'utf8')).to.equal(name.slice(1));
      for (let file = 0; file < FILES; file++) await writeFile(at(`new${file}`), 'new');
      expect(readdirSync(first), 'the directory below').to.deep.equal([]);
      const health = async () => (await healthOf({ pid: union.pid, output: () => union.answers }))[0]!.health;
      expect(await health()).to.equal('gone');

      runProgram('mount', ['--bind', elsewhere, first]);
      await eventually('the branch is back', async () => (await health()) === 'ok');
      for (const name of lost) expect(await readFile(at(name), 'utf8')).to.equal(name.slice(1));
    }).timeout(60_000);
  });
