/** What is not data: special files, extended attributes, birth times, and directories made durable. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { expect } from 'chai';
import * as libc from '../../../fuse/sys/libc.ts';
import { runProgram } from '../../support/loop-branches.ts';
import { getXattr, listXattrs, makeFifo, removeXattr, setXattr } from '../../support/posix.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, type TestUnion } from '../../support/union-mount.ts';

const mebibyte = 1024 ** 2;

describe('what a union keeps besides data', () => {
  let union: TestUnion;
  let view: (...path: string[]) => string;

  before(async function () {
    needs(this, fuse, loop);
    union = await makeUnion({
      sizesBytes: [32 * mebibyte, 32 * mebibyte],
      options: ['category.create=ff', 'minfreespace=1M'],
      prepare: (branches) => {
        for (const branch of branches) mkdirSync(join(branch, 'both'));
        const [copy, original] = branches.map((branch) => join(branch, 'later'));
        mkdirSync(original!);
        do {
          rmSync(copy!, { recursive: true, force: true });
          mkdirSync(copy!);
        } while (statSync(copy!).birthtimeMs === statSync(original!).birthtimeMs);
        writeFileSync(join(branches[1]!, 'both/file'), 'content');
      },
    });
    view = (...path) => join(union.mountpoint, ...path);
  });

  after(async () => {
    await union?.close();
  });

  it('makes links, fifos and devices of their kind, owner and number', () => {
    mkdirSync(view('kinds'));
    symlinkSync('to nowhere', view('kinds/link'));
    makeFifo(view('kinds/fifo'), 0o640);
    runProgram('mknod', ['-m', '606', view('kinds/device'), 'b', '7', '3']);
    runProgram('chown', ['-h', '11:12', view('kinds/link'), view('kinds/fifo'), view('kinds/device')]);
    for (const at of [view('kinds'), join(union.branches[0]!, 'kinds')]) {
      expect(readlinkSync(join(at, 'link'))).to.equal('to nowhere');
      expect(lstatSync(join(at, 'link'))).to.include({ uid: 11, gid: 12 });
      expect(lstatSync(join(at, 'fifo'))).to.include({ mode: 0o010640, uid: 11, gid: 12 });
      expect(lstatSync(join(at, 'device'))).to.include({ mode: 0o060606, uid: 11, gid: 12, rdev: 0x703 });
    }
    renameSync(view('kinds/fifo'), view('kinds/renamed'));
    expect(lstatSync(view('kinds/renamed')).isFIFO()).to.equal(true);
  });

  it('passes on what goes through fifos and sockets', async () => {
    makeFifo(view('fifo'), 0o600);
    const { stdout } = spawnSync('sh', ['-c', 'echo through > "$0" & cat "$0"', view('fifo')], { encoding: 'utf8' });
    expect(stdout).to.equal('through\n');
    const server = createServer((socket) => socket.end('hello')).listen(view('socket'));
    await once(server, 'listening');
    try {
      const [text] = await once(connect(view('socket')).setEncoding('utf8'), 'data');
      expect(text).to.equal('hello');
    } finally {
      server.close();
    }
  });

  it('keeps user, trusted and security attributes as they are on the branch', () => {
    writeFileSync(view('attributes'), '');
    const below = join(union.branches[0]!, 'attributes');
    const values = { 'user.a': 'x'.repeat(400), 'trusted.b': '', 'security.c': '\0binary' };
    for (const [name, value] of Object.entries(values)) setXattr(view('attributes'), name, value);
    for (const at of [view('attributes'), below]) {
      expect(listXattrs(at).sort()).to.deep.equal(Object.keys(values).sort());
      for (const [name, value] of Object.entries(values)) expect(getXattr(at, name)).to.equal(value);
    }
    removeXattr(view('attributes'), 'trusted.b');
    expect(() => getXattr(below, 'trusted.b')).to.throw('ENODATA');
    const [create, replace] = [1, 2];
    expect(() => setXattr(view('attributes'), 'user.a', '', create)).to.throw('EEXIST');
    expect(() => setXattr(view('attributes'), 'user.none', '', replace)).to.throw('ENODATA');
  });

  it('tells the birth time of a file, and of a directory that of its oldest copy', () => {
    const birth = (path: string) => statSync(path, { bigint: true }).birthtimeNs;
    writeFileSync(view('born'), '');
    expect(birth(view('born'))).to.equal(birth(join(union.branches[0]!, 'born')));
    for (const name of ['both', 'later']) {
      const copies = union.branches.map((branch) => birth(join(branch, name)));
      expect(birth(view(name))).to.equal(copies.toSorted((a, b) => Number(a - b))[0]);
    }
  });

  it('makes every copy of a directory durable by fsync, and tells of any that is not', () => {
    const descriptor = openSync(view('both'), 'r');
    fsyncSync(descriptor);
    writeFileSync(join(union.branches[1]!, 'both/another'), '');
    shutDown(union.branches[1]!);
    expect(() => fsyncSync(descriptor)).to.throw('EIO');
    closeSync(descriptor);
  });
});

/** The filesystem answers EIO from now on (EXT4_IOC_SHUTDOWN of ext4.h, without writing its log). */
function shutDown(mountpoint: string): void {
  const descriptor = openSync(mountpoint, 'r');
  libc.withWord(2, (address) => libc.ioctl(descriptor, 0x8004587d, address));
  closeSync(descriptor);
}
