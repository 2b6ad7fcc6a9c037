/** cache=shared: what others do to the branches shows within a second or so. */
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { removeFolderWithMounts } from '../../support/loop-branches.ts';
import { RENAME_NOREPLACE, renameWith } from '../../support/posix.ts';
import { until } from '../../support/processes.ts';
import { fuse, needs } from '../../support/skip.ts';
import { mountUnion, type UnionMount } from '../../support/union-mount.ts';

describe('cache=shared: others change the branches', () => {
  let folder: string;
  let a: string;
  let b: string;
  let union: UnionMount;
  const view = (path: string) => join(union.mountpoint, path);

  before(function () {
    needs(this, fuse);
  });

  beforeEach(async () => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'union-shared-')));
    [a, b] = [join(folder, 'a'), join(folder, 'b')];
    const mountpoint = join(folder, 'union');
    for (const path of [a, b, mountpoint]) mkdirSync(path);
    for (const branch of [a, b]) mkdirSync(join(branch, 'd'));
    mkdirSync(join(a, 'only'));
    writeFileSync(join(a, 'd/file'), 'old');
    union = await mountUnion({ branches: [a, b], mountpoint, options: ['cache=shared', 'category.create=ff'] });
    for (const path of ['', 'd', 'only']) readdirSync(view(path));
    expect(readFileSync(view('d/file'), 'utf8')).to.equal('old');
  });

  afterEach(async () => {
    await union?.close();
    removeFolderWithMounts(folder);
  });

  /** What was cached counts for a second. */
  const soon = (look: () => boolean) =>
    until(() => {
      try {
        return look();
      } catch {
        return false;
      }
    });

  it('opens a file that appeared since it was looked for, where it may have been there before', () => {
    expect(existsSync(view('d/new'))).to.equal(false);
    writeFileSync(join(a, 'd/new'), 'theirs');
    expect(() => openSync(view('d/new'), 'wx')).to.throw('EEXIST');
    expect(existsSync(view('d/newer'))).to.equal(false);
    writeFileSync(join(a, 'd/newer'), 'theirs, ');
    writeFileSync(view('d/newer'), 'and ours', { flag: 'a' });
    expect(readFileSync(view('d/newer'), 'utf8')).to.equal('theirs, and ours');
  });

  it('sees files come, change and go', async () => {
    expect(existsSync(view('d/new'))).to.equal(false);
    writeFileSync(join(b, 'd/new'), 'new');
    await soon(() => statSync(view('d/new')).size === 3);
    expect(readdirSync(view('d')).sort()).to.deep.equal(['file', 'new']);
    writeFileSync(join(b, 'd/new'), 'longer than it was');
    await soon(() => statSync(view('d/new')).size === 18 && readFileSync(view('d/new'), 'utf8').length === 18);
    unlinkSync(join(b, 'd/new'));
    await soon(() => !readdirSync(view('d')).includes('new'));
    await soon(() => statSync(view('d/new'), { throwIfNoEntry: false }) === undefined);
  });

  it('sees a file replaced by another, as editors do', async () => {
    const before = statSync(view('d/file'), { bigint: true }).ino;
    writeFileSync(join(a, 'd/.tmp'), 'replaced');
    renameSync(join(a, 'd/.tmp'), join(a, 'd/file'));
    await soon(() => readFileSync(view('d/file'), 'utf8') === 'replaced');
    await soon(() => statSync(view('d/file'), { bigint: true }).ino !== before);
    writeFileSync(view('d/file'), 'and written through the union');
    expect(readFileSync(join(a, 'd/file'), 'utf8')).to.equal('and written through the union');
  });

  it('keeps an open file that was replaced below', async () => {
    const descriptor = openSync(view('d/file'), 'r');
    writeFileSync(join(a, 'd/.tmp'), 'replaced');
    renameSync(join(a, 'd/.tmp'), join(a, 'd/file'));
    await soon(() => readFileSync(view('d/file'), 'utf8') === 'replaced');
    expect(readFileSync(descriptor, 'utf8')).to.equal('old');
    closeSync(descriptor);
  });

  it('sees a file become a directory or a link', async () => {
    unlinkSync(join(a, 'd/file'));
    mkdirSync(join(a, 'd/file'));
    writeFileSync(join(a, 'd/file/inner'), 'in it');
    await soon(() => readFileSync(view('d/file/inner'), 'utf8') === 'in it');
    rmSync(join(a, 'd/file'), { recursive: true });
    symlinkSync('nowhere', join(a, 'd/file'));
    await soon(() => readdirSync(view('d'), { withFileTypes: true })[0]!.isSymbolicLink());
  });

  it('sees a directory come on another branch, and go from one', async () => {
    mkdirSync(join(b, 'only'));
    writeFileSync(join(b, 'only/on-b'), 'b');
    await soon(() => readFileSync(view('only/on-b'), 'utf8') === 'b');
    await soon(() => readdirSync(view('only')).includes('on-b'));
    rmdirSync(join(a, 'only'));
    await soon(() => readFileSync(view('only/on-b'), 'utf8') === 'b');
    await soon(() => {
      writeFileSync(view('only/new'), 'made');
      return readdirSync(view('only')).length === 2;
    });
    expect(readdirSync(join(a, 'only'))).to.deep.equal(['new']);
  });

  it('sees all of a directory at the first look', () => {
    for (const branch of [a, b]) mkdirSync(join(branch, 'fresh'));
    writeFileSync(join(b, 'fresh/file'), 'content');
    expect(readFileSync(view('fresh/file'), 'utf8')).to.equal('content');
  });

  it('sees a directory removed and made again', async () => {
    rmSync(join(a, 'd'), { recursive: true });
    mkdirSync(join(a, 'd'));
    writeFileSync(join(a, 'd/again'), 'again');
    await soon(() => readFileSync(view('d/again'), 'utf8') === 'again');
    await soon(() => {
      writeFileSync(view('d/more'), 'more');
      return readdirSync(view('d')).length === 2;
    });
  });

  it('removes and renames what others made', async () => {
    writeFileSync(join(b, 'd/theirs'), 'theirs');
    await soon(() => readdirSync(view('d')).includes('theirs'));
    renameSync(view('d/theirs'), view('only/ours'));
    expect(readFileSync(join(b, 'only/ours'), 'utf8')).to.equal('theirs');
    unlinkSync(view('only/ours'));
    expect(() => rmdirSync(view('d'))).to.throw('ENOTEMPTY');
    expect(existsSync(view('d/more'))).to.equal(false);
    writeFileSync(join(b, 'd/more'), 'theirs');
    expect(() => renameWith(RENAME_NOREPLACE, view('d/file'), view('d/more'))).to.throw('EEXIST');
  });
});
