import { existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { type PolicySettings, resolvePolicies, withoutEffect } from '../../../fuse/policy/functions.ts';
import { FATTR, OP, SETATTR_IN } from '../../../fuse/protocol/abi.ts';
import { ENOENT, EROFS } from '../../../fuse/sys/constants.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';
import { getXattr, setXattr } from '../../support/posix.ts';
import { needs, root } from '../../support/skip.ts';

const ROOT = 1;
const defaults: PolicySettings = { create: 'ff', action: 'epall', search: 'ff' };

describe('policies of functions', () => {
  let driver: FuseDriver;

  before(function () {
    needs(this, root);
  });

  afterEach(() => driver?.close());

  const open = (settings: Partial<PolicySettings>, branches = 3) => {
    driver = new FuseDriver(branches, 'exclusive', { ...defaults, ...settings });
    return driver;
  };
  const on = (name: string) => driver.paths.map((path) => existsSync(join(path, name)));
  const make = (opcode: number, name: string) =>
    ({
      [OP.CREATE]: () => driver.ask(OP.CREATE, ROOT, [0o102, 0o644, 0, 0, name]),
      [OP.MKNOD]: () => driver.ask(OP.MKNOD, ROOT, [0o100644, 0, 0, 0, name]),
      [OP.SYMLINK]: () => driver.ask(OP.SYMLINK, ROOT, [name, 'target']),
      [OP.MKDIR]: () => driver.ask(OP.MKDIR, ROOT, [0o755, 0, name]),
    })[opcode]!().result;

  /** Makes the root of one branch the newest. */
  const touch = (newest: number) => {
    for (const [index, path] of driver.paths.entries()) utimesSync(path, 1000, index === newest ? 2000 : 1000);
  };

  it('send what each makes where its own policy says', () => {
    open({ functions: { mkdir: 'newest', mknod: 'erofs', symlink: 'newest' } });
    touch(1);
    expect(make(OP.CREATE, 'file')).to.be.greaterThan(0);
    touch(1);
    expect(make(OP.MKDIR, 'directory')).to.be.greaterThan(0);
    touch(1);
    expect(make(OP.SYMLINK, 'link')).to.be.greaterThan(0);
    expect(driver.paths.map((path) => readdirSync(path).includes('link'))).to.deep.equal([false, true, false]);
    expect(make(OP.MKNOD, 'node')).to.equal(-EROFS);
    expect(on('file')).to.deep.equal([true, false, false]);
    expect(on('directory')).to.deep.equal([false, true, false]);
    expect(driver.lookup(ROOT, 'node')).to.equal(0);
  });

  it('all makes a directory on every branch, anything else on the first', () => {
    open({ create: 'all' });
    for (const opcode of [OP.CREATE, OP.MKNOD, OP.SYMLINK, OP.MKDIR]) make(opcode, `made-${opcode}`);
    expect(on(`made-${OP.MKDIR}`)).to.deep.equal([true, true, true]);
    for (const opcode of [OP.CREATE, OP.MKNOD]) expect(on(`made-${opcode}`)).to.deep.equal([true, false, false]);
    const directory = driver.lookup(ROOT, `made-${OP.MKDIR}`);
    expect(driver.ask(OP.MKDIR, directory, [0o755, 0, 'below']).result).to.be.greaterThan(0);
    expect(on(`made-${OP.MKDIR}/below`)).to.deep.equal([true, true, true]);
    expect(driver.ask(OP.RMDIR, directory, ['below']).result).to.equal(0);
    expect(on(`made-${OP.MKDIR}/below`)).to.deep.equal([false, false, false]);
  });

  it('epall makes a directory on every branch that has the parent', () => {
    open({ functions: { mkdir: 'epall' } });
    for (const path of driver.paths.slice(1)) mkdirSync(join(path, 'parent'));
    const parent = driver.lookup(ROOT, 'parent');
    driver.ask(OP.MKDIR, parent, [0o755, 0, 'child']);
    expect(on('parent/child')).to.deep.equal([false, true, true]);
  });

  it('newest looks only where the parent is', () => {
    open({ create: 'newest' });
    mkdirSync(join(driver.paths[1]!, 'parent'));
    mkdirSync(join(driver.paths[2]!, 'parent'));
    utimesSync(join(driver.paths[2]!, 'parent'), 9, 9e9);
    const parent = driver.lookup(ROOT, 'parent');
    driver.ask(OP.CREATE, parent, [0o102, 0o644, 0, 0, 'file']);
    expect(on('parent/file')).to.deep.equal([false, false, true]);
    for (const branch of [1, 2]) driver.context.branchTable.set(branch, { mode: 'NC', minFreeSpaceBytes: 0 });
    expect(driver.ask(OP.CREATE, parent, [0o102, 0o644, 0, 0, 'other']).result).to.equal(-EROFS);
  });

  it('erofs refuses its function and no other', () => {
    open({ functions: { unlink: 'erofs', chmod: 'erofs', truncate: 'erofs', open: 'erofs' } });
    writeFileSync(join(driver.paths[0]!, 'file'), 'content');
    const file = driver.lookup(ROOT, 'file');
    const setattr = (valid: number) => {
      const body: number[] = new Array(22).fill(0);
      body[SETATTR_IN.valid / 4] = valid;
      return driver.ask(OP.SETATTR, file, body).result;
    };
    expect(driver.ask(OP.UNLINK, ROOT, ['file']).result).to.equal(-EROFS);
    expect(driver.ask(OP.OPEN, file, [0, 0]).result).to.equal(-EROFS);
    expect(setattr(FATTR.MODE)).to.equal(-EROFS);
    expect(setattr(FATTR.SIZE | FATTR.MTIME)).to.equal(-EROFS);
    expect(setattr(FATTR.UID | FATTR.GID)).to.be.greaterThan(0);
    expect(setattr(FATTR.MTIME)).to.be.greaterThan(0);
    expect(driver.ask(OP.RMDIR, ROOT, ['nothing']).result).to.equal(-ENOENT);
  });

  describe('search', () => {
    const copies = (settings: Partial<PolicySettings>) => {
      open(settings);
      for (const [index, path] of driver.paths.entries()) {
        mkdirSync(join(path, 'd'), { mode: 0o710 + index });
        setXattr(join(path, 'd'), 'user.copy', `${index}`);
        utimesSync(join(path, 'd'), 1000, index === 1 ? 3000 : 2000);
        writeFileSync(join(path, 'file'), 'x'.repeat(index));
        utimesSync(join(path, 'file'), 1000, index === 1 ? 3000 : 2000);
      }
      return driver.lookup(ROOT, 'd');
    };
    const mode = (slot: number) => driver.ask(OP.GETATTR, slot, [0, 0, 0, 0]).word(16 + 60) & 0o777;
    const xattr = (slot: number) => {
      const { result } = driver.ask(OP.GETXATTR, slot, [10, 0, 'user.copy']);
      return Buffer.from(driver.context.u8.subarray(driver.context.out, driver.context.out + result)).toString();
    };

    it('decides which copy of a directory speaks for its mode and its extended attributes', () => {
      const first = copies({});
      expect([mode(first), xattr(first)]).to.deep.equal([0o710, '0']);
      driver.close();
      const newest = copies({ search: 'newest' });
      expect([mode(newest), xattr(newest)]).to.deep.equal([0o711, '1']);
      driver.close();
      const mixed = copies({ functions: { getxattr: 'newest' } });
      expect([mode(mixed), xattr(mixed)]).to.deep.equal([0o710, '1']);
    });

    it('leaves files to the order of the branches', () => {
      copies({ search: 'newest' });
      const file = driver.lookup(ROOT, 'file');
      expect(driver.ask(OP.GETATTR, file, [0, 0, 0, 0]).word(16 + 8)).to.equal(0);
    });

    it('changes every copy of a directory, whichever speaks', () => {
      const slot = copies({ search: 'newest' });
      const body: number[] = new Array(22).fill(0);
      body[SETATTR_IN.valid / 4] = FATTR.MODE;
      body[SETATTR_IN.mode / 4] = 0o40700;
      driver.ask(OP.SETATTR, slot, body);
      driver.ask(OP.SETXATTR, slot, [3, 0, 'user.copy', 'all']);
      expect(mode(slot)).to.equal(0o700);
      for (const path of driver.paths) {
        expect(statSync(join(path, 'd')).mode & 0o777).to.equal(0o700);
        expect(getXattr(join(path, 'd'), 'user.copy').toString()).to.equal('all');
      }
    });
  });
});

describe('resolvePolicies', () => {
  it('names what is wrong', () => {
    expect(() => resolvePolicies({ ...defaults, create: 'mf' })).to.throw(
      'unknown policy "mf" for create; known are all ff',
    );
    expect(() => resolvePolicies({ ...defaults, functions: { reader: 'ff' } })).to.throw(
      'no function reader has a policy',
    );
    expect(() => resolvePolicies({ ...defaults, search: 'erofs' })).to.throw('would refuse every file');
  });
});

describe('withoutEffect', () => {
  const said = (settings: Partial<PolicySettings>) => withoutEffect({ ...defaults, ...settings });

  it('is silent where a setting does what it says', () => {
    expect(said({})).to.deep.equal([]);
    expect(said({ action: 'erofs', search: 'epff' })).to.deep.equal([]);
    expect(said({ functions: { mkdir: 'all', unlink: 'erofs', open: 'erofs', create: 'msplus' } })).to.deep.equal([]);
  });

  it('says of every other what it does not do', () => {
    const oneCopy = 'a file is on one branch, and a directory is changed on all of its branches';
    expect(said({ action: 'epff' })).to.deep.equal([`category.action=epff has no effect: ${oneCopy}`]);
    expect(said({ create: 'all' })).to.deep.equal([
      'category.create=all: only directories are made on every branch; all else is made on one',
    ]);
    expect(
      said({ functions: { chmod: 'ff', access: 'erofs', open: 'newest', symlink: 'all', getattr: 'mfs' } }),
    ).to.deep.equal([
      `func.chmod=ff has no effect: ${oneCopy}`,
      'func.access=erofs has no effect: the kernel does not ask',
      'func.open=newest has no effect: the first branch’s file is the one that shows',
      'func.symlink=all has no effect: only directories are made on every branch; all else is made on one',
      'func.getattr=mfs: decides for directories alone; of files of one name the first branch’s shows',
    ]);
  });
});
