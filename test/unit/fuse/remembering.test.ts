import { existsSync, lutimesSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { F } from '../../../fuse/inode/inode-table.ts';
import { BACKING_RING, WORD } from '../../../fuse/inode/layout.ts';
import { evictNames } from '../../../fuse/ops/eviction.ts';
import { OP } from '../../../fuse/protocol/abi.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';

const ROOT = 1;
const MODE = 40 + 60;
const ATTR_MODE = 16 + 60;
const ATTR_ATIME = 16 + 24;

describe('what the union remembers', () => {
  let driver: FuseDriver;

  beforeEach(() => {
    driver = new FuseDriver(2);
  });

  afterEach(() => driver.close());

  const writeLower = (branch: number, name: string, content = '') =>
    writeFileSync(join(driver.paths[branch]!, name), content);
  const names = () => driver.context.u32[WORD.dentryCount]!;
  const inodes = () => driver.context.u32[WORD.inodeCount]!;
  /** Makes a file that has a backing id, and closes it: its inode. */
  const closed = (name: string) => {
    const made = driver.ask(OP.CREATE, ROOT, [0o2, 0o644, 0, 0, name]);
    driver.context.inodes.set(made.word(0), F.backing, 1);
    driver.ask(OP.RELEASE, made.word(0), [made.word(128), 0]);
    return made.word(0);
  };

  it('keeps the attributes of a file that the kernel forgot, without a look at the branch', () => {
    writeLower(1, 'file', 'content');
    const node = driver.lookup(ROOT, 'file');
    driver.lookup(ROOT, 'missing');
    driver.lookup(ROOT, 'missing'); // the second makes the directory complete
    driver.forget(node);
    renameSync(join(driver.paths[1]!, 'file'), join(driver.paths[1]!, 'taken'));
    expect(driver.lookup(ROOT, 'file')).to.be.greaterThan(0);
  });

  it('keeps the attributes of a file that was written and closed, without a look at the branch', () => {
    const node = closed('file');
    renameSync(join(driver.paths[0]!, 'file'), join(driver.paths[0]!, 'taken'));
    const answer = driver.ask(OP.GETATTR, node, [0, 0, 0, 0]);
    expect(answer.result).to.be.greaterThan(0);
    expect(answer.word(ATTR_MODE)).to.equal(0o100644);
  });

  it('looks again at a link, whose access time moves when it is read', () => {
    symlinkSync('target', join(driver.paths[1]!, 'link'));
    const node = driver.lookup(ROOT, 'link');
    lutimesSync(join(driver.paths[1]!, 'link'), 12345, 0);
    expect(driver.ask(OP.GETATTR, node, [0, 0, 0, 0]).word(ATTR_ATIME)).to.equal(12345);
  });

  it('looks again after a change of mode, before and after the kernel forgot the file', () => {
    writeLower(0, 'file');
    const node = driver.lookup(ROOT, 'file');
    expect(driver.ask(OP.SETATTR, node, setMode(0o600)).result).to.be.greaterThan(0);
    expect(driver.ask(OP.LOOKUP, ROOT, ['file']).word(MODE) & 0o777).to.equal(0o600);
    driver.forget(node, 2);
    expect(driver.ask(OP.LOOKUP, ROOT, ['file']).word(MODE) & 0o777).to.equal(0o600);
  });

  it('knows the size of what was written once the file is closed', () => {
    const SIZE = 40 + 8;
    const made = driver.ask(OP.CREATE, ROOT, [0o2, 0o644, 0, 0, 'file']);
    const node = made.word(0);
    const handle = made.word(128);
    expect(driver.ask(OP.WRITE, node, [handle, 0, 0, 0, 5, 0, 0, 0, 0, 0, 'hello']).word(0)).to.equal(5);
    expect(driver.ask(OP.LOOKUP, ROOT, ['file']).word(SIZE)).to.equal(5);
    driver.ask(OP.WRITE, node, [handle, 0, 5, 0, 5, 0, 0, 0, 0, 0, 'world']);
    driver.ask(OP.RELEASE, node, [handle, 0]);
    expect(driver.ask(OP.LOOKUP, ROOT, ['file']).word(SIZE)).to.equal(10);
  });

  it('keeps backing ids of as many closed files as the ring has places, also of those that the kernel forgot', () => {
    const { inodes } = driver.context;
    const known = driver.context.u32[WORD.inodeCount]!;
    const nodes: number[] = [];
    for (let index = 0; index < BACKING_RING + 10; index++) {
      const made = driver.ask(OP.CREATE, ROOT, [0o2, 0o644, 0, 0, `f${index}`]);
      inodes.set(made.word(0), F.backing, index + 1);
      driver.ask(OP.RELEASE, made.word(0), [made.word(128), 0]);
      nodes.push(made.word(0));
    }
    const kept = nodes.filter((node) => inodes.get(node, F.backing) !== 0);
    expect(kept.length).to.equal(BACKING_RING);
    expect(kept[0]).to.equal(nodes[10]);
    for (const node of nodes) driver.forget(node);
    expect(driver.context.u32[WORD.inodeCount]! - known).to.equal(BACKING_RING);
    expect(inodes.get(driver.lookup(ROOT, 'f9'), F.backing)).to.equal(0);
    const [removed, replaced] = [driver.lookup(ROOT, 'f10'), driver.lookup(ROOT, 'f11')];
    expect([removed, replaced].map((node) => inodes.get(node, F.backing))).to.deep.equal([11, 12]);
    driver.forget(replaced);
    driver.ask(OP.UNLINK, ROOT, ['f10']);
    driver.ask(OP.RENAME, ROOT, [ROOT, 0, 'f9', 'f11']);
    driver.forget(removed);
    expect([removed, replaced].map((node) => inodes.isUsed(node))).to.deep.equal([false, false]);
  });

  it('keeps no backing id of a file of which the name has become another’s, as when a dead server had just made it', () => {
    const known = inodes();
    driver.forget(closed('file'));
    rmSync(join(driver.paths[0]!, 'file'));
    closed('file');
    expect(inodes()).to.equal(known + 1);
  });

  it('takes no backing id from a file whose inode was that of another one in the ring', () => {
    const { inodes, u32 } = driver.context;
    const removed = closed('removed');
    driver.ask(OP.UNLINK, ROOT, ['removed']);
    driver.forget(removed);
    const file = closed('file');
    expect(file).to.equal(removed);
    u32[WORD.backingHand] = 0;
    closed('new');
    expect(inodes.get(file, F.backing)).to.equal(1);
  });

  it('makes room in the ring for a file by forgetting one that the kernel forgot', () => {
    const { inodes, u32 } = driver.context;
    const [forgotten, known] = [closed('forgotten'), closed('known')];
    driver.forget(forgotten);
    u32[WORD.backingHand] = 0;
    closed('new');
    expect(inodes.isUsed(forgotten)).to.equal(false);
    closed('newer');
    expect([inodes.isUsed(known), inodes.get(known, F.backing)]).to.deep.equal([true, 0]);
    driver.forget(known);
    expect(inodes.isUsed(known)).to.equal(false);
    expect(driver.lookup(ROOT, 'forgotten')).to.be.greaterThan(0);
  });

  it('counts the links of a file whose other name was looked up before', () => {
    const NLINK = 40 + 64;
    writeLower(0, 'one');
    const node = driver.lookup(ROOT, 'one');
    expect(driver.ask(OP.LINK, ROOT, [node, 0, 'two']).word(NLINK)).to.equal(2);
    expect(driver.ask(OP.LOOKUP, ROOT, ['one']).word(NLINK)).to.equal(2);
    driver.ask(OP.UNLINK, ROOT, ['two']);
    expect(driver.ask(OP.LOOKUP, ROOT, ['one']).word(NLINK)).to.equal(1);
  });

  it('keeps a directory and its names after the kernel forgot them', () => {
    const directory = driver.mkdir(ROOT, 'd');
    for (let index = 0; index < 10; index++) driver.ask(OP.MKNOD, directory, [0o100644, 0, 0, 0, `f${index}`]);
    for (let index = 0; index < 10; index++) driver.forget(driver.lookup(directory, `f${index}`), 2);
    driver.forget(directory);
    const known = names();
    const again = driver.lookup(ROOT, 'd');
    expect(again).to.equal(directory);
    writeLower(0, 'd/behind-our-back');
    expect(driver.lookup(again, 'behind-our-back')).to.equal(0);
    expect(names()).to.equal(known);
  });

  it('takes idle names out when there are too many, and finds the files again', () => {
    for (let index = 0; index < 20; index++) {
      const directory = driver.mkdir(ROOT, `d${index}`);
      for (let file = 0; file < 20; file++) {
        const made = driver.ask(OP.MKNOD, directory, [0o100644, 0, 0, 0, `f${file}`]);
        driver.forget(made.word(0));
      }
      driver.forget(directory);
    }
    expect(names() - inodes()).to.be.greaterThan(300);
    for (let round = 0; round < 100; round++) evictNames(driver.context, 10);
    expect(names() - inodes()).to.be.at.most(10);
    const directory = driver.lookup(ROOT, 'd7');
    expect(driver.lookup(directory, 'f13')).to.be.greaterThan(0);
    expect(driver.lookup(directory, 'f99')).to.equal(0);
  });

  it('never takes out a name whose file the kernel knows', () => {
    const directory = driver.mkdir(ROOT, 'd');
    const file = driver.ask(OP.MKNOD, directory, [0o100644, 0, 0, 0, 'held']).word(0);
    for (let index = 0; index < 50; index++)
      driver.forget(driver.ask(OP.MKNOD, directory, [0o100644, 0, 0, 0, `idle${index}`]).word(0));
    for (let round = 0; round < 20; round++) evictNames(driver.context, 0);
    expect(driver.ask(OP.GETATTR, file, [0, 0]).result).to.be.greaterThan(0);
    expect(driver.lookup(directory, 'held')).to.equal(file);
    expect(driver.lookup(directory, 'idle7')).to.be.greaterThan(0);
  });

  describe('of what the kernel was told', () => {
    const told = () => driver.listPlus(ROOT).map((entry) => entry.told);

    it('is not told again with a listing, but for the number', () => {
      writeLower(1, 'file');
      const node = driver.lookup(ROOT, 'file');
      const ino = driver.ask(OP.GETATTR, node, [0, 0, 0, 0]).word(16);
      expect(driver.listPlus(ROOT)).to.deep.equal([{ name: 'file', ino, told: 0 }]);
      driver.forget(node);
      expect(told()).to.deep.equal([node]); // by which it knows it again
      expect(told()).to.deep.equal([0]);
    });

    it('is told again when the file has changed, or was open', () => {
      const node = closed('file');
      expect(told(), 'written').to.deep.equal([node]);
      expect(told()).to.deep.equal([0]);
      driver.ask(OP.SETATTR, node, setMode(0o600));
      expect(told(), 'changed').to.deep.equal([node]);
      expect(told()).to.deep.equal([0]);
      const handle = driver.ask(OP.OPEN, node, [0, 0]).word(0);
      expect(told(), 'open').to.deep.equal([node]);
      driver.ask(OP.RELEASE, node, [handle, 0]);
      expect(told(), 'was open').to.deep.equal([node]);
      expect(told()).to.deep.equal([0]);
    });

    it('is told with each listing where others write too', () => {
      driver.close();
      driver = new FuseDriver(2, 'shared');
      writeLower(1, 'file');
      const node = driver.lookup(ROOT, 'file');
      expect(told()).to.deep.equal([node]);
    });
  });

  it('does not conclude anything from its memory where others write too', () => {
    driver.close();
    driver = new FuseDriver(2, 'shared');
    mkdirSync(join(driver.paths[0]!, 'd'));
    const directory = driver.lookup(ROOT, 'd');
    expect(driver.lookup(directory, 'late')).to.equal(0);
    expect(driver.lookup(directory, 'late')).to.equal(0);
    writeLower(0, 'd/late');
    expect(existsSync(join(driver.paths[0]!, 'd/late'))).to.equal(true);
    expect(driver.lookup(directory, 'late')).to.be.greaterThan(0);
  });
});

/** fuse_setattr_in that sets the mode. */
function setMode(mode: number): number[] {
  const words = new Array<number>(22).fill(0);
  words[0] = 1;
  words[17] = mode;
  return words;
}
