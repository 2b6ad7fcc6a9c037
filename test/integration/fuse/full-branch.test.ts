/** Branches that run full under files that are open: they move to another branch, and nobody who uses them notices. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  statfsSync,
  statSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { codeOf, mountImage } from '../../support/faults.ts';
import { imageOf, runProgram, unmount, unmountBranch } from '../../support/loop-branches.ts';
import {
  copyFileRange,
  fallocate,
  getXattr,
  linkDescriptor,
  mapShared,
  O_TMPFILE,
  SEEK_DATA,
  seek,
  setXattr,
} from '../../support/posix.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, mountUnion, type TestUnion } from '../../support/union-mount.ts';

const kibibyte = 1024;
const mebibyte = 1024 ** 2;
/** A union's readers ask a branch of this size for its space as often as this, at least (fuse/branch/space.ts). */
const FIGURES_ARE_OLD_MS = 50;
/** The reserve of each branch. What is opened for writing when less is left can move. */
const reserve = 8 * mebibyte;

describe('a full branch', () => {
  let union: TestUnion;
  let opened: number[];

  before(function () {
    needs(this, fuse, loop);
  });

  afterEach(async () => {
    for (const descriptor of opened) closeSync(descriptor);
    await union.close();
  });

  /** A union of a small branch, which takes new files first, and larger ones. Less than the reserve is left on the first. */
  async function make(
    sizes: readonly number[] = [32, 64],
    options: readonly string[] = [],
    prepare: (branches: readonly string[]) => void = () => {},
  ): Promise<void> {
    opened = [];
    union = await makeUnion({
      sizesBytes: sizes.map((size) => size * mebibyte),
      options: ['category.create=ff', `minfreespace=${reserve}`, ...options],
      prepare,
    });
  }

  const available = (branch: number) => {
    const { bavail, bsize } = statfsSync(union.branches[branch]!);
    return bavail * bsize;
  };
  /** Takes all of a branch but so much, behind the union: faster than any writer could, so that the readers' figures are old for a moment. */
  const fill = async (branch: number, leave: number) => {
    const path = join(union.branches[branch]!, '.union', 'filler');
    mkdirSync(join(path, '..'), { recursive: true });
    const descriptor = openSync(path, 'a');
    fallocate(descriptor, 0, fstatSync(descriptor).size, available(branch) - leave);
    closeSync(descriptor);
    await delay(FIGURES_ARE_OLD_MS);
  };
  const at = (...names: string[]) => join(union.mountpoint, ...names);
  const on = (branch: number, ...names: string[]) => join(union.branches[branch]!, ...names);
  const branchOf = (path: string) => union.branches.indexOf(getXattr(path, 'user.union.branch'));
  const open = (path: string, flags: string | number = 'r+') => {
    if (opened.length === 0) settle(path);
    const descriptor = openSync(path, flags, 0o644);
    opened.push(descriptor);
    return descriptor;
  };
  /** The kernel tells the server of a close when it gets to it: until then a file counts as open, past the server. */
  const settle = (path: string) => {
    for (;;) {
      try {
        return setXattr(path, 'trusted.union.branch', getXattr(path, 'trusted.union.branch'));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error;
      }
    }
  };
  const remount = async () => {
    for (const descriptor of opened.splice(0)) closeSync(descriptor);
    const { branches, folder, mountpoint } = union;
    const close = union.close;
    unmount(mountpoint);
    const again = await mountUnion({ branches, mountpoint, options: [`minfreespace=${reserve}`] });
    union = { ...again, branches, folder, close: () => again.close().finally(() => close().catch(() => {})) };
  };
  /** Different bytes at every place. */
  const pattern = (size: number, seed: number) => {
    const bytes = Buffer.alloc(size);
    for (let at = 0; at < size; at += 4) bytes.writeUInt32LE(Math.imul(at + 1, seed) >>> 0, at);
    return bytes;
  };

  it('keeps what is written through three handles and a mapping while it fills', async () => {
    await make();
    const path = at('file');
    const model = Buffer.alloc(24 * mebibyte);
    writeFileSync(path, '');
    await fill(0, 4 * mebibyte);
    const handles = [open(path), open(path), open(path)];
    ftruncateSync(handles[0]!, model.length);
    const { ino } = fstatSync(handles[0]!, { bigint: true });
    const mapping = mapShared(handles[1]!, mebibyte);
    const size = 256 * kibibyte;
    try {
      for (let round = 0; mebibyte + (round + 1) * size <= model.length; round++) {
        const bytes = pattern(size, round * 2 + 1);
        const offset = mebibyte + round * size;
        expect(writeSync(handles[round % 3]!, bytes, 0, size, offset)).to.equal(size);
        bytes.copy(model, offset);
        const mapped = pattern(4096, round * 2 + 999);
        mapping.bytes.set(mapped, (round % 256) * 4096);
        mapped.copy(model, (round % 256) * 4096);
        if (round % 16 === 0) mapping.sync();
      }
    } finally {
      mapping.sync();
      mapping.unmap();
    }
    expect(branchOf(path)).to.equal(1);
    expect(readFileSync(path).equals(model)).to.equal(true);
    expect(readFileSync(on(1, 'file')).equals(model)).to.equal(true);
    expect(readdirSync(on(0))).to.not.include('file');
    expect(statSync(path, { bigint: true }).ino).to.equal(ino);
    await remount();
    expect(readFileSync(path).equals(model)).to.equal(true);
    expect(statSync(path, { bigint: true }).ino).to.equal(ino);
  });

  it('lets a mapping alone bring its file to another branch', async () => {
    await make();
    const path = at('file');
    writeFileSync(path, '');
    truncateSync(path, 6 * mebibyte);
    await fill(0, mebibyte);
    const descriptor = open(path);
    const mapping = mapShared(descriptor, 6 * mebibyte);
    const bytes = pattern(6 * mebibyte, 77);
    mapping.bytes.set(bytes);
    mapping.sync();
    mapping.unmap();
    fsyncSync(descriptor);
    expect(branchOf(path)).to.equal(1);
    expect(readFileSync(on(1, 'file')).equals(bytes)).to.equal(true);
  });

  it('moves a file with names in two directories, its holes, attributes and number', async () => {
    await make();
    mkdirSync(at('a', 'b'), { recursive: true });
    mkdirSync(at('c'));
    const path = at('a', 'b', 'file');
    writeFileSync(path, 'head');
    truncateSync(path, 40 * mebibyte);
    linkSync(path, at('c', 'other'));
    setXattr(path, 'user.note', 'kept');
    spawnSync('setfacl', ['-m', 'u:1234:rw', path]);
    spawnSync('chown', ['1000:1001', path]);
    const { ino, mode } = statSync(path, { bigint: true });
    const acl = getXattr(path, 'system.posix_acl_access');
    await fill(0, 64 * kibibyte);
    const descriptor = open(path);
    const tail = pattern(mebibyte, 5);
    writeSync(descriptor, tail, 0, tail.length, 39 * mebibyte);
    utimesSync(path, 1000, 2000);
    await remount();
    for (const name of [path, at('c', 'other')]) {
      expect(branchOf(name)).to.equal(1);
      const stat = statSync(name, { bigint: true });
      expect(stat).to.include({ ino, mode, nlink: 2n, size: 40n * BigInt(mebibyte), uid: 1000n, gid: 1001n });
      expect(stat).to.include({ atimeMs: 1_000_000n, mtimeMs: 2_000_000n });
      expect(Number(stat.blocks) * 512).to.be.lessThan(2 * mebibyte);
      expect(getXattr(name, 'user.note')).to.equal('kept');
      expect(getXattr(name, 'system.posix_acl_access')).to.equal(acl);
    }
    const read = open(path, 'r');
    expect(seek(read, 4 * mebibyte, SEEK_DATA)).to.equal(39 * mebibyte);
    expect(
      readFileSync(path)
        .subarray(39 * mebibyte)
        .equals(tail),
    ).to.equal(true);
    expect(spawnSync('find', [on(0), '-name', 'file', '-o', '-name', 'other'], { encoding: 'utf8' }).stdout).to.equal(
      '',
    );
  });

  it('moves a file that is open and has no name', async () => {
    await make();
    writeFileSync(at('file'), 'begin');
    await fill(0, 64 * kibibyte);
    const descriptor = open(at('file'));
    unlinkSync(at('file'));
    const bytes = pattern(2 * mebibyte, 3);
    expect(writeSync(descriptor, bytes, 0, bytes.length, 5)).to.equal(bytes.length);
    const read = Buffer.alloc(bytes.length + 5);
    expect(readSync(descriptor, read, 0, read.length, 0)).to.equal(read.length);
    expect(read.subarray(0, 5).toString()).to.equal('begin');
    expect(read.subarray(5).equals(bytes)).to.equal(true);
    expect(fstatSync(descriptor)).to.include({ nlink: 0, size: read.length });
    const before = available(1);
    closeSync(opened.pop()!);
    while (available(1) === before) spawnSync('sync', ['-f', on(1)]);
  });

  it('goes on appending, and in fallocate', async () => {
    await make();
    writeFileSync(at('log'), '');
    writeFileSync(at('big'), '');
    await fill(0, 256 * kibibyte);
    const log = open(at('log'), 'a');
    const line = Buffer.alloc(10_000, 'line\n');
    for (let count = 0; count < 60; count++) writeSync(log, line);
    expect(readFileSync(at('log')).equals(Buffer.alloc(600_000, 'line\n'))).to.equal(true);
    expect(branchOf(at('log'))).to.equal(1);
    fallocate(open(at('big')), 0, 0, 3 * mebibyte);
    expect(branchOf(at('big'))).to.equal(1);
    expect(statSync(at('big'))).to.include({ size: 3 * mebibyte });
  });

  it('goes on in copy_file_range, from a file that stays', async () => {
    await make();
    const bytes = pattern(2 * mebibyte, 3);
    writeFileSync(at('from'), bytes);
    writeFileSync(at('to'), 'begun');
    await fill(0, 256 * kibibyte);
    const [to, from] = [open(at('to')), open(at('from'), 'r')];
    for (let copied = 0; copied < bytes.length; )
      copied += copyFileRange(from, to, bytes.length - copied, { at: copied, offset: copied });
    expect(readFileSync(at('to')).equals(bytes)).to.equal(true);
    expect([branchOf(at('from')), branchOf(at('to'))]).to.deep.equal([0, 1]);
  });

  it('goes on in truncate, which takes room on a filesystem that keeps short files with their inodes', async () => {
    await make([32, 32], [], ([first]) => {
      unmountBranch(first!);
      runProgram('mkfs.ext4', ['-q', '-F', '-m', '0', '-O', 'inline_data', imageOf(first!)]);
      mountImage(imageOf(first!), first!);
    });
    for (const name of ['file', 'other']) writeFileSync(at(name), 'short');
    const { ino } = statSync(at('file'));
    for (const branch of [0, 1]) await fill(branch, 0);
    const handle = open(at('file'));
    expect(codeOf(() => ftruncateSync(handle, mebibyte))).to.equal('ENOSPC');
    expect(readFileSync(at('file'), 'utf8')).to.equal('short');
    unlinkSync(on(1, '.union', 'filler'));
    await delay(FIGURES_ARE_OLD_MS);
    ftruncateSync(handle, mebibyte);
    truncateSync(at('other'), mebibyte);
    for (const name of ['file', 'other']) {
      expect(readFileSync(at(name)).compare(Buffer.concat([Buffer.from('short')], mebibyte))).to.equal(0);
      expect(branchOf(at(name))).to.equal(1);
      expect(readdirSync(on(0))).not.to.include(name);
    }
    expect(statSync(at('file')).ino).to.equal(ino);
  });

  it('sends a file elsewhere whose new name finds no room', async () => {
    await make();
    mkdirSync(on(1, 'deep', 'er'), { recursive: true });
    writeFileSync(at('one'), 'one');
    writeFileSync(at('two'), 'two');
    await fill(0, 0);
    renameSync(at('one'), at('deep', 'er', 'one'));
    linkSync(at('two'), at('deep', 'er', 'two'));
    expect(readFileSync(at('deep', 'er', 'one'), 'utf8')).to.equal('one');
    expect(branchOf(at('deep', 'er', 'one'))).to.equal(1);
    expect(statSync(at('two')).nlink).to.equal(2);
    expect(branchOf(at('two'))).to.equal(1);
  });

  it('says ENOSPC, with the file as it was, when no other has room', async () => {
    await make([32, 32]);
    const bytes = pattern(3 * mebibyte, 9);
    writeFileSync(at('file'), bytes);
    await fill(0, 0);
    await fill(1, 2 * mebibyte);
    const descriptor = open(at('file'));
    expect(() => writeSync(descriptor, Buffer.alloc(mebibyte), 0, mebibyte, 3 * mebibyte)).to.throw('ENOSPC');
    writeSync(descriptor, bytes.subarray(0, 1000), 0, 1000, 2000);
    bytes.copyWithin(2000, 0, 1000);
    expect(readFileSync(at('file')).equals(bytes)).to.equal(true);
    expect(branchOf(at('file'))).to.equal(0);
    expect(readdirSync(on(1, '.union'))).to.deep.equal(['filler']);
  });

  it('says ENOSPC where files are not to move, or one handle went past the server before', async () => {
    await make([32, 64], ['moveonenospc=false']);
    for (const name of ['file', 'through-the-server']) writeFileSync(at(name), '');
    chmodSync(at('through-the-server'), 0o4755);
    await fill(0, 0);
    for (const name of ['file', 'through-the-server'])
      expect(() => writeSync(open(at(name)), Buffer.alloc(mebibyte))).to.throw('ENOSPC');
    for (const descriptor of opened.splice(0)) closeSync(descriptor);
    await union.close();
    await make();
    writeFileSync(at('file'), '');
    const past = open(at('file'), 'r');
    await fill(0, 0);
    expect(() => writeSync(open(at('file')), Buffer.alloc(mebibyte))).to.throw('ENOSPC');
    expect(readSync(past, Buffer.alloc(1))).to.equal(0);
  });

  it('is left by the policy that moveonenospc names', async () => {
    await make([32, 48, 96], ['moveonenospc=mfs']);
    writeFileSync(at('file'), '');
    await fill(0, 64 * kibibyte);
    writeSync(open(at('file')), Buffer.alloc(mebibyte));
    expect(branchOf(at('file'))).to.equal(2);
  });

  it('takes nothing new: every way of making a name goes to the next branch', async () => {
    await make([32, 64], ['moveonenospc=false']);
    // Below the reserve a policy leaves it out anyway; here it is above, by inodes alone it is full.
    for (let file = 0, left = true; left; file++) left = tryWrite(on(0, `inode-${file}`));
    writeFileSync(at('created'), '');
    mkdirSync(at('made'));
    spawnSync('mknod', [at('fifo'), 'p']);
    spawnSync('ln', ['-s', 'target', at('link')]);
    const unnamed = openSync(at(), O_TMPFILE | constants.O_RDWR);
    opened.push(unnamed);
    linkDescriptor(unnamed, at('unnamed'));
    for (const name of ['created', 'made', 'fifo', 'link', 'unnamed'])
      expect(getXattr(at(name), 'trusted.union.branch'), name).to.equal(union.branches[1]);
  });
});

/** Whether an empty file could be made. */
function tryWrite(path: string): boolean {
  try {
    writeFileSync(path, '');
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    return false;
  }
}
