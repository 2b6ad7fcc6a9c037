/** A server that may have few open files. */
import {
  closeSync,
  fchmodSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { descriptorsOf } from '../../support/descriptors.ts';
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

  it('works on, with more new files open than it may keep descriptors of', () => {
    const names = Array.from({ length: 300 }, (_, index) => join(union.mountpoint, `file ${index}`));
    const open = names.map((name) => openSync(name, 'wx'));
    try {
      expect(descriptorsOf(union.pid)).to.have.length.within(100, 140);
      for (const [index, fd] of open.entries()) {
        writeSync(fd, names[index]!);
        fchmodSync(fd, 0o640);
      }
      for (const name of names) expect(statSync(name).mode & 0o777).to.equal(0o640);
    } finally {
      for (const fd of open) closeSync(fd);
    }
    for (const name of names) expect(readFileSync(name, 'utf8')).to.equal(name);
  });
});
