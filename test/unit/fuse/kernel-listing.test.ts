/** Who may use the listing that the kernel keeps of a directory: one open directory at a time. */
import { expect } from 'chai';
import { H } from '../../../fuse/inode/handle-table.ts';
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

  describe('of which the kernel has given pages up', () => {
    const READ_BYTES = 1024;
    const names = Array.from({ length: 200 }, (_, index) => `name-${index}`);
    let directory: number;

    beforeEach(() => {
      driver = new FuseDriver(2);
      directory = driver.ask(OP.MKDIR, ROOT, [0o755, 0, 'directory']).word(0);
      for (const name of names) driver.ask(OP.MKNOD, directory, [0o100644, 0, 0, 0, name]);
    });

    const readAt = (handle: number, offset: number) =>
      driver.ask(OP.READDIR, directory, [handle, 0, offset, 0, READ_BYTES, 0, 0, 0, 0, 0]);
    /** The results of reads from an offset to the end. */
    const readFrom = (handle: number, offset: number) => {
      const bytes: number[] = [];
      for (let at = offset, read = 1; read > 0; at += read) {
        read = readAt(handle, at).result;
        bytes.push(read);
      }
      return bytes;
    };
    /** Has the kernel read it all once: what it has then. */
    const fill = () => {
      const { handle } = open(directory);
      const bytes = readFrom(handle, 0);
      release(handle, directory);
      return bytes;
    };

    it('is the same to the end for who is in the middle of it, whatever comes and goes', () => {
      const whole = fill();
      const { handle } = open(directory);
      for (const name of names.slice(0, 150)) driver.ask(OP.UNLINK, directory, [name]);
      driver.ask(OP.RENAME, directory, [ROOT, 0, 'name-160', 'elsewhere']);
      expect(readFrom(handle, whole[0]! + whole[1]!)).to.deep.equal(whole.slice(2));
    });

    it('is the same when names come from elsewhere', () => {
      driver.ask(OP.MKNOD, ROOT, [0o100644, 0, 0, 0, 'file']);
      const whole = fill();
      const { handle } = open(directory);
      driver.ask(OP.RENAME2, ROOT, [directory, 0, 0, 0, 'file', 'come']);
      expect(readFrom(handle, whole[0]!)).to.deep.equal(whole.slice(1));
    });

    it('is made by us only where the kernel can have one', () => {
      const lengthOf = (handle: number) => driver.context.handles.get(handle, H.listingLength);
      const first = open(directory).handle;
      driver.ask(OP.UNLINK, directory, ['name-0']);
      expect(lengthOf(first), 'nobody has read it').to.equal(0);
      release(first, directory);
      const whole = fill();
      const second = open(directory).handle;
      driver.ask(OP.UNLINK, directory, ['name-1']);
      expect(lengthOf(second)).to.equal(whole.reduce((sum, bytes) => sum + bytes));
      release(second, directory);
      const third = open(directory).handle;
      driver.ask(OP.UNLINK, directory, ['name-2']);
      expect(lengthOf(third), 'it has dropped that').to.equal(0);
    });
  });
});
