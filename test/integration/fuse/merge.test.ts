/** What a union shows of branches that have the same names, and what becomes of what it hides. */
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { runProgram } from '../../support/loop-branches.ts';
import { getXattr, numbersIn, removeXattr, setXattr } from '../../support/posix.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, type TestUnion } from '../../support/union-mount.ts';

const mebibyte = 1024 ** 2;

/** What a branch holds under `.union/` of files that were hidden by others of the same name. */
const setAside = (branch: string) =>
  existsSync(join(branch, '.union'))
    ? readdirSync(join(branch, '.union'))
        .filter((name) => name.startsWith('hidden-'))
        .map((name) => readFileSync(join(branch, '.union', name), 'utf8'))
    : [];

describe('a merged view', () => {
  let union: TestUnion | undefined;

  before(function () {
    needs(this, fuse, loop);
  });

  afterEach(async () => {
    await union?.close();
    union = undefined;
  });

  const make = async (prepare: (a: string, b: string, c: string) => void) => {
    union = await makeUnion({
      sizesBytes: [32 * mebibyte, 32 * mebibyte, 32 * mebibyte],
      options: ['category.create=ff', 'minfreespace=1M'],
      prepare: ([a, b, c]) => prepare(a!, b!, c!),
    });
    const [a, b, c] = union.branches as [string, string, string];
    return { view: (...path: string[]) => join(union!.mountpoint, ...path), a, b, c };
  };

  it('shows directories of one name as one', async () => {
    const { view } = await make((a, b, c) => {
      for (const [branch, name] of [
        [a, 'one'],
        [b, 'two'],
        [c, 'three'],
      ] as const) {
        mkdirSync(join(branch, 'd/deep'), { recursive: true });
        writeFileSync(join(branch, 'd', name), name);
        writeFileSync(join(branch, 'd/deep', name), '');
      }
      mkdirSync(join(c, 'd/sub'));
    });
    // Before anything below it was listed.
    expect(existsSync(view('d/deep/three'))).to.equal(true);
    expect(readdirSync(view('d')).sort()).to.deep.equal(['deep', 'one', 'sub', 'three', 'two']);
    expect(readdirSync(view('d/deep')).sort()).to.deep.equal(['one', 'three', 'two']);
    expect(readFileSync(view('d/three'), 'utf8')).to.equal('three');
    expect(statSync(view('d')).nlink).to.equal(4);
  });

  it('has the latest times of a directory, and its links, before and after it was listed', async () => {
    const { view, c } = await make((a, b, c) => {
      mkdirSync(join(a, 'd/x'), { recursive: true });
      mkdirSync(join(b, 'd/y'), { recursive: true });
      mkdirSync(join(b, 'd/x'), { recursive: true });
      mkdirSync(join(c, 'd'));
      utimesSync(join(a, 'd'), 1000, 5000);
      utimesSync(join(b, 'd'), 3000, 7000);
      do utimesSync(join(c, 'd'), 2000, 6000);
      while (statSync(join(c, 'd')).ctimeMs <= statSync(join(a, 'd')).ctimeMs);
    });
    const { ctimeMs } = statSync(join(c, 'd'));
    expect(statSync(view('d'))).to.include({ atimeMs: 3_000_000, mtimeMs: 7_000_000, ctimeMs, nlink: 4 });
    readdirSync(view('d'));
    expect(statSync(view('d'))).to.include({ mtimeMs: 7_000_000, ctimeMs, nlink: 4 });
  });

  it('numbers a directory in listings as stat does', async () => {
    // More of them than the kernel asks for with their attributes, when nobody looks at those.
    const names = Array.from({ length: 1000 }, (_, index) => `d${index}`);
    const { view } = await make((a, b) => {
      for (const branch of [b, a]) for (const name of names) mkdirSync(join(branch, name));
      mkdirSync(join(a, 'only'));
      writeFileSync(join(b, 'file'), '');
    });
    const listed = numbersIn(view(''));
    for (const name of [...names, 'only', 'file'])
      expect(statSync(view(name), { bigint: true }).ino, name).to.equal(listed.get(name));
  });

  it('lets the first branch win where files have one name, whatever their kinds', async () => {
    const { view } = await make((a, b, c) => {
      for (const branch of [a, b, c]) mkdirSync(join(branch, 'd'));
      for (const at of ['', 'd']) {
        writeFileSync(join(a, at, 'file'), 'first');
        writeFileSync(join(b, at, 'file'), 'second');
        writeFileSync(join(a, at, 'mixed'), 'first');
        mkdirSync(join(b, at, 'mixed'));
        mkdirSync(join(a, at, 'other'));
        writeFileSync(join(b, at, 'other'), 'second');
        mkdirSync(join(c, at, 'other'));
        writeFileSync(join(c, at, 'other/third'), '');
      }
    });
    // The names of one are known from a listing, those of the other are not.
    for (const at of ['', 'd']) {
      if (at === '') readdirSync(view(at));
      expect(readFileSync(view(at, 'file'), 'utf8')).to.equal('first');
      expect(lstatSync(view(at, 'mixed')).isFile()).to.equal(true);
      expect(lstatSync(view(at, 'other')).isDirectory()).to.equal(true);
      writeFileSync(view(at, 'other/below'), '');
      expect(readdirSync(view(at, 'other')).sort()).to.deep.equal(['below', 'third']);
    }
    expect(readdirSync(view('d')).sort()).to.deep.equal(['file', 'mixed', 'other']);
  });

  it('sets hidden files aside when what hides them is removed: they neither appear nor are lost', async () => {
    const { view, b, c } = await make((a, b, c) => {
      writeFileSync(join(a, 'file'), 'first');
      writeFileSync(join(b, 'file'), 'second');
      writeFileSync(join(c, 'file'), 'third');
      mkdirSync(join(a, 'directory'));
      writeFileSync(join(b, 'directory'), 'hidden by a directory');
      mkdirSync(join(c, 'directory'));
    });
    unlinkSync(view('file'));
    expect(existsSync(view('file'))).to.equal(false);
    rmdirSync(view('directory'));
    expect(existsSync(view('directory'))).to.equal(false);
    expect(readdirSync(view(''))).to.deep.equal([]);
    expect(setAside(b).sort()).to.deep.equal(['hidden by a directory', 'second']);
    expect(setAside(c)).to.deep.equal(['third']);
    expect(existsSync(join(c, 'directory'))).to.equal(false);
  });

  it('does not touch hidden files when the visible one cannot be removed', async () => {
    const { view, a, b } = await make((a, b) => {
      writeFileSync(join(a, 'file'), 'first');
      writeFileSync(join(b, 'file'), 'second');
      mkdirSync(join(a, 'd'));
      writeFileSync(join(a, 'd/child'), '');
      writeFileSync(join(b, 'd'), 'hidden');
      runProgram('chattr', ['+i', join(a, 'file')]);
    });
    expect(() => unlinkSync(view('file'))).to.throw('EPERM');
    expect(() => rmdirSync(view('d'))).to.throw('ENOTEMPTY');
    runProgram('chattr', ['-i', join(a, 'file')]);
    expect(readFileSync(view('file'), 'utf8')).to.equal('first');
    expect(setAside(b)).to.deep.equal([]);
  });

  it('judges emptiness on all branches', async () => {
    const { view, a, b } = await make((a, b) => {
      for (const branch of [a, b]) for (const name of ['d', 'e']) mkdirSync(join(branch, name));
      writeFileSync(join(b, 'd/child'), '');
      writeFileSync(join(a, 'e/child'), '');
    });
    for (const name of ['d', 'e']) {
      expect(() => rmdirSync(view(name))).to.throw('ENOTEMPTY');
      for (const branch of [a, b]) expect(existsSync(join(branch, name))).to.equal(true);
    }
    unlinkSync(view('d/child'));
    rmdirSync(view('d'));
    for (const branch of [a, b]) expect(existsSync(join(branch, 'd'))).to.equal(false);
    mkdirSync(view('d'));
    expect(readdirSync(view('d'))).to.deep.equal([]);
  });

  it('keeps a directory usable when one of its copies cannot be removed', async () => {
    const { view, a, b } = await make((a, b) => {
      for (const branch of [a, b]) mkdirSync(join(branch, 'd'));
      runProgram('chattr', ['+i', join(a, 'd')]);
    });
    expect(() => rmdirSync(view('d'))).to.throw('EPERM');
    runProgram('chattr', ['-i', join(a, 'd')]);
    expect(statSync(view('d')).isDirectory()).to.equal(true);
    writeFileSync(view('d/file'), '');
    expect(readdirSync(view('d'))).to.deep.equal(['file']);
    unlinkSync(view('d/file'));
    rmdirSync(view('d'));
    for (const branch of [a, b]) expect(existsSync(join(branch, 'd'))).to.equal(false);
  });

  it('changes attributes of a directory on every copy', async () => {
    const { view, a, b } = await make((a, b) => {
      for (const branch of [a, b]) mkdirSync(join(branch, 'd'));
      setXattr(join(b, 'd'), 'user.only-here', 'x');
      setXattr(join(a, 'd'), 'user.first-only', 'y');
    });
    runProgram('chmod', ['2750', view('d')]);
    runProgram('chown', ['1:2', view('d')]);
    utimesSync(view('d'), 100, 200);
    setXattr(view('d'), 'user.both', 'value');
    for (const branch of [a, b]) {
      expect(statSync(join(branch, 'd'))).to.include({ mode: 0o42750, uid: 1, gid: 2, mtimeMs: 200_000 });
      expect(getXattr(join(branch, 'd'), 'user.both')).to.equal('value');
    }
    removeXattr(view('d'), 'user.first-only');
    expect(() => getXattr(view('d'), 'user.first-only')).to.throw('ENODATA');
    const create = 1;
    setXattr(view('d'), 'user.only-here', 'new', create);
    for (const branch of [a, b]) expect(getXattr(join(branch, 'd'), 'user.only-here')).to.equal('new');
  });

  it('shows when a directory was changed last, also where a later time had been set', async () => {
    const { view } = await make(() => {});
    mkdirSync(view('d'));
    const a = union!.branches[0]!;
    const future = Date.now() / 1000 + 1e6;
    utimesSync(view('d'), future, future);
    expect(statSync(view('d')).mtimeMs).to.equal(statSync(join(a, 'd')).mtimeMs);
    writeFileSync(view('d/file'), '');
    expect(statSync(view('d')).mtimeMs).to.be.lessThan(future * 1000);
    expect(statSync(view('d')).mtimeMs).to.equal(statSync(join(a, 'd')).mtimeMs);
  });

  it('hides what belongs to the branches themselves', async () => {
    const { view } = await make((a) => {
      mkdirSync(join(a, '.union'));
      mkdirSync(join(a, 'd'));
      mkdirSync(join(a, 'd/lost+found'));
      writeFileSync(join(a, 'file'), '');
    });
    expect(readdirSync(view('')).sort()).to.deep.equal(['d', 'file']);
    for (const name of ['.union', 'lost+found']) {
      expect(existsSync(view(name))).to.equal(false);
      expect(() => mkdirSync(view(name))).to.throw('EACCES');
      expect(() => writeFileSync(view(name), '')).to.throw('EACCES');
      expect(() => linkSync(view('file'), view(name))).to.throw('EACCES');
      expect(() => renameSync(view('file'), view(name))).to.throw('EACCES');
    }
    expect(existsSync(view('d/lost+found'))).to.equal(true);
  });
});
