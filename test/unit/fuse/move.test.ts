import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { F } from '../../../fuse/inode/inode-table.ts';
import { shownHigh, shownLow } from '../../../fuse/ops/inode-number.ts';
import { moveTo } from '../../../fuse/ops/move.ts';
import { OP } from '../../../fuse/protocol/abi.ts';
import { EBUSY, EEXIST } from '../../../fuse/sys/constants.ts';
import { takeOver } from '../../../fuse/transport/takeover.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';
import { getXattr, setXattr } from '../../support/posix.ts';

const ROOT = 1;
const O_RDWR = 2;

/** Where a crash can come, in order; a file with two names takes some of them twice. */
const STEPS = ['copied', 'intended', 'link', 'link', 'remove', 'remove', 'remove', 'synced', 'number', 'number'];

describe('moving a file', () => {
  let driver: FuseDriver;

  beforeEach(() => {
    driver = new FuseDriver(3);
  });

  afterEach(() => driver.close());

  const on = (branch: number, ...names: string[]) => join(driver.paths[branch]!, ...names);
  const own = (branch: number) => (existsSync(on(branch, '.union')) ? readdirSync(on(branch, '.union')) : []);
  const find = (...path: string[]) => path.reduce((parent, name) => driver.lookup(parent, name), ROOT);
  const numberOf = (node: number) => {
    const reply = driver.ask(OP.GETATTR, node, [0, 0, 0, 0]);
    return `${reply.word(20)}:${reply.word(16)}`;
  };
  const open = (node: number, flags = O_RDWR) => driver.ask(OP.OPEN, node, [flags, 0]).word(0);
  const write = (node: number, handle: number, offset: number, text: string) =>
    driver.ask(OP.WRITE, node, [handle, 0, offset, 0, text.length, 0, 0, 0, 0, 0, text]).result;
  const release = (node: number, handle: number) => driver.ask(OP.RELEASE, node, [handle, 0, 0, 0, 0, 0]);

  function makeFile(branch = 0): void {
    mkdirSync(on(branch, 'a', 'b'), { recursive: true });
    mkdirSync(on(branch, 'c'));
    writeFileSync(on(branch, 'a', 'b', 'file'), 'content');
    linkSync(on(branch, 'a', 'b', 'file'), on(branch, 'c', 'other'));
  }

  it('takes data, attributes and every name along, also names that nobody has looked up', () => {
    makeFile();
    const path = on(0, 'a', 'b', 'file');
    chmodSync(path, 0o4751);
    setXattr(path, 'user.note', 'kept');
    spawnSync('setfacl', ['-m', 'u:1234:rw', path]);
    lutimesSync(path, 1000, 2000);
    const before = statSync(path);
    const directory = statSync(on(0, 'a', 'b')).mtimeMs;
    expect(moveTo(driver.context, find('a', 'b', 'file'), 2)).to.equal(0);
    const names = [on(2, 'a', 'b', 'file'), on(2, 'c', 'other')];
    for (const name of names) {
      const { mode, uid, gid, size, nlink, atimeMs, mtimeMs } = statSync(name);
      expect({ mode, uid, gid, size, nlink, atimeMs, mtimeMs }).to.deep.equal({
        mode: before.mode,
        uid: before.uid,
        gid: before.gid,
        size: before.size,
        nlink: before.nlink,
        atimeMs: before.atimeMs,
        mtimeMs: before.mtimeMs,
      });
    }
    for (const name of names) {
      expect(readFileSync(name, 'utf8')).to.equal('content');
      expect(getXattr(name, 'user.note')).to.equal('kept');
      expect(getXattr(name, 'system.posix_acl_access')).to.not.equal('');
    }
    expect(readdirSync(on(0, 'a', 'b'))).to.deep.equal([]);
    expect(readdirSync(on(0, 'c'))).to.deep.equal([]);
    expect(statSync(on(0, 'a', 'b')).mtimeMs).to.equal(directory);
    expect(own(2)).to.deep.equal(['numbers']);
    expect(find('c', 'other')).to.equal(find('a', 'b', 'file'));
  });

  it('keeps its inode number, also when the union is opened again, and gives it to nobody else', () => {
    makeFile();
    const node = find('a', 'b', 'file');
    const number = numberOf(node);
    const left = statSync(on(0, 'a', 'b', 'file')).ino;
    // Whoever gets the inode that is free must not get the number.
    const giveAway = (name: string) => {
      for (let file = 0; file < 50; file++) {
        writeFileSync(on(0, `${name}-${file}`), '');
        expect(numberOf(find(`${name}-${file}`))).to.not.equal(number);
        if (statSync(on(0, `${name}-${file}`)).ino === left) return unlinkSync(on(0, `${name}-${file}`));
      }
    };
    expect(moveTo(driver.context, node, 1)).to.equal(0);
    expect(numberOf(node)).to.equal(number);
    const moved = statSync(on(1, 'a', 'b', 'file')).ino;
    const listed = [shownHigh, shownLow].map((part) => part(driver.context, 1, moved, 0));
    expect(listed.join(':'), 'in listings').to.equal(number);
    giveAway('before');
    expect(moveTo(driver.context, node, 2)).to.equal(0);
    driver = new FuseDriver(3, 'exclusive', undefined, { folder: driver.crash() });
    expect(numberOf(find('a', 'b', 'file'))).to.equal(number);
    expect(numberOf(find('c', 'other'))).to.equal(number);
    giveAway('after');
  });

  it('keeps handles working, and what is written through any of them', () => {
    makeFile();
    const node = find('a', 'b', 'file');
    const handles = [open(node), open(node), open(node, 0)];
    write(node, handles[0]!, 7, ' one');
    expect(moveTo(driver.context, node, 1)).to.equal(0);
    write(node, handles[1]!, 11, ' two');
    const read = driver.ask(OP.READ, node, [handles[2]!, 0, 0, 0, 100]);
    const { out, u8 } = driver.context;
    expect(Buffer.from(u8.subarray(out, out + read.result)).toString()).to.equal('content one two');
    for (const handle of handles) release(node, handle);
    expect(readFileSync(on(1, 'c', 'other'), 'utf8')).to.equal('content one two');
  });

  it('moves a file that has lost its name, for as long as it is open', () => {
    makeFile();
    const node = find('a', 'b', 'file');
    const handle = open(node);
    driver.ask(OP.UNLINK, find('a', 'b'), ['file']);
    driver.ask(OP.UNLINK, find('c'), ['other']);
    const number = numberOf(node);
    expect(moveTo(driver.context, node, 1)).to.equal(0);
    expect(driver.context.inodes.get(node, F.branch)).to.equal(1);
    expect(write(node, handle, 0, 'CON')).to.equal(8);
    expect(numberOf(node)).to.equal(number);
    release(node, handle);
    driver.forget(node);
    expect(own(0)).to.deep.equal([]);
    expect(own(1)).to.deep.equal([]);
  });

  it('refuses while a handle goes past the server', () => {
    makeFile();
    const node = find('a', 'b', 'file');
    driver.context.inodes.add(node, F.opens, 1); // what an open with passthrough leaves in the tables
    expect(moveTo(driver.context, node, 1)).to.equal(-EBUSY);
    expect(readFileSync(on(0, 'c', 'other'), 'utf8')).to.equal('content');
  });

  it('sets aside what its name hides on the branches before the new one', () => {
    writeFileSync(on(0, 'file'), 'shown');
    writeFileSync(on(1, 'file'), 'hidden');
    writeFileSync(on(2, 'file'), 'hidden too');
    expect(moveTo(driver.context, find('file'), 2)).to.equal(0);
    expect(readFileSync(on(2, 'file'), 'utf8')).to.equal('shown');
    expect(existsSync(on(1, 'file'))).to.equal(false);
    expect(own(1)[0]).to.match(/^hidden-/);
    expect(own(2).some((name) => name.startsWith('hidden-'))).to.equal(true);
  });

  it('leaves the file as it was when a name is in the way', () => {
    makeFile(1);
    const node = find('a', 'b', 'file');
    find('c', 'other');
    mkdirSync(on(0, 'c'));
    writeFileSync(on(0, 'c', 'other'), 'came behind the index');
    expect(moveTo(driver.context, node, 0)).to.equal(-EEXIST);
    expect(readFileSync(on(1, 'a', 'b', 'file'), 'utf8')).to.equal('content');
    expect(existsSync(on(0, 'a', 'b', 'file'))).to.equal(false);
    expect(readFileSync(on(0, 'c', 'other'), 'utf8')).to.equal('came behind the index');
    expect(own(0)).to.deep.equal([]);
    expect(statSync(on(1, 'c', 'other')).nlink).to.equal(2);
  });

  it('moves by an attribute that only root can set', () => {
    makeFile();
    const node = find('a', 'b', 'file');
    const value = on(1);
    const set = (name: string, path: string) =>
      driver.ask(OP.SETXATTR, node, [Buffer.byteLength(path), 0, name, path]).result;
    expect(set('user.union.branch', value)).to.be.lessThan(0);
    expect(set('trusted.union.branch', '/nowhere')).to.be.lessThan(0);
    expect(set('trusted.union.branch', value)).to.equal(0);
    expect(readFileSync(on(1, 'a', 'b', 'file'), 'utf8')).to.equal('content');
  });

  STEPS.forEach((step, index) => {
    it(`is completed or undone after a crash behind step ${index + 1}, ${step}`, () => {
      makeFile();
      const seen: string[] = [];
      const folder = driver.crash();
      driver = new FuseDriver(3, 'exclusive', undefined, {
        folder,
        onMoveStep: (name) => {
          seen.push(name);
          if (seen.length === index + 1) throw new Error('crash');
        },
      });
      const node = find('a', 'b', 'file');
      const number = numberOf(node);
      expect(() => moveTo(driver.context, node, 1)).to.throw('crash');
      expect(seen).to.deep.equal(STEPS.slice(0, index + 1));
      driver = new FuseDriver(3, 'exclusive', undefined, { folder: driver.crash() });
      const [there, gone] = index === 0 ? [0, 1] : [1, 0];
      for (const name of [
        ['a', 'b', 'file'],
        ['c', 'other'],
      ]) {
        expect(readFileSync(on(there, ...name), 'utf8')).to.equal('content');
        expect(existsSync(on(gone, ...name))).to.equal(false);
        expect(statSync(on(there, ...name)).nlink).to.equal(2);
        expect(numberOf(find(...name))).to.equal(number);
      }
      expect(own(1).filter((name) => name !== 'numbers')).to.deep.equal([]);
    });

    it(`goes on under a successor after a crash behind step ${index + 1}, ${step}`, () => {
      makeFile();
      let steps = 0;
      const folder = driver.crash();
      const onMoveStep = () => {
        if (++steps === index + 1) throw new Error('crash');
      };
      driver = new FuseDriver(3, 'exclusive', undefined, { folder, onMoveStep });
      const node = find('a', 'b', 'file');
      const number = numberOf(node);
      const handle = open(node);
      expect(() => moveTo(driver.context, node, 1)).to.throw('crash');
      driver.context.state.recover();
      takeOver(driver.context);
      expect(write(node, handle, 7, ' more')).to.equal(8);
      const there = index === 0 ? 0 : 1;
      for (const name of [
        ['a', 'b', 'file'],
        ['c', 'other'],
      ]) {
        expect(readFileSync(on(there, ...name), 'utf8')).to.equal('content more');
        expect(existsSync(on(1 - there, ...name))).to.equal(false);
        expect(find(...name)).to.equal(node);
      }
      expect(numberOf(node)).to.equal(number);
      release(node, handle);
      expect(moveTo(driver.context, node, 2)).to.equal(0);
      expect(readFileSync(on(2, 'c', 'other'), 'utf8')).to.equal('content more');
    });
  });
});
