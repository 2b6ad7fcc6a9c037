/** Names of any bytes, inode numbers, hard links, listings, modes of branches, and space. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { runProgram } from '../../support/loop-branches.ts';
import { asUser, getXattr, nextEntries, numbersIn, setXattr, withUmask } from '../../support/posix.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, mountUnion, type TestUnion } from '../../support/union-mount.ts';

const mebibyte = 1024 ** 2;

/** The inode number in full: it has more bits than a number. */
const inoOf = (path: string) => statSync(path, { bigint: true }).ino;

/** A part of an open directory's listing. */
const nextNames = (descriptor: number) => nextEntries(descriptor, 4096).map(([name]) => name);

describe('names, numbers and links of a union', () => {
  let union: TestUnion | undefined;

  before(function () {
    needs(this, fuse, loop);
  });

  afterEach(async () => {
    await union?.close();
    union = undefined;
  });

  const make = async (
    prepare: (a: string, b: string) => void = () => {},
    options = ['category.create=ff'],
    sizesBytes = [32 * mebibyte, 32 * mebibyte],
  ) => {
    union = await makeUnion({
      sizesBytes,
      options: [...options, 'minfreespace=1M'],
      prepare: ([a, b]) => prepare(a!, b!),
    });
    const [a, b] = union.branches as [string, string];
    return { view: (...path: string[]) => join(union!.mountpoint, ...path), a, b };
  };

  it('takes any bytes but the slash, up to 255 of them', async () => {
    const { view } = await make();
    const names = [
      Buffer.from(Array.from({ length: 255 }, (_, index) => index + 1).filter((byte) => byte !== 0x2f)),
      Buffer.alloc(255, 0xff),
      Buffer.from([0x80, 0xc0, 0x0a]),
      Buffer.from('…'.repeat(85)),
      Buffer.from(' .'),
      ...[15, 16, 17, 31, 32].map((length) => Buffer.alloc(length, 0x61)),
    ];
    const at = (name: Buffer) => Buffer.concat([Buffer.from(view('/')), name]);
    for (const name of names) writeFileSync(at(name), name);
    const sorted = (list: readonly Buffer[]) => list.map((name) => name.toString('hex')).sort();
    expect(sorted(readdirSync(view('/'), { encoding: 'buffer' }))).to.deep.equal(sorted(names));
    for (const name of names) expect(readFileSync(at(name)).equals(name)).to.equal(true);
    expect(() => writeFileSync(at(Buffer.alloc(256, 0x61)), '')).to.throw('ENAMETOOLONG');
    expect(() => statSync(at(Buffer.alloc(256, 0x61)))).to.throw('ENAMETOOLONG');
    expect(() => renameSync(at(names[2]!), at(Buffer.alloc(256, 0x61)))).to.throw('ENAMETOOLONG');
    for (const name of names) unlinkSync(at(name));
    expect(readdirSync(view('/'))).to.deep.equal([]);
  });

  it('keeps inode numbers over rename and remount', async () => {
    const { view, b } = await make((a, b) => {
      mkdirSync(join(a, 'old/deep'), { recursive: true });
      writeFileSync(join(b, 'file'), '');
      linkSync(join(b, 'file'), join(b, 'link'));
    });
    const wanted = { old: inoOf(view('old')), deep: inoOf(view('old/deep')), file: inoOf(view('file')) };
    renameSync(view('file'), view('old/deep/file')); // makes old and old/deep on the other branch
    expect(existsSync(join(b, 'old/deep'))).to.equal(true);
    renameSync(view('old'), view('new'));
    mkdirSync(view('made'));
    writeFileSync(view('made/file'), '');
    renameSync(view('link'), view('made/link'));
    const made = inoOf(view('made'));
    const seen = (at: (path: string) => string) => ({
      old: inoOf(at('new')),
      deep: inoOf(at('new/deep')),
      file: inoOf(at('new/deep/file')),
      link: inoOf(at('made/link')),
      made: inoOf(at('made')),
    });
    expect(seen(view)).to.deep.equal({ ...wanted, link: wanted.file, made });
    const mountpoint = join(union!.folder, 'again');
    mkdirSync(mountpoint);
    const again = await mountUnion({ branches: union!.branches, mountpoint });
    try {
      expect(seen((path) => join(mountpoint, path))).to.deep.equal({ ...wanted, link: wanted.file, made });
    } finally {
      await again.close();
    }
  });

  it('gives the numbers in listings that stat gives', async () => {
    const { view, a, b } = await make((a, b) => {
      mkdirSync(join(b, 'older'));
      const { birthtimeNs } = statSync(join(b, 'older'), { bigint: true });
      do {
        rmSync(join(a, 'older'), { recursive: true, force: true });
        mkdirSync(join(a, 'older'));
      } while (statSync(join(a, 'older'), { bigint: true }).birthtimeNs === birthtimeNs);
      writeFileSync(join(b, 'file'), '');
    });
    expect(existsSync(join(a, 'older')) && existsSync(join(b, 'older'))).to.equal(true);
    for (const [name, ino] of numbersIn(view(''))) if (name !== '..') expect(inoOf(view(name)), name).to.equal(ino);
  });

  it('is one file through every link, also to who knew only one of the names', async () => {
    const { view } = await make((_, b) => {
      mkdirSync(join(b, 'd'));
      writeFileSync(join(b, 'one'), 'content');
      linkSync(join(b, 'one'), join(b, 'd/other'));
    });
    const descriptor = openSync(view('one'), 'r+');
    unlinkSync(view('one'));
    expect(statSync(view('d/other'))).to.include({ nlink: 1, size: 7 });
    writeSync(descriptor, ' and more', 7);
    expect(statSync(view('d/other')).size).to.equal(16);
    chmodSync(view('d/other'), 0o640);
    linkSync(view('d/other'), view('third'));
    expect(statSync(view('third'))).to.include({ nlink: 2, mode: 0o100640, size: 16 });
    renameSync(view('third'), view('d/other'));
    expect(statSync(view('third')).nlink).to.equal(2);
    closeSync(descriptor);
    unlinkSync(view('third'));
    expect(statSync(view('d/other')).nlink).to.equal(1);
    expect(readFileSync(view('d/other'), 'utf8')).to.equal('content and more');
  });

  it('does not mix up files of which one has the number that another had', async () => {
    const { view } = await make();
    for (let round = 0; round < 20; round++) {
      writeFileSync(view('one'), `content ${round}`);
      linkSync(view('one'), view('two'));
      expect(statSync(view('two'))).to.include({ nlink: 2, size: `content ${round}`.length });
      expect(readFileSync(view('two'), 'utf8')).to.equal(`content ${round}`);
      unlinkSync(view('one'));
      expect(statSync(view('two')).nlink).to.equal(1);
      unlinkSync(view('two'));
    }
  });

  it('says which branch a file is on', async () => {
    const { view, a, b } = await make((a, b) => {
      writeFileSync(join(b, 'file'), '');
      for (const branch of [a, b]) mkdirSync(join(branch, 'd'));
    });
    expect(getXattr(view('d'), 'user.union.branches')).to.equal(`${a}\0${b}`);
    expect(getXattr(view('file'), 'user.union.branches')).to.equal(b);
    expect(getXattr(view('file'), 'user.union.branch')).to.equal(b);
    expect(getXattr(view('d'), 'user.union.branch')).to.equal(a);
    expect(() => setXattr(view('file'), 'user.union.branch', a)).to.throw('EPERM');
    setXattr(view('file'), 'user.mine', 'value\0with zero');
    expect(getXattr(view('file'), 'user.mine')).to.equal('value\0with zero');
    expect(getXattr(join(b, 'file'), 'user.mine')).to.equal('value\0with zero');
    expect(() => getXattr(view('file'), 'user.none')).to.throw('ENODATA');
    const large = 'x'.repeat(700);
    setXattr(view('file'), 'user.large', large);
    expect(getXattr(view('file'), 'user.large')).to.equal(large);
  });

  it('makes files with the mask, default ACL and group of their directory', async () => {
    const { view } = await make();
    mkdirSync(view('plain'));
    mkdirSync(view('acl'));
    mkdirSync(view('group'));
    runProgram('setfacl', ['-m', 'd:u:1234:rwx,d:g::r-x,d:o::---', view('acl')]);
    runProgram('chown', ['0:4321', view('group')]);
    runProgram('chmod', ['2777', view('group'), view('plain'), view('acl')]);
    runProgram('chmod', ['g-s', view('plain'), view('acl')]);
    withUmask(0o077, () =>
      asUser(1000, () => {
        for (const name of ['plain', 'acl', 'group']) {
          writeFileSync(view(name, 'file'), '', { mode: 0o666 });
          mkdirSync(view(name, 'dir'), 0o777);
        }
      }),
    );
    expect(statSync(view('plain/file'))).to.include({ mode: 0o100600, uid: 1000, gid: 1000 });
    expect(statSync(view('group/file'))).to.include({ mode: 0o100600, uid: 1000, gid: 4321 });
    expect(statSync(view('group/dir'))).to.include({ mode: 0o042700, gid: 4321 });
    expect(statSync(view('acl/file')).mode).to.equal(0o100660); // the mask does not count with a default ACL
    const acl = runProgram('getfacl', ['-cp', view('acl/file')]);
    expect(acl).to.include('user:1234:rwx').and.include('mask::rw-').and.include('other::---');
    expect(runProgram('getfacl', ['-cp', view('acl/dir')])).to.include('default:user:1234:rwx');
    expect(() => asUser(2000, () => readFileSync(view('acl/file')))).to.throw('EACCES');
    asUser(1234, () => readFileSync(view('acl/file')));
    chmodSync(view('acl/file'), 0o600);
    expect(() => asUser(1234, () => readFileSync(view('acl/file')))).to.throw('EACCES');
  });

  it('refuses every change on a read-only branch with EROFS', async () => {
    const { a, b } = await make((a) => {
      mkdirSync(join(a, 'd'));
      writeFileSync(join(a, 'file'), 'content');
    });
    const mountpoint = join(union!.folder, 'again');
    mkdirSync(mountpoint);
    const again = await mountUnion({
      branches: [`${a}=RO`, b],
      mountpoint,
      options: ['category.create=ff', 'minfreespace=1M'],
    });
    try {
      const view = (path: string) => join(mountpoint, path);
      const changes: Record<string, () => void> = {
        write: () => writeFileSync(view('file'), 'x', { flag: 'r+' }),
        append: () => writeFileSync(view('file'), 'x', { flag: 'a' }),
        truncate: () => writeFileSync(view('file'), 'x'),
        chmod: () => chmodSync(view('file'), 0o600),
        'chmod of a directory': () => chmodSync(view('d'), 0o700),
        utimes: () => utimesSync(view('file'), 1, 1),
        setxattr: () => setXattr(view('file'), 'user.x', 'y'),
        unlink: () => unlinkSync(view('file')),
        rename: () => renameSync(view('file'), view('other')),
        'rename over it': () => {
          writeFileSync(view('new'), '');
          renameSync(view('new'), view('file'));
        },
        link: () => linkSync(view('file'), view('other')),
        rmdir: () => rmdirSync(view('d')),
        'rename of a directory': () => renameSync(view('d'), view('e')),
      };
      for (const [name, change] of Object.entries(changes)) expect(change, name).to.throw('EROFS');
      expect(readFileSync(view('file'), 'utf8')).to.equal('content');
      expect(statSync(view('file')).mode).to.equal(0o100644);
      writeFileSync(view('d/new'), 'goes to the other branch');
      expect(readFileSync(join(b, 'd/new'), 'utf8')).to.equal('goes to the other branch');
      expect(readdirSync(a).sort()).to.deep.equal(['d', 'file', 'lost+found']);
    } finally {
      await again.close();
    }
  });

  it('makes a file on the next branch when one is full, and says ENOSPC when all are', async () => {
    const { view, a, b } = await make(undefined, ['category.create=ff'], [8 * mebibyte, 8 * mebibyte]);
    // Full below the union's knowledge: its figures are a moment old, the branch's answer is not.
    const fill = (branch: string) =>
      spawnSync('dd', ['if=/dev/zero', `of=${join(branch, '.union-full')}`, 'bs=64k'], { stdio: 'ignore' });
    const exhaust = (branch: string) => {
      fill(branch);
      mkdirSync(join(branch, '.names'));
      try {
        for (let index = 0; ; index++) writeFileSync(join(branch, '.names', 'n'.repeat(200) + index), 'x');
      } catch {
        // no room for one more name
      }
    };
    readdirSync(view(''));
    exhaust(a);
    writeFileSync(view('file'), '');
    mkdirSync(view('d'));
    expect(existsSync(join(b, 'file')) && existsSync(join(b, 'd'))).to.equal(true);
    exhaust(b);
    expect(() => {
      for (let index = 0; index < 2000; index++) writeFileSync(view('d', 'm'.repeat(200) + index), '');
    }).to.throw('ENOSPC');
  });

  it('answers a listing that goes on from anywhere', async () => {
    const { view } = await make();
    // More than one read takes, and bytes that, taken for the length of a name, would make an entry of no size.
    const bytes = Buffer.alloc(200, Buffer.from([0xe1, 0xff, 0xff, 0xff]));
    for (let index = 100; index < 700; index++)
      writeFileSync(Buffer.concat([Buffer.from(view(`/${index} `)), bytes]), '');
    const program = `import { numbersIn } from '${new URL('../../support/posix.ts', import.meta.url)}';
      for (let offset = 1; offset < 600; offset++) try { numbersIn(process.argv[1], offset) } catch {}`;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', program, view('')], { timeout: 60_000 });
    expect(child).to.include({ status: 0, signal: null });
    expect(numbersIn(view('')).size).to.equal(602);
  });

  it('answers a listing of one moment, whatever comes and goes', async () => {
    const { view } = await make();
    const names = Array.from({ length: 500 }, (_, index) => `file-of-a-long-name-${index}`);
    for (const name of names) writeFileSync(view(name), '');
    const descriptor = openSync(view(''), 'r');
    try {
      const listed = nextNames(descriptor);
      for (const name of listed.filter((name) => name.startsWith('file'))) unlinkSync(view(name));
      for (let index = 0; index < 100; index++) writeFileSync(view(`new${index}`), '');
      for (let more = nextNames(descriptor); more.length > 0; more = nextNames(descriptor)) listed.push(...more);
      expect(listed.sort()).to.deep.equal(['.', '..', ...names].sort());
    } finally {
      closeSync(descriptor);
    }
  });

  /** Reads a part of the kernel's listing, removes its names, and goes on after `meanwhile`. */
  async function readsOn(meanwhile: (left: number) => void): Promise<void> {
    const { view } = await make();
    const names = Array.from({ length: 500 }, (_, index) => `file-of-a-long-name-${index}`);
    for (const name of names) writeFileSync(view(name), '');
    readdirSync(view('')); // now the kernel has it
    const descriptor = openSync(view(''), 'r');
    try {
      const listed = nextNames(descriptor);
      for (const name of listed.filter((name) => name.startsWith('file'))) unlinkSync(view(name));
      meanwhile(2 + names.length - listed.length);
      for (let more = nextNames(descriptor); more.length > 0; more = nextNames(descriptor)) listed.push(...more);
      expect(listed.sort()).to.deep.equal(['.', '..', ...names].sort());
    } finally {
      closeSync(descriptor);
    }
  }

  it('answers the same listing to the end, also one that the kernel has kept, while others list the directory anew', async () => {
    await readsOn((left) => expect(readdirSync(union!.mountpoint).length).to.equal(left));
  });

  it('answers the same listing to the end, also one that the kernel has kept, while memory is given back', async () => {
    await readsOn(() => writeFileSync('/proc/sys/vm/drop_caches', '1\n'));
  });

  it('refuses requests that it does not know, and goes on', async () => {
    const { view } = await make();
    writeFileSync(view('file'), 'content');
    const { status, stderr } = spawnSync('lsattr', [view('file')], { encoding: 'utf8' }); // an ioctl
    expect(status).not.to.equal(0);
    expect(stderr).to.match(/Inappropriate ioctl|not supported/);
    expect(readFileSync(view('file'), 'utf8')).to.equal('content');
  });
});
