import { closeSync, mkdirSync, openSync, rmdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { markCopy } from '../../../fuse/ops/copy-mark.ts';
import { OP, STATX } from '../../../fuse/protocol/abi.ts';
import { AT_EMPTY_PATH } from '../../../fuse/sys/constants.ts';
import * as libc from '../../../fuse/sys/libc.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';
import { getXattr, setXattr } from '../../support/posix.ts';
import { needs, root } from '../../support/skip.ts';

const ROOT = 1;
/** Of fuse_entry_out: st_ino. */
const INO = 40;
/** Of fuse_entry_out: st_nlink. */
const LINKS = 40 + 64;

describe('the number of a directory', () => {
  let driver: FuseDriver;

  before(function () {
    needs(this, root);
  });

  beforeEach(() => {
    driver = new FuseDriver(2, 'shared', { create: 'newest', action: 'epall', search: 'ff' });
  });

  afterEach(() => driver.close());

  const number = (name: string) => {
    const reply = driver.ask(OP.LOOKUP, ROOT, [name]);
    const [node, low, high] = [reply.word(0), reply.word(INO), reply.word(INO + 4)];
    driver.forget(node);
    return `${high}:${low}`;
  };
  const birth = (path: string) => statSync(path, { bigint: true }).birthtimeNs;

  /** A directory that both branches got within one tick of the clock. */
  const makeTwins = (): string => {
    for (let round = 0; round < 5000; round++) {
      const name = `directory ${round}`;
      const [a, b] = driver.paths.map((path) => join(path, name)) as [string, string];
      mkdirSync(b);
      mkdirSync(a);
      if (birth(a) === birth(b)) return name;
    }
    throw new Error('no two directories of one birth time');
  };

  it('stays when it is copied to an earlier branch', () => {
    const [a, b] = driver.paths as [string, string];
    for (let round = 0; round < 20; round++) {
      const name = `directory ${round}`;
      writeFileSync(join(a, `file ${round}`), '');
      utimesSync(a, 1000, 1000);
      utimesSync(b, 1000, 4e9);
      const made = driver.ask(OP.MKDIR, ROOT, [0o755, 0, name]);
      const before = `${made.word(INO + 4)}:${made.word(INO)}`;
      const directory = made.word(0);
      expect(driver.ask(OP.RENAME, ROOT, [directory, 0, `file ${round}`, 'file']).result).to.equal(0);
      driver.forget(directory);
      expect(number(name)).to.equal(before);
    }
  });

  it('goes with links that are 1 where several branches have subdirectories and others write', () => {
    const [a, b] = driver.paths as [string, string];
    for (const [branch, names] of [
      [a, ['x', 'y']],
      [b, ['x']],
    ] as const)
      for (const name of names) mkdirSync(join(branch, 'directory', name), { recursive: true });
    expect(driver.ask(OP.LOOKUP, ROOT, ['directory']).word(LINKS)).to.equal(1);
    rmdirSync(join(b, 'directory/x'));
    expect(driver.ask(OP.LOOKUP, ROOT, ['directory']).word(LINKS)).to.equal(4);
  });

  it('is not that of a copy that is marked as one, of two of one birth time', () => {
    const name = makeTwins();
    const [a, b] = driver.paths.map((path) => statSync(join(path, name), { bigint: true }).ino) as [bigint, bigint];
    expect(number(name).split(':')[1]).to.equal(`${a & 0xffffffffn}`);
    setXattr(join(driver.paths[0]!, name), 'trusted.union.copy', '');
    expect(number(name).split(':')[1]).to.equal(`${b & 0xffffffffn}`);
  });

  it('is marked on a copy that is not younger than the original', () => {
    const { context } = driver;
    const path = join(driver.paths[0]!, 'directory');
    mkdirSync(path);
    const descriptor = openSync(path, 'r');
    const isMarked = () => {
      try {
        return getXattr(path, 'trusted.union.copy') === '';
      } catch {
        return false;
      }
    };
    for (const stat of [context.stat, context.stat2])
      libc.statx(descriptor, context.base + context.emptyName, AT_EMPTY_PATH, 0xfff, context.base + stat);
    const nanoseconds = (context.stat2 + STATX.btime) / 4 + 2;
    context.u32[nanoseconds]! -= 1;
    markCopy(context, descriptor, context.stat, context.stat2);
    expect(isMarked()).to.equal(false);
    context.u32[nanoseconds]! += 1;
    markCopy(context, descriptor, context.stat, context.stat2);
    expect(isMarked()).to.equal(true);
    closeSync(descriptor);
  });

  it('hides the mark of the copy, and lets nobody set it', () => {
    const [a, b] = driver.paths as [string, string];
    utimesSync(a, 1000, 1000);
    utimesSync(b, 1000, 4e9);
    const directory = driver.mkdir(ROOT, 'directory');
    const list = () => {
      const { result } = driver.ask(OP.LISTXATTR, directory, [1000, 0]);
      return Buffer.from(driver.context.u8.subarray(driver.context.out, driver.context.out + result)).toString();
    };
    writeFileSync(join(a, 'file'), '');
    driver.ask(OP.RENAME, ROOT, [directory, 0, 'file', 'file']);
    driver.ask(OP.SETXATTR, directory, [1, 0, 'user.x', '1']);
    expect(list()).to.equal('user.x\0');
    expect(driver.ask(OP.SETXATTR, directory, [1, 0, 'trusted.union.copy', '1']).result).to.equal(-1);
    expect(driver.ask(OP.GETXATTR, directory, [10, 0, 'trusted.union.copy']).result).to.equal(-61);
  });
});
