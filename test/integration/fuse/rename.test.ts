/** Renames, exchanges and links where names and files are on different branches, and what is left when a branch refuses. */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { runProgram } from '../../support/loop-branches.ts';
import { getXattr, RENAME_EXCHANGE, RENAME_NOREPLACE, renameWith, setXattr } from '../../support/posix.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { describeTree, readTree } from '../../support/tree.ts';
import { makeUnion, mountUnion, type TestUnion } from '../../support/union-mount.ts';

const mebibyte = 1024 ** 2;

describe('rename and link over branches', () => {
  let union: TestUnion | undefined;

  before(function () {
    needs(this, fuse, loop);
  });

  afterEach(async () => {
    for (const branch of union?.branches ?? []) spawnSync('chattr', ['-R', '-f', '-i', branch]);
    await union?.close();
    union = undefined;
  });

  const make = async (prepare: (a: string, b: string) => void) => {
    union = await makeUnion({
      sizesBytes: [32 * mebibyte, 32 * mebibyte],
      options: ['category.create=ff', 'minfreespace=1M'],
      prepare: ([a, b]) => prepare(a!, b!),
    });
    const [a, b] = union.branches as [string, string];
    return { view: (...path: string[]) => join(union!.mountpoint, ...path), a, b };
  };

  /** What a fresh union over the same branches shows: nothing may depend on what the server remembers. */
  const remounted = async <T>(look: (view: (path: string) => string) => T): Promise<T> => {
    const { branches, folder } = union!;
    const mountpoint = join(folder, 'again');
    mkdirSync(mountpoint, { recursive: true });
    const again = await mountUnion({ branches, mountpoint, options: ['ro', 'minfreespace=1M'] });
    try {
      return look((path) => join(mountpoint, path));
    } finally {
      await again.close();
    }
  };

  it('reaches a directory whose place on the branch a hidden file takes: that is set aside', async () => {
    const { view, b } = await make((a, b) => {
      mkdirSync(join(a, 'd/e'), { recursive: true });
      writeFileSync(join(b, 'd'), 'hidden');
      for (const name of ['one', 'two']) writeFileSync(join(b, name), name);
    });
    renameSync(view('one'), view('d/e/one'));
    linkSync(view('two'), view('d/two'));
    expect(readFileSync(join(b, 'd/e/one'), 'utf8')).to.equal('one');
    expect(readFileSync(join(b, 'd/two'), 'utf8')).to.equal('two');
    const aside = readdirSync(join(b, '.union')).filter((name) => name.startsWith('hidden-'));
    expect(aside.map((name) => readFileSync(join(b, '.union', name), 'utf8'))).to.deep.equal(['hidden']);
  });

  it('keeps a file on its branch and makes the parents there as they are', async () => {
    const { view, b } = await make((a, b) => {
      mkdirSync(join(a, 'p/q'), { recursive: true });
      runProgram('chown', ['11:12', join(a, 'p')]);
      runProgram('setfacl', ['-m', 'u:77:rx,d:u:78:rwx', join(a, 'p/q')]);
      runProgram('chmod', ['3751', join(a, 'p')]);
      setXattr(join(a, 'p'), 'user.color', 'blue');
      setXattr(join(a, 'p'), 'trusted.t', 'secret');
      utimesSync(join(a, 'p'), 1234, 5678);
      utimesSync(join(a, 'p/q'), 12, 56);
      writeFileSync(join(b, 'file'), 'content');
    });
    const acl = runProgram('getfacl', ['-c', '-p', view('p/q')]);
    const before = statSync(view('p'));
    renameSync(view('file'), view('p/q/renamed'));
    expect(readFileSync(join(b, 'p/q/renamed'), 'utf8')).to.equal('content');
    expect(existsSync(view('file'))).to.equal(false);
    expect(statSync(view('p'))).to.include({ mtimeMs: before.mtimeMs, mode: before.mode, nlink: before.nlink });
    expect(statSync(join(b, 'p'))).to.include({ mode: before.mode, uid: 11, gid: 12, mtimeMs: 5_678_000 });
    expect(getXattr(join(b, 'p'), 'user.color')).to.equal('blue');
    expect(getXattr(join(b, 'p'), 'trusted.t')).to.equal('secret');
    expect(runProgram('getfacl', ['-c', '-p', join(b, 'p/q')])).to.equal(acl);
    expect(statSync(view('p/q')).mtimeMs, 'a name came').to.be.greaterThan(1_000_000_000_000);
  });

  it('links on the branch of the file', async () => {
    const { view, b } = await make((a, b) => {
      mkdirSync(join(a, 'd'));
      utimesSync(join(a, 'd'), 5, 5);
      writeFileSync(join(b, 'file'), 'content');
    });
    linkSync(view('file'), view('d/link'));
    expect(readFileSync(join(b, 'd/link'), 'utf8')).to.equal('content');
    expect(statSync(view('d/link')).ino).to.equal(statSync(view('file')).ino);
    expect(statSync(view('file')).nlink).to.equal(2);
  });

  it('replaces a file that is on another branch, and what both names hid does not appear', async () => {
    const { view, a, b } = await make((a, b) => {
      writeFileSync(join(b, 'new'), 'new');
      writeFileSync(join(a, 'old'), 'old');
      writeFileSync(join(b, 'old'), 'hidden');
      writeFileSync(join(a, 'first'), 'first');
      writeFileSync(join(b, 'first'), 'hidden too');
    });
    renameSync(view('new'), view('old'));
    expect(readFileSync(view('old'), 'utf8')).to.equal('new');
    renameSync(view('first'), view('moved'));
    expect(readdirSync(view('')).sort()).to.deep.equal(['moved', 'old']);
    expect(await remounted((again) => readFileSync(again('old'), 'utf8'))).to.equal('new');
    expect(await remounted((again) => readdirSync(again('')).sort())).to.deep.equal(['moved', 'old']);
    expect(existsSync(join(a, 'old'))).to.equal(false);
    expect(readdirSync(join(b, '.union')).filter((name) => name.startsWith('hidden-'))).to.have.length(2);
  });

  it('changes nothing when the file to be replaced on another branch cannot be removed', async () => {
    const { view, a } = await make((a, b) => {
      writeFileSync(join(b, 'new'), 'new');
      writeFileSync(join(a, 'old'), 'old');
      runProgram('chattr', ['+i', join(a, 'old')]);
    });
    expect(() => renameSync(view('new'), view('old'))).to.throw('EPERM');
    runProgram('chattr', ['-i', join(a, 'old')]);
    expect(readFileSync(view('old'), 'utf8')).to.equal('old');
    expect(readFileSync(view('new'), 'utf8')).to.equal('new');
    expect(await remounted((again) => readFileSync(again('old'), 'utf8'))).to.equal('old');
  });

  it('moves a directory on every branch that has it', async () => {
    const { view, a, b } = await make((a, b) => {
      for (const branch of [a, b]) {
        mkdirSync(join(branch, 'd/deep'), { recursive: true });
        writeFileSync(join(branch, 'd/deep', branch.at(-1)!), '');
      }
      mkdirSync(join(a, 'into'));
    });
    const { ino } = statSync(view('d'));
    renameSync(view('d'), view('into/e'));
    expect(readdirSync(view('into/e/deep')).sort()).to.deep.equal(['0', '1']);
    for (const branch of [a, b]) {
      expect(existsSync(join(branch, 'd'))).to.equal(false);
      expect(existsSync(join(branch, 'into/e/deep'))).to.equal(true);
    }
    expect(statSync(view('into/e')).ino).to.equal(ino);
    expect(await remounted((again) => statSync(again('into/e')).ino)).to.equal(ino);
  });

  it('undoes the rename of a directory when one branch refuses', async () => {
    const { view, a, b } = await make((a, b) => {
      for (const branch of [a, b]) {
        mkdirSync(join(branch, 'd'));
        mkdirSync(join(branch, 'empty'));
        writeFileSync(join(branch, 'd', branch.at(-1)!), '');
      }
      runProgram('chattr', ['+i', join(b, 'd')]);
    });
    expect(() => renameSync(view('d'), view('e'))).to.throw('EPERM');
    expect(() => renameSync(view('d'), view('empty'))).to.throw('EPERM');
    expect(readdirSync(view('')).sort()).to.deep.equal(['d', 'empty']);
    runProgram('chattr', ['-i', join(b, 'd')]);
    for (const branch of [a, b]) expect(readdirSync(branch).sort()).to.include.members(['d', 'empty']);
    // Both are whole: names come and go in them, on every branch.
    writeFileSync(view('empty/file'), '');
    expect(existsSync(join(a, 'empty/file'))).to.equal(true);
    expect(readdirSync(view('empty'))).to.deep.equal(['file']);
    renameSync(view('d/1'), view('empty/1'));
    expect(existsSync(join(b, 'empty/1'))).to.equal(true);
    expect(await remounted((again) => readdirSync(again('d')))).to.deep.equal(['0']);
  });

  it('judges the directory to be replaced on the merged view', async () => {
    const { view, a, b } = await make((a, b) => {
      mkdirSync(join(a, 'source'));
      for (const branch of [a, b]) mkdirSync(join(branch, 'target'));
      writeFileSync(join(b, 'target/child'), '');
      writeFileSync(join(a, 'source/kept'), '');
    });
    expect(() => renameSync(view('source'), view('target'))).to.throw('ENOTEMPTY');
    unlinkSync(view('target/child'));
    renameSync(view('source'), view('target'));
    expect(readdirSync(view('target'))).to.deep.equal(['kept']);
    expect(existsSync(join(b, 'target'))).to.equal(false);
    expect(existsSync(join(a, 'source'))).to.equal(false);
  });

  it('refuses what rename(2) refuses', async () => {
    const { view } = await make((a, b) => {
      mkdirSync(join(a, 'd'));
      mkdirSync(join(b, 'd/sub'), { recursive: true });
      writeFileSync(join(b, 'file'), '');
    });
    expect(() => renameSync(view('file'), view('d'))).to.throw('EISDIR');
    expect(() => renameSync(view('d'), view('file'))).to.throw('ENOTDIR');
    expect(() => renameSync(view('d'), view('d/sub/x'))).to.throw('EINVAL');
    expect(() => renameSync(view('missing'), view('x'))).to.throw('ENOENT');
    expect(() => renameSync(view('file'), view('lost+found'))).to.throw('EACCES');
    expect(() => renameWith(4, view('file'), view('x'))).to.throw('EINVAL');
  });

  it('does nothing between two names of one file', async () => {
    const { view } = await make((_, b) => {
      mkdirSync(join(b, 'd'));
      writeFileSync(join(b, 'one'), '');
      linkSync(join(b, 'one'), join(b, 'd/other'));
    });
    renameSync(view('one'), view('d/other'));
    expect(statSync(view('one')).nlink).to.equal(2);
    expect(existsSync(view('d/other'))).to.equal(true);
  });

  it('keeps RENAME_NOREPLACE', async () => {
    const { view, b } = await make((a, b) => {
      writeFileSync(join(a, 'a'), 'a');
      writeFileSync(join(b, 'b'), 'b');
      mkdirSync(join(b, 'd'));
    });
    for (const target of ['a', 'd']) {
      expect(() => renameWith(RENAME_NOREPLACE, view('b'), view(target))).to.throw('EEXIST');
    }
    renameWith(RENAME_NOREPLACE, view('b'), view('c'));
    renameWith(RENAME_NOREPLACE, view('d'), view('e'));
    expect(readdirSync(b).sort()).to.include.members(['c', 'e']);
    expect(readdirSync(view('')).sort()).to.deep.equal(['a', 'c', 'e']);
  });

  const kinds = ['file-a', 'file-b', 'dir-a', 'dir-b', 'dir-ab', 'link-b', 'hiding-a'] as const;
  const plant = (a: string, b: string, kind: (typeof kinds)[number], path: string) => {
    const text = `${kind} at ${path}`;
    if (kind === 'file-a' || kind === 'hiding-a') writeFileSync(join(a, path), text);
    if (kind === 'file-b') writeFileSync(join(b, path), text);
    if (kind === 'hiding-a') writeFileSync(join(b, path), 'hidden');
    if (kind === 'link-b') symlinkSync(text, join(b, path));
    for (const branch of [a, b]) {
      if (kind !== 'dir-ab' && kind !== (branch === a ? 'dir-a' : 'dir-b')) continue;
      mkdirSync(join(branch, path));
      writeFileSync(join(branch, path, `${path.replace('/', '-')}-${branch.at(-1)}`), text);
    }
  };

  it('exchanges whatever there is with whatever there is', async () => {
    const pairs = kinds.flatMap((one) => kinds.map((other) => [one, other] as const));
    const { view } = await make((a, b) => {
      for (const [index, [one, other]] of pairs.entries()) {
        mkdirSync(join(index % 2 === 0 ? a : b, `p${index}`));
        for (const branch of [a, b]) {
          mkdirSync(join(branch, `p${index}`), { recursive: true });
          mkdirSync(join(branch, `q${index}`));
        }
        plant(a, b, one, `p${index}/x`);
        plant(a, b, other, `q${index}/y`);
      }
    });
    const seen = (index: number, at: (path: string) => string) => {
      const describe = (path: string): string => {
        const stats = lstatSync(path);
        if (stats.isSymbolicLink()) return `link to ${readlinkSync(path)}`;
        return stats.isDirectory() ? describeTree(readTree(path)).join() : readFileSync(path, 'utf8');
      };
      return [describe(at(`p${index}/x`)), describe(at(`q${index}/y`))];
    };
    const wanted: string[][] = [];
    for (const [index, pair] of pairs.entries()) {
      const before = seen(index, view);
      renameWith(RENAME_EXCHANGE, view(`p${index}/x`), view(`q${index}/y`));
      expect(seen(index, view), `${pair}`).to.deep.equal(before.toReversed());
      wanted.push(before.toReversed());
    }
    await remounted((again) => {
      for (const [index, pair] of pairs.entries())
        expect(seen(index, again), `${pair}, after a remount`).to.deep.equal(wanted[index]);
    });
  });

  it('undoes an exchange when one branch refuses', async () => {
    const { view, b } = await make((a, b) => {
      for (const branch of [a, b]) {
        mkdirSync(join(branch, 'd'));
        writeFileSync(join(branch, 'd', branch.at(-1)!), '');
      }
      mkdirSync(join(a, 'e'));
      runProgram('chattr', ['+i', join(b, 'd')]);
    });
    expect(() => renameWith(RENAME_EXCHANGE, view('d'), view('e'))).to.throw('EPERM');
    runProgram('chattr', ['-i', join(b, 'd')]);
    expect(readdirSync(view('d')).sort()).to.deep.equal(['0', '1']);
    expect(readdirSync(view('e'))).to.deep.equal([]);
    rmdirSync(view('e'));
    expect(await remounted((again) => readdirSync(again('d')).sort())).to.deep.equal(['0', '1']);
  });

  it('refuses an exchange with nothing', async () => {
    const { view } = await make((a) => writeFileSync(join(a, 'file'), ''));
    expect(() => renameWith(RENAME_EXCHANGE, view('file'), view('missing'))).to.throw('ENOENT');
  });
});
