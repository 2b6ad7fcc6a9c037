/** Who may use the listing that the kernel keeps of a directory: one open directory at a time. */
import { expect } from 'chai';
import { FOPEN, OP } from '../../../fuse/protocol/abi.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';

const ROOT = 1;
const CACHED = FOPEN.KEEP_CACHE | FOPEN.CACHE_DIR;

describe("the kernel's listing of a directory", () => {
  let driver: FuseDriver;

  afterEach(() => driver.close());

  const open = (node = ROOT) => {
    const opened = driver.ask(OP.OPENDIR, node, [0, 0]);
    return { handle: opened.word(0), flags: opened.word(8) };
  };
  const release = (handle: number, node = ROOT) => driver.ask(OP.RELEASEDIR, node, [handle, 0, 0, 0, 0, 0]);

  it('is used by one who has the directory open, and not dropped by others', () => {
    driver = new FuseDriver(2);
    const first = open();
    expect(first.flags).to.equal(CACHED);
    const second = open();
    expect(second.flags).to.equal(FOPEN.KEEP_CACHE);
    release(second.handle);
    expect(open().flags, 'the first is still open').to.equal(FOPEN.KEEP_CACHE);
    release(first.handle);
    expect(open().flags, 'the first is closed').to.equal(CACHED);
  });

  it('is that of each directory', () => {
    driver = new FuseDriver(2);
    const directory = driver.ask(OP.MKDIR, ROOT, [0o755, 0, 'directory']).word(0);
    const first = open();
    expect(open(directory).flags).to.equal(CACHED);
    release(first.handle);
    // The handle is used again, for another directory.
    expect(open(directory).flags).to.equal(FOPEN.KEEP_CACHE);
    expect(open().flags).to.equal(CACHED);
  });

  it('is used by nobody where others write to the branches', () => {
    driver = new FuseDriver(2, 'shared');
    expect(open().flags).to.equal(0);
  });
});
