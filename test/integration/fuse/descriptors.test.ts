/** A server that may have few open files. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { fuse, loop, needs, program } from '../../support/skip.ts';
import { makeUnion, type TestUnion } from '../../support/union-mount.ts';

const mebibyte = 1024 ** 2;

describe('a union whose server may have few files open', () => {
  let union: TestUnion;

  before(async function () {
    needs(this, fuse, loop, program('prlimit'));
    union = await makeUnion({
      sizesBytes: [32 * mebibyte, 32 * mebibyte],
      openFiles: 160,
      options: ['category.create=ff', 'func.mkdir=all', 'minfreespace=1M'],
    });
  });

  after(async () => {
    await union?.close();
  });

  it('works on, in more directories than it can keep open', () => {
    const names = Array.from({ length: 100 }, (_, index) => `directory ${index}`);
    for (const name of names) {
      mkdirSync(join(union.mountpoint, name));
      writeFileSync(join(union.mountpoint, name, 'file'), name);
    }
    for (const name of names) {
      expect(readFileSync(join(union.mountpoint, name, 'file'), 'utf8')).to.equal(name);
      expect(statSync(join(union.mountpoint, name)).nlink).to.equal(2);
      expect(readdirSync(join(union.mountpoint, name))).to.deep.equal(['file']);
      for (const branch of union.branches) expect(statSync(join(branch, name)).isDirectory()).to.equal(true);
    }
  });
});
