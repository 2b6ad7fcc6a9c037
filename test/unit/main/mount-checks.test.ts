/** What is refused before anything is mounted, in a directory of branches. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { resolveBranches, resolveMountpoint } from '../../../src/main/mount-checks.ts';
import { parseBranch } from '../../../src/main/mount-options.ts';

describe('mount checks', () => {
  let root: string;

  beforeEach(() => {
    root = realpathSync(mkdtempSync(join(tmpdir(), 'mount-checks-')));
    for (const name of ['disk1', 'disk2', 'disk10', 'all', 'disk1/inner']) mkdirSync(join(root, name));
    writeFileSync(join(root, 'disk-file'), '');
  });

  afterEach(() => rmSync(root, { recursive: true }));

  const branches = (...written: string[]) =>
    resolveBranches(
      written.map((text) => parseBranch(`${root}/${text}`)),
      0,
    );

  it('expands globs to directories, in order of their names', () => {
    expect(branches('disk*').map(({ path }) => path)).to.deep.equal(
      ['disk1', 'disk10', 'disk2'].map((name) => join(root, name)),
    );
  });

  it('keeps the order and modes of branches as written', () => {
    expect(branches('disk2=RO', 'disk1=NC,1K')).to.deep.equal([
      { id: join(root, 'disk2'), path: join(root, 'disk2'), mode: 'RO', minFreeSpaceBytes: 0 },
      { id: join(root, 'disk1'), path: join(root, 'disk1'), mode: 'NC', minFreeSpaceBytes: 1024 },
    ]);
  });

  it('takes a path with the characters of a glob as it is where it exists', () => {
    mkdirSync(join(root, 'disk[1]'));
    expect(branches('disk[1]').map(({ path }) => path)).to.deep.equal([join(root, 'disk[1]')]);
  });

  it('reserves a twentieth of a small branch unless told otherwise', () => {
    const [branch] = resolveBranches([parseBranch(`${root}/disk1`)], undefined);
    expect(branch!.minFreeSpaceBytes).to.be.within(1, 4 * 1024 ** 3);
  });

  it('refuses a branch that is missing', () => {
    expect(() => branches('disk3')).to.throw(`branch ${root}/disk3 does not exist`);
    expect(() => branches('nothing*')).to.throw(`branch ${root}/nothing* matches no directory`);
  });

  it('refuses a branch that is not a directory', () => {
    expect(() => branches('disk-file')).to.throw(`branch ${root}/disk-file is not a directory`);
  });

  it('refuses the same branch twice, through a symbolic link too', () => {
    symlinkSync(join(root, 'disk1'), join(root, 'link'));
    expect(() => branches('disk1', 'disk1')).to.throw(`branch ${root}/disk1 is given twice, first as ${root}/disk1`);
    expect(() => branches('disk1', 'link')).to.throw(`branch ${root}/link is given twice, first as ${root}/disk1`);
  });

  it('refuses nested branches, whichever comes first', () => {
    const message = `branch ${root}/disk1/inner lies inside branch ${root}/disk1; take one of them out`;
    expect(() => branches('disk1', 'disk1/inner')).to.throw(message);
    expect(() => branches('disk1/inner', 'disk1')).to.throw(message);
  });

  it('makes the mountpoint real', () => {
    symlinkSync(join(root, 'all'), join(root, 'link'));
    expect(resolveMountpoint(join(root, 'link'), branches('disk1'))).to.equal(join(root, 'all'));
  });

  it('refuses a mountpoint that is missing, a file, in a branch, or above one', () => {
    const union = branches('disk1', 'disk2');
    expect(() => resolveMountpoint(`${root}/none`, union)).to.throw(
      `mountpoint ${root}/none does not exist; create it`,
    );
    expect(() => resolveMountpoint(`${root}/disk-file`, union)).to.throw(
      `mountpoint ${root}/disk-file is not a directory`,
    );
    expect(() => resolveMountpoint(`${root}/disk1`, union)).to.throw(
      `mountpoint ${root}/disk1 lies inside branch ${root}/disk1`,
    );
    expect(() => resolveMountpoint(`${root}/disk1/inner`, union)).to.throw(`lies inside branch ${root}/disk1`);
    expect(() => resolveMountpoint(root, union)).to.throw(`branch ${root}/disk1 lies below the mountpoint ${root}`);
  });
});
