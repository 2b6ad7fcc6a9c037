import { spawnSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { F } from '../../../fuse/inode/inode-table.ts';
import { restoreBranch } from '../../../fuse/inode/root.ts';
import { DrainPass } from '../../../fuse/ops/drain.ts';
import { DrainProgress } from '../../../fuse/ops/drain-progress.ts';
import { shownHigh, shownLow } from '../../../fuse/ops/inode-number.ts';
import { clearBranch, retireBranch } from '../../../fuse/ops/retire.ts';
import { OP } from '../../../fuse/protocol/abi.ts';
import { ENOTEMPTY } from '../../../fuse/sys/constants.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';

const ROOT = 1;
const moveRequest = (path: string) => [Buffer.byteLength(path), 0, 'trusted.union.branch', path];
const [DRAINED, OTHER] = [0, 1];
/** Of a pass over `plant`: each of three files is copied, intended, linked, … KILL_EACH=1 tries each of them. */
const STEPS = 26;
const CRASHES = Array.from({ length: STEPS }, (_, index) => index).filter(
  (index) => process.env.KILL_EACH !== undefined || index % 4 === 1,
);

describe('emptying a branch that is to be removed', () => {
  let driver: FuseDriver;

  beforeEach(() => {
    driver = new FuseDriver(3);
  });

  afterEach(() => driver.close());

  const on = (branch: number, ...names: string[]) => join(driver.paths[branch]!, ...names);
  const find = (...path: string[]) => path.reduce((parent, name) => driver.lookup(parent, name), ROOT);
  const numberOf = (node: number) => {
    const reply = driver.ask(OP.GETATTR, node, [0, 0, 0, 0]);
    return `${reply.word(20)}:${reply.word(16)}`;
  };

  /** There may be fewer steps left. */
  function finishOrCrash(): void {
    try {
      drain();
    } catch (error) {
      expect((error as Error).message).to.equal('crash');
    }
  }

  /** A pass and, when nothing is left, the end, or `until` the branch is retired. `meanwhile` comes between the two. */
  function drain({ meanwhile = () => {}, branch = DRAINED, until = 'removed' } = {}) {
    const { context } = driver;
    const { branchTable } = context;
    branchTable.drain(branch);
    const renames = branchTable.renames(branch);
    const progress = new DrainProgress();
    const pass = new DrainPass(context, branch, progress);
    const isEmpty = pass.run();
    meanwhile();
    const retirement = { branch, renames, renumbered: pass.renumbered };
    const isRetired = isEmpty && retireBranch(context, retirement);
    if (isRetired && until === 'removed') {
      clearBranch(context, branch, { hidden: pass.hiddenDirectories, volumeId: undefined });
      branchTable.remove(branch);
    }
    return { isRetired, pass, progress };
  }

  function plant(): void {
    mkdirSync(on(DRAINED, 'a', 'only'), { recursive: true });
    mkdirSync(on(OTHER, 'a'));
    writeFileSync(on(DRAINED, 'a', 'file'), 'content');
    linkSync(on(DRAINED, 'a', 'file'), on(DRAINED, 'a', 'only', 'other'));
    symlinkSync('nowhere', on(DRAINED, 'a', 'link'));
    spawnSync('mkfifo', ['-m', '604', on(DRAINED, 'fifo')]);
    writeFileSync(on(OTHER, 'a', 'there'), 'there');
    utimesSync(on(OTHER, 'a'), 1000, 1000);
    utimesSync(on(DRAINED, 'a'), 2000, 2000);
    utimesSync(on(DRAINED, 'a', 'only'), 3000, 3000);
  }

  const names = [['a'], ['a', 'only'], ['a', 'file'], ['a', 'only', 'other'], ['a', 'link'], ['fifo'], ['a', 'there']];
  /** What the union shows of each name. */
  const view = () => names.map((path) => `${path.join('/')} ${numberOf(find(...path))}`);

  function expectMoved(): void {
    const there = (...path: string[]) => on(OTHER, ...path);
    expect(readFileSync(there('a', 'only', 'other'), 'utf8')).to.equal('content');
    expect(statSync(there('a', 'file')).nlink).to.equal(2);
    expect(readlinkSync(there('a', 'link'))).to.equal('nowhere');
    expect(lstatSync(there('fifo')).isFIFO()).to.equal(true);
    expect(lstatSync(there('fifo')).mode & 0o777).to.equal(0o604);
    expect(readdirSync(on(DRAINED))).to.deep.equal([]);
  }

  it('takes files, links, fifos and directories elsewhere, with their times and numbers', () => {
    plant();
    const before = view();
    const { isRetired, progress } = drain();
    expect(isRetired).to.equal(true);
    expect(progress.files).to.equal(3);
    expectMoved();
    expect(statSync(on(OTHER, 'a')).mtimeMs).to.equal(2_000_000);
    expect(statSync(on(OTHER, 'a', 'only')).mtimeMs).to.equal(3_000_000);
    expect(view()).to.deep.equal(before);
    expect(driver.context.branchTable.list().map(({ index }) => index)).to.deep.equal([1, 2]);
  });

  it('leaves branches that show the same when they are mounted without it', () => {
    plant();
    const before = view();
    drain();
    driver = new FuseDriver(2, 'exclusive', undefined, { folder: driver.crash(), first: 1 });
    expect(view()).to.deep.equal(before);
  });

  it('has other numbers for the inodes that were left when the branch comes back', () => {
    plant();
    const paths = [['a'], ['a', 'only'], ['a', 'file'], ['a', 'link'], ['fifo']];
    const left = paths.map((path) => [DRAINED, lstatSync(on(DRAINED, ...path)).ino] as const);
    driver.ask(OP.SETXATTR, find('a', 'file'), moveRequest(on(2)));
    const leftNext = [2, statSync(on(2, 'a', 'file')).ino] as const;
    const before = view();
    drain();
    drain({ branch: 2 });
    driver = new FuseDriver(3, 'exclusive', undefined, { folder: driver.crash() });
    expect(view()).to.deep.equal(before);
    const { context } = driver;
    const shown = [...left, leftNext].map(
      ([branch, ino]) => `${shownHigh(context, branch, ino, 0)}:${shownLow(context, branch, ino, 0)}`,
    );
    const taken = before.map((line) => line.split(' ')[1]!);
    expect(shown.filter((number) => taken.includes(number))).to.deep.equal([]);
    expect(new Set(shown).size).to.equal(shown.length);
  });

  it('leaves what other branches hide where it is, and counts it', () => {
    mkdirSync(on(OTHER, 'd', 'empty'), { recursive: true });
    writeFileSync(on(OTHER, 'd', 'shown'), 'shown');
    writeFileSync(on(OTHER, 'd', 'hidden'), 'hidden');
    mkdirSync(on(OTHER, 'x', 'y'), { recursive: true });
    mkdirSync(on(DRAINED, 'd'));
    writeFileSync(on(DRAINED, 'd', 'hidden'), 'first');
    writeFileSync(on(DRAINED, 'x'), 'a file');
    const { isRetired, pass } = drain({ branch: OTHER });
    expect(isRetired).to.equal(true);
    expect(pass).to.include({ hiddenCount: 2, leftCount: 0 });
    expect(readFileSync(on(OTHER, 'd', 'hidden'), 'utf8')).to.equal('hidden');
    expect(readdirSync(on(OTHER, 'd'))).to.deep.equal(['hidden']);
    expect(readdirSync(on(OTHER, 'x'))).to.deep.equal(['y']);
    expect(readFileSync(on(DRAINED, 'd', 'shown'), 'utf8')).to.equal('shown');
    expect(existsSync(on(DRAINED, 'd', 'empty'))).to.equal(true);
    expect(driver.ask(OP.UNLINK, find('d'), ['hidden']).result).to.equal(0);
    expect(driver.lookup(find('d'), 'hidden')).to.equal(0);
    expect(readFileSync(on(OTHER, 'd', 'hidden'), 'utf8')).to.equal('hidden');
  });

  it('waits for a file that is open past the server', () => {
    plant();
    const node = find('a', 'file');
    driver.context.inodes.add(node, F.opens, 1); // what an open with passthrough leaves in the tables
    const { isRetired, pass } = drain();
    expect(isRetired).to.equal(false);
    expect(pass).to.include({ leftCount: 1, openCount: 1 });
    expect(pass.left[0]).to.deep.equal({ path: '/a/file', why: 'it is open past the server, until it is closed' });
    driver.context.inodes.add(node, F.opens, -1);
    expect(drain().isRetired).to.equal(true);
    expectMoved();
  });

  it('takes files along that lost their names, and directories', () => {
    plant();
    const handle = driver.ask(OP.OPEN, find('a', 'file'), [2, 0]).word(0);
    const node = find('a', 'file');
    driver.ask(OP.UNLINK, find('a'), ['file']);
    driver.ask(OP.UNLINK, find('a', 'only'), ['other']);
    const gone = driver.mkdir(find('a'), 'gone');
    driver.ask(OP.RMDIR, find('a'), ['gone']);
    expect(drain().isRetired).to.equal(true);
    expect(driver.context.inodes.get(node, F.branch)).to.equal(OTHER);
    expect(driver.ask(OP.READ, node, [handle, 0, 0, 0, 100]).result).to.equal('content'.length);
    expect(driver.ask(OP.GETATTR, gone, [0, 0, 0, 0]).result).to.be.greaterThan(0);
  });

  it('begins again when something was renamed meanwhile', () => {
    plant();
    const meanwhile = () => void driver.ask(OP.RENAME, find('a'), [ROOT, 0, 'only', 'moved']);
    expect(drain({ meanwhile }).isRetired).to.equal(false);
    expect(drain().isRetired).to.equal(true);
  });

  it('notes renames and links on the branch', () => {
    plant();
    const { branchTable } = driver.context;
    branchTable.drain(DRAINED);
    const count = () => branchTable.renames(DRAINED);
    driver.ask(OP.RENAME, find('a'), [ROOT, 0, 'file', 'moved']);
    expect(count()).to.equal(1);
    driver.ask(OP.LINK, ROOT, [find('moved'), 0, 'linked']);
    expect(count()).to.equal(2);
    driver.ask(OP.RENAME, ROOT, [ROOT, 0, 'a', 'b']);
    expect(count()).to.equal(3);
    driver.ask(OP.RENAME, find('b'), [ROOT, 0, 'there', 'elsewhere']);
    expect(count()).to.equal(3);
  });

  it('begins again when a directory has lost its copies on the others meanwhile', () => {
    mkdirSync(on(DRAINED, 'd'));
    mkdirSync(on(OTHER, 'd'));
    driver.list(find('d'));
    const stray = on(DRAINED, 'd', 'came behind the index');
    const meanwhile = () => {
      writeFileSync(stray, '');
      expect(driver.ask(OP.RMDIR, ROOT, ['d']).result, 'half done').to.equal(-ENOTEMPTY);
      expect(existsSync(on(OTHER, 'd'))).to.equal(false);
      unlinkSync(stray);
    };
    expect(drain({ meanwhile }).isRetired).to.equal(false);
    expect(drain().isRetired).to.equal(true);
    expect(driver.list(ROOT)).to.deep.equal(['d']);
    expect(existsSync(on(OTHER, 'd'))).to.equal(true);
  });

  it('is a branch as before when its removal had come to its end, but the server died and it is not removed after all', () => {
    plant();
    drain({ until: 'retired' });
    driver.restart();
    restoreBranch(driver.context.state, DRAINED);
    driver.context.branchTable.set(DRAINED, { mode: 'RW', minFreeSpaceBytes: 0 });
    expect(driver.mkdir(ROOT, 'new')).to.be.greaterThan(0);
    expect(existsSync(on(DRAINED, 'new'))).to.equal(true);
    expect(driver.list(ROOT).toSorted()).to.deep.equal(['a', 'fifo', 'new']);
  });

  it('is a branch as before when it is not removed after all', () => {
    plant();
    const before = view();
    const { context } = driver;
    drain({ meanwhile: () => context.branchTable.noteRename(DRAINED) });
    restoreBranch(context.state, DRAINED);
    context.branchTable.set(DRAINED, { mode: 'RW', minFreeSpaceBytes: 0 });
    expect(view()).to.deep.equal(before);
    expect(driver.mkdir(ROOT, 'new')).to.be.greaterThan(0);
    expect(existsSync(on(DRAINED, 'new'))).to.equal(true);
  });

  for (const crash of CRASHES)
    it(`goes on after a crash behind step ${crash + 1}, under a successor and when mounted anew`, () => {
      plant();
      const before = view();
      let folder = driver.crash();
      for (const isSuccessor of [true, false]) {
        let steps = 0;
        const onMoveStep = () => {
          if (steps++ === crash) throw new Error('crash');
        };
        driver = new FuseDriver(3, 'exclusive', undefined, { folder, onMoveStep });
        expect(view()).to.deep.equal(before);
        if (isSuccessor) expect(() => drain()).to.throw('crash');
        else finishOrCrash();
        if (isSuccessor) {
          driver.restart();
          expect(view()).to.deep.equal(before);
        }
        folder = driver.crash();
      }
      driver = new FuseDriver(3, 'exclusive', undefined, { folder });
      expect(view()).to.deep.equal(before);
      expect(drain().isRetired).to.equal(true);
      expect(view()).to.deep.equal(before);
      expectMoved();
    });
});
