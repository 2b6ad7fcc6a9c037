/** SETATTR of a file that is open since it was made: by the descriptor that it was made with, and of no other file. */
import { lstatSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { F } from '../../../fuse/inode/inode-table.ts';
import { closeFiles } from '../../../fuse/ops/let-go.ts';
import { ATTR_OUT, FATTR, OP, SETATTR_IN } from '../../../fuse/protocol/abi.ts';
import { descriptorsOf } from '../../support/descriptors.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';

const ROOT = 1;
const O_RDWR = 2;

interface Changes {
  readonly mode?: number;
  readonly uid?: number;
  /** Seconds. */
  readonly mtime?: number;
}

describe('attributes of a file that is open since it was made', () => {
  let driver: FuseDriver;

  beforeEach(() => {
    driver = new FuseDriver(2);
  });

  afterEach(() => driver.close());

  const lower = (name: string) => join(driver.paths[0]!, name);

  function make(name: string): { node: number; handle: number } {
    const made = driver.ask(OP.CREATE, ROOT, [O_RDWR, 0o600, 0, 0, name]);
    expect(made.result).to.be.greaterThan(0);
    return { node: made.word(0), handle: made.word(128) };
  }

  const release = (node: number, handle: number) => driver.ask(OP.RELEASE, node, [handle, 0, 0, 0, 0, 0]);

  function set(node: number, { mode, uid, mtime }: Changes): number {
    const body = new Array<number>(22).fill(0);
    const put = (offset: number, flag: number, value: number | undefined) => {
      if (value === undefined) return;
      body[SETATTR_IN.valid / 4]! |= flag;
      body[offset / 4] = value;
    };
    put(SETATTR_IN.mode, FATTR.MODE, mode);
    put(SETATTR_IN.uid, FATTR.UID, uid);
    put(SETATTR_IN.mtime, FATTR.MTIME, mtime);
    return driver.ask(OP.SETATTR, node, body).result;
  }

  it('are set and answered without a look at its name', () => {
    const { node } = make('file');
    // Behind the union's back: by name there is no such file.
    renameSync(lower('file'), lower('elsewhere'));
    expect(set(node, { mode: 0o640, uid: 7, mtime: 1000 })).to.equal(ATTR_OUT.size);
    const { mode, uid, mtimeMs, atimeMs } = lstatSync(lower('elsewhere'));
    expect([mode & 0o7777, uid, mtimeMs]).to.deep.equal([0o640, 7, 1_000_000]);
    expect(atimeMs).to.be.greaterThan(1_000_000);
    // fuse_attr_out: fuse_attr is 16 bytes in; mtime 32, mode 60, uid 68.
    const { u32, out } = driver.context;
    const word = (offset: number) => u32[(out + 16 + offset) >>> 2]!;
    expect([word(32), word(60) & 0o7777, word(68)]).to.deep.equal([1000, 0o640, 7]);
  });

  it('are kept when it is closed', () => {
    const { node, handle } = make('file');
    set(node, { mode: 0o640 });
    release(node, handle);
    renameSync(lower('file'), lower('elsewhere'));
    expect(driver.ask(OP.GETATTR, node, [0, 0, 0, 0]).result).to.equal(ATTR_OUT.size);
  });

  it('are those of no file that has its handle after it', () => {
    const first = make('first');
    expect(set(first.node, { mode: 0o644 })).to.equal(ATTR_OUT.size);
    release(first.node, first.handle);
    const second = make('second');
    expect(second.handle).to.equal(first.handle);
    expect(set(first.node, { mode: 0o755 })).to.equal(ATTR_OUT.size);
    expect(lstatSync(lower('first')).mode & 0o7777).to.equal(0o755);
    expect(lstatSync(lower('second')).mode & 0o7777).to.equal(0o600);
    expect(set(second.node, { mode: 0o711 })).to.equal(ATTR_OUT.size);
    expect(lstatSync(lower('second')).mode & 0o7777).to.equal(0o711);
  });

  it('are set by name where another thread made it, and by a successor', () => {
    const { node } = make('file');
    driver.through(driver.otherContext(), () => expect(set(node, { mode: 0o644 })).to.equal(ATTR_OUT.size));
    expect(lstatSync(lower('file')).mode & 0o7777).to.equal(0o644);
    driver.restart();
    expect(set(node, { mode: 0o755 })).to.equal(ATTR_OUT.size);
    expect(lstatSync(lower('file')).mode & 0o7777).to.equal(0o755);
  });

  it('take no descriptor with them when it is closed', () => {
    const open = () => descriptorsOf(process.pid).filter(({ target }) => target === lower('file'));
    const { node, handle } = make('file');
    set(node, { mode: 0o644 });
    expect(open()).to.have.length(1);
    release(node, handle);
    expect(open()).to.have.length(0);
  });

  it('leave none open after the session, also of one that the kernel never closed', () => {
    const open = () => descriptorsOf(process.pid).filter(({ target }) => target.startsWith(driver.paths[0]!));
    const before = open().length;
    make('file');
    const gone = make('gone');
    driver.ask(OP.UNLINK, ROOT, ['gone']);
    expect(driver.context.inodes.get(gone.node, F.pinned)).to.be.greaterThan(0);
    driver.mkdir(ROOT, 'directory');
    driver.lookup(driver.lookup(ROOT, 'directory'), 'none');
    expect(open()).to.have.length(before + 4);
    closeFiles(driver.context.state);
    driver.context.directories.close();
    expect(open()).to.have.length(before);
  });
});
