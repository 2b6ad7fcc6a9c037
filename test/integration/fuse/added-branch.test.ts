/** A branch with files is added while the union is used: they show at once, whatever was known of their names before. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, type TestUnion } from '../../support/union-mount.ts';

const mebibyte = 1024 ** 2;
const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));

for (const cache of ['exclusive', 'shared'] as const) {
  describe(`a branch with files, added with cache=${cache}`, () => {
    let union: TestUnion | undefined;

    before(async function () {
      needs(this, fuse, loop);
      union = await makeUnion({
        sizesBytes: [32 * mebibyte, 32 * mebibyte],
        options: [`cache=${cache}`, 'category.create=ff', 'minfreespace=1M'],
      });
    });

    after(async () => {
      await union?.close();
    });

    it('shows below directories that were known completely, and hides what earlier branches have', () => {
      const { mountpoint, folder } = union!;
      const path = (name: string) => join(mountpoint, name);
      mkdirSync(path('known/deep'), { recursive: true });
      writeFileSync(path('known/both'), 'first');
      // Learned by heart, by us and by the kernel: what is there, and what is not.
      for (const name of ['new', 'known/new', 'known/deep/new', 'other', 'known/other']) {
        expect(existsSync(path(name))).to.equal(false);
      }
      expect(readdirSync(path('known')).sort()).to.deep.equal(['both', 'deep']);
      expect(readdirSync(path('.'))).to.deep.equal(['known']);

      const added = join(folder, 'added');
      mkdirSync(join(added, 'known/deep'), { recursive: true });
      mkdirSync(join(added, 'other/below'), { recursive: true });
      for (const name of ['new', 'known/new', 'known/both', 'known/deep/new', 'other/below/new'])
        writeFileSync(join(added, name), 'added');
      const { status, stderr } = spawnSync(program, ['branch', 'add', mountpoint, added], { encoding: 'utf8' });
      expect([status, stderr]).to.deep.equal([0, '']);

      for (const name of ['new', 'known/new', 'known/deep/new', 'other/below/new'])
        expect(readFileSync(path(name), 'utf8')).to.equal('added');
      expect(readFileSync(path('known/both'), 'utf8')).to.equal('first');
      expect(readdirSync(path('.')).sort()).to.deep.equal(['known', 'new', 'other']);
      expect(readdirSync(path('known')).sort()).to.deep.equal(['both', 'deep', 'new']);
      expect(statSync(path('known/deep')).isDirectory()).to.equal(true);
      writeFileSync(path('known/after'), '');
      expect(readdirSync(path('known')).sort()).to.deep.equal(['after', 'both', 'deep', 'new']);
    });
  });
}
