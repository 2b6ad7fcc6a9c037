/** The copy of a directory on one more branch: like the original, however it was made. */
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, rmdirSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { OP } from '../../../fuse/protocol/abi.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';
import { Killed, Killer } from '../../support/killer.ts';
import { makeLoopBranches, runProgram } from '../../support/loop-branches.ts';
import { getXattr, listXattrs, setXattr } from '../../support/posix.ts';
import { loop, needs, root } from '../../support/skip.ts';

const ROOT = 1;
const O_RDWR = 2;
/** Seconds: when originals were last read and changed. */
const PAST = 1_000_000;

describe('a directory that is made on one more branch', () => {
  let driver: FuseDriver;
  let original: string;
  let above: string;
  let copy: string;

  before(function () {
    needs(this, root);
  });

  beforeEach(() => {
    driver = new FuseDriver(2);
    above = join(driver.paths[0]!, 'above');
    original = join(driver.paths[1]!, 'above/directory');
    copy = join(above, 'directory');
    mkdirSync(above);
    mkdirSync(original, { recursive: true });
  });

  afterEach(() => driver.close());

  /** Both are like this before a file is made in the copy. */
  const age = () => {
    for (const path of [above, original]) utimesSync(path, PAST, PAST);
  };
  const directory = () => driver.lookup(driver.lookup(ROOT, 'above'), 'directory');
  const create = () => driver.ask(OP.CREATE, directory(), [O_RDWR, 0o640, 0, 0, 'file']).result;
  const acl = (path: string) =>
    spawnSync('getfacl', ['--omit-header', '--absolute-names', path], { encoding: 'utf8' }).stdout;
  const expectLike = () => {
    expect(create()).to.be.above(0);
    const [one, other] = [statSync(original), statSync(copy)];
    expect([other.mode, other.uid, other.gid]).to.deep.equal([one.mode, one.uid, one.gid]);
    expect(other.atimeMs).to.equal(PAST * 1000);
    expect(statSync(above).mtimeMs, 'above').to.equal(PAST * 1000);
    expect(acl(copy)).to.equal(acl(original));
  };
  const wasDraft = () => existsSync(join(driver.paths[0]!, '.union'));

  it('is made in its place when one call can make it: owner and mode are right from the beginning', () => {
    chmodSync(original, 0o1731);
    chownSync(original, 1234, 5678);
    // The thread of this test, unlike a reader, has the rights of the user that it acts as.
    chownSync(above, 1234, 0);
    age();
    expectLike();
    expect(wasDraft()).to.equal(false);
  });

  it('is made by a draft where its owner may not make it', () => {
    chownSync(original, 1234, 5678);
    age();
    expectLike();
    expect(wasDraft()).to.equal(true);
  });

  it('has a set-group-id bit', () => {
    chmodSync(original, 0o2755);
    age();
    expectLike();
    expect(wasDraft()).to.equal(true);
  });

  it('does not get the group of what is above it on its branch', () => {
    chownSync(above, 0, 5678);
    chmodSync(above, 0o2755);
    age();
    expectLike();
  });

  it('does not get the default ACL of what is above it on its branch', () => {
    spawnSync('setfacl', ['-m', 'd:u:1234:rwx', above]);
    expect(acl(above)).to.include('default:user:1234:rwx');
    age();
    expectLike();
  });

  it('has extended attributes, ACLs among them', () => {
    setXattr(original, 'user.x', '1');
    spawnSync('setfacl', ['-m', 'u:1234:rx,d:u:77:rwx', original]);
    age();
    expectLike();
    expect(getXattr(copy, 'user.x')).to.equal('1');
  });

  it('is made by a directory that is a copy itself, whose mark is its own', () => {
    setXattr(original, 'trusted.union.copy', '');
    age();
    expectLike();
    expect(wasDraft()).to.equal(false);
    expect(listXattrs(copy).filter((name) => !name.startsWith('trusted.union.'))).to.deep.equal([]);
  });

  it('is whole when a server was killed while it made it', () => {
    let between = 0;
    driver.close();
    for (let stores = 0, isOver = false; !isOver; stores++) {
      const killer = new Killer();
      driver = new FuseDriver(2, 'exclusive', undefined, { view: killer.view });
      [original, copy] = [join(driver.paths[1]!, 'directory'), join(driver.paths[0]!, 'directory')];
      mkdirSync(original);
      utimesSync(original, PAST, PAST);
      const node = driver.lookup(ROOT, 'directory');
      driver.place(OP.CREATE, node, [O_RDWR, 0o640, 0, 0, 'file']);
      killer.arm(stores);
      Killed.survive(() => driver.perform());
      killer.arm();
      isOver = driver.context.inodes.onBranch(node, 0);
      const isMade = existsSync(copy);
      if (isMade && !isOver) between++;
      driver.restart();
      // The file is made beside the original, and what had been begun is ended all the same.
      driver.context.branchTable.set(0, { mode: 'NC', minFreeSpaceBytes: 0 });
      driver.resume();
      utimesSync(original, PAST, PAST);
      expect(driver.ask(OP.MKDIR, ROOT, [0o755, 0, 'other']).result).to.be.above(0);
      driver.ask(OP.RENAME, ROOT, [ROOT, 0, 'other', 'another']);
      if (isMade && !isOver) expect(statSync(copy).mtimeMs, `killed after ${stores} stores`).to.equal(PAST * 1000);
      driver.close();
    }
    driver = new FuseDriver(1);
    expect(between).to.be.above(3);
  });

  it('has its group where the filesystem gives new directories another one', function () {
    needs(this, loop);
    const branches = makeLoopBranches([16 * 1024 ** 2]);
    const folder = branches.paths[0]!;
    driver.close();
    driver = new FuseDriver(2, 'exclusive', undefined, { folder: join(folder, 'driver') });
    try {
      runProgram('mount', ['-o', 'remount,grpid', folder]);
      [above, original] = [driver.paths[0]!, join(driver.paths[1]!, 'directory')];
      mkdirSync(original);
      chownSync(original, 0, 5678);
      expect(driver.ask(OP.CREATE, driver.lookup(ROOT, 'directory'), [O_RDWR, 0o640, 0, 0, 'file']).result).to.be.above(
        0,
      );
      expect(statSync(join(above, 'directory')).gid).to.equal(5678);
    } finally {
      driver.close();
      branches.close();
      driver = new FuseDriver(1);
    }
  });

  it('is no copy where somebody else has made a directory meanwhile: that keeps its times', () => {
    const node = directory();
    mkdirSync(copy);
    utimesSync(copy, PAST / 2, PAST / 2);
    expect(driver.ask(OP.CREATE, node, [O_RDWR, 0o640, 0, 0, 'file']).result).to.be.above(0);
    expect(statSync(copy).atimeMs).to.equal((PAST / 2) * 1000);
    expect(() => rmdirSync(copy)).to.throw('ENOTEMPTY');
  });
});
