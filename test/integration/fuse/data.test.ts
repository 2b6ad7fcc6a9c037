/** Data of open files, past the server and through it: after the name has gone, by mappings, holes, copies, and what writing takes away. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { runProgram } from '../../support/loop-branches.ts';
import {
  asUser,
  copyFileRange,
  FALLOC_KEEP_SIZE,
  FALLOC_PUNCH_HOLE,
  fallocate,
  linkDescriptor,
  mapShared,
  O_PATH,
  O_TMPFILE,
  SEEK_DATA,
  SEEK_HOLE,
  seek,
} from '../../support/posix.ts';
import { hasEnded, killed } from '../../support/processes.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, type TestUnion } from '../../support/union-mount.ts';

const mebibyte = 1024 ** 2;

for (const proxied of [false, true]) {
  describe(`data of files, ${proxied ? 'through the server' : 'past the server'}`, () => {
    let union: TestUnion;
    let file: string;
    let opened: number[];

    before(async function () {
      needs(this, fuse, loop);
      union = await makeUnion({
        sizesBytes: [48 * mebibyte, 48 * mebibyte],
        ...(proxied ? { library: { passthrough: false } } : {}),
        options: ['category.create=ff', 'minfreespace=1M'],
        prepare: ([, b]) => {
          writeFileSync(join(b!, 'elsewhere'), 'on the second branch');
          writeFileSync(join(b!, 'tool'), '#!/bin/sh\necho ran', { mode: 0o755 });
        },
      });
    });

    beforeEach(() => {
      file = join(union.mountpoint, 'file');
      opened = [];
    });

    afterEach(() => {
      for (const descriptor of opened) closeSync(descriptor);
      rmSync(file, { force: true });
      rmSync(`${file}2`, { force: true });
    });

    after(async () => {
      await union?.close();
    });

    const open = (flags: string | number, path = file) => {
      const descriptor = openSync(path, flags, 0o644);
      opened.push(descriptor);
      return descriptor;
    };
    const read = (descriptor: number, size = 100, position = 0) => {
      const buffer = Buffer.alloc(size);
      return buffer.toString('latin1', 0, readSync(descriptor, buffer, 0, size, position));
    };

    it('is as written, by every way of reading', () => {
      const bytes = Buffer.alloc(3 * mebibyte + 17, 'some content, ');
      writeFileSync(file, bytes);
      expect(readFileSync(file).equals(bytes)).to.equal(true);
      expect(statSync(file).size).to.equal(bytes.length);
      const descriptor = open('r');
      const map = spawnSync('cmp', [file, '-'], { input: bytes });
      expect(map.status).to.equal(0);
      expect(read(descriptor, 5, bytes.length - 3)).to.have.length(3);
    });

    it('lives on without a name, to the last close', () => {
      writeFileSync(file, 'content');
      const descriptor = open('r+');
      unlinkSync(file);
      expect(read(descriptor)).to.equal('content');
      writeSync(descriptor, 'CON', 0);
      fsyncSync(descriptor);
      fchmodSync(descriptor, 0o600);
      expect(fstatSync(descriptor)).to.include({ nlink: 0, size: 7, mode: 0o100600 });
      ftruncateSync(descriptor, 4);
      expect(read(descriptor)).to.equal('CONt');
      fallocate(descriptor, 0, 0, 100);
      expect(fstatSync(descriptor).size).to.equal(100);
      expect(() => statSync(file)).to.throw('ENOENT');
      writeFileSync(file, 'another');
      expect(read(descriptor, 4)).to.equal('CONt');
      expect(fstatSync(descriptor, { bigint: true }).ino).not.to.equal(statSync(file, { bigint: true }).ino);
    });

    it('is opened as what it was by who found it before its name became another file’s', () => {
      writeFileSync(file, 'content');
      const found = open(O_PATH);
      writeFileSync(`${file}2`, 'another');
      renameSync(`${file}2`, file);
      expect(readFileSync(`/proc/self/fd/${found}`, 'utf8')).to.equal('content');
      expect(readFileSync(file, 'utf8')).to.equal('another');
    });

    it('is told of by descriptors that only name it, files and directories, after the name has gone', () => {
      writeFileSync(file, 'content', { mode: 0o640 });
      mkdirSync(`${file}2`);
      const [byFile, byDirectory] = [open(O_PATH), open(O_PATH, `${file}2`)];
      const { ino } = fstatSync(byFile);
      unlinkSync(file);
      rmdirSync(`${file}2`);
      writeFileSync(file, 'another');
      expect(fstatSync(byFile)).to.include({ ino, nlink: 0, size: 7, mode: 0o100640 });
      expect(fstatSync(byDirectory).isDirectory()).to.equal(true);
      const { stdout } = spawnSync('sh', ['-c', 'mkdir "$0" && cd "$0" && rmdir "$0" && stat -c %F .', `${file}2`], {
        encoding: 'utf8',
      });
      expect(stdout).to.equal('directory\n');
    });

    it('lives on when another file takes its name', () => {
      writeFileSync(file, 'old');
      writeFileSync(`${file}2`, 'new');
      const descriptor = open('r+');
      renameSync(`${file}2`, file);
      expect(read(descriptor)).to.equal('old');
      ftruncateSync(descriptor, 1);
      expect(fstatSync(descriptor)).to.include({ nlink: 0, size: 1 });
      expect(readFileSync(file, 'utf8')).to.equal('new');
    });

    it('is one through every name of a file, also when the name it was opened by has gone', () => {
      writeFileSync(file, '');
      linkSync(file, `${file}2`);
      const descriptor = open('r+');
      unlinkSync(file);
      writeSync(descriptor, 'written');
      expect(statSync(`${file}2`)).to.include({ nlink: 1, size: 7 });
      writeSync(descriptor, ' more');
      expect(statSync(`${file}2`)).to.include({ nlink: 1, size: 12 });
      expect(readFileSync(`${file}2`, 'utf8')).to.equal('written more');
    });

    it('is coherent between mappings, reads and writes, and its times follow', () => {
      writeFileSync(file, Buffer.alloc(8192, 'a'));
      const descriptor = open('r+');
      utimesSync(file, 1, 1);
      // Node asks for the birth time too, which the kernel never answers by itself.
      const seconds = () => Number(runProgram('stat', ['--format=%Y', file]));
      const before = fstatSync(descriptor, { bigint: true }).mtimeNs;
      expect(seconds()).to.equal(1);
      const mapping = mapShared(descriptor, 8192);
      try {
        mapping.bytes[0] = 0x62;
        mapping.sync();
        expect(seconds(), 'the time of a store').to.be.greaterThan(1);
        expect(read(descriptor, 2)).to.equal('ba');
        expect(readFileSync(file, 'latin1').slice(0, 2)).to.equal('ba');
        writeSync(descriptor, 'zz', 4096);
        expect(mapping.bytes[4096]).to.equal(0x7a);
      } finally {
        mapping.unmap();
      }
      closeSync(opened.pop()!);
      expect(statSync(file, { bigint: true }).mtimeNs > before).to.equal(true);
    });

    it('has holes, preallocation and punches as below', () => {
      const descriptor = open('w+');
      ftruncateSync(descriptor, mebibyte);
      writeSync(descriptor, 'data', 512 * 1024);
      expect(seek(descriptor, 0, SEEK_DATA)).to.equal(512 * 1024);
      expect(seek(descriptor, 512 * 1024, SEEK_HOLE)).to.be.within(512 * 1024 + 1, 516 * 1024);
      expect(() => seek(descriptor, 600 * 1024, SEEK_DATA)).to.throw('ENXIO');
      const { blocks } = fstatSync(descriptor);
      fallocate(descriptor, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 512 * 1024, 4096);
      expect(read(descriptor, 4, 512 * 1024)).to.equal('\0\0\0\0');
      expect(fstatSync(descriptor).blocks).to.be.lessThan(blocks);
      fallocate(descriptor, FALLOC_KEEP_SIZE, 0, 2 * mebibyte);
      expect(fstatSync(descriptor).size).to.equal(mebibyte);
      fallocate(descriptor, 0, 0, 2 * mebibyte);
      expect(statSync(file).size).to.equal(2 * mebibyte);
    });

    it('is copied within a branch and between branches by copy_file_range', () => {
      const to = open('w+');
      const from = open('r', join(union.mountpoint, 'elsewhere'));
      expect(copyFileRange(from, to, 1000)).to.equal(20);
      expect(read(to)).to.equal('on the second branch');
      const second = open('w+', `${file}2`);
      expect(copyFileRange(to, second, 6)).to.equal(6);
      expect(readFileSync(`${file}2`, 'utf8')).to.equal('on the');
      expect(fstatSync(second).size).to.equal(6);
    });

    it('can begin without a name', () => {
      const descriptor = open(O_TMPFILE | constants.O_RDWR, union.mountpoint);
      writeSync(descriptor, 'unnamed');
      expect(fstatSync(descriptor)).to.include({ nlink: 0, size: 7 });
      linkDescriptor(descriptor, file);
      expect(readFileSync(file, 'utf8')).to.equal('unnamed');
      writeSync(descriptor, '!', 7);
      expect(statSync(file)).to.include({ nlink: 1, size: 8, ino: fstatSync(descriptor).ino });
      unlinkSync(file);
      expect(read(descriptor)).to.equal('unnamed!');
      expect(fstatSync(descriptor).nlink).to.equal(0);
    });

    it('has the one link that it was given, also when nobody has it open any more', () => {
      linkDescriptor(open(O_TMPFILE | constants.O_RDWR, union.mountpoint), file);
      closeSync(opened.pop()!);
      expect(statSync(file).nlink).to.equal(1);
    });

    it('appends at the end that others have moved', () => {
      const one = open('a');
      const other = open('a');
      writeSync(one, 'one');
      writeSync(other, 'other');
      writeSync(one, 'three');
      truncateSync(file, 5);
      writeSync(other, '!');
      expect(readFileSync(file, 'utf8')).to.equal('oneot!');
    });

    it('runs as a program', () => {
      expect(spawnSync(join(union.mountpoint, 'tool'), { encoding: 'utf8' }).stdout).to.equal('ran\n');
    });

    it('keeps what runs as a program from being changed', async () => {
      copyFileSync('/bin/sleep', file);
      const child = spawn(file, ['60']);
      try {
        await once(child, 'spawn');
        const { size } = statSync(file);
        for (const flags of [constants.O_WRONLY, constants.O_RDWR, constants.O_RDONLY | constants.O_TRUNC])
          expect(() => open(flags)).to.throw('ETXTBSY');
        expect(() => truncateSync(file)).to.throw('ETXTBSY');
        expect(statSync(file).size).to.equal(size);
        expect(hasEnded(child)).to.equal(false);
      } finally {
        await killed(child);
      }
    });

    const ways: Readonly<Record<string, (path: string) => void>> = {
      write: (path) => {
        const descriptor = openSync(path, 'r+');
        asUser(1000, () => writeSync(descriptor, 'x'));
        closeSync(descriptor);
      },
      'write by one who opened it': (path) => asUser(1000, () => writeFileSync(path, 'x', { flag: 'r+' })),
      truncate: (path) => asUser(1000, () => truncateSync(path, 1)),
      'open with O_TRUNC': (path) => asUser(1000, () => writeFileSync(path, '')),
      fallocate: (path) => {
        const descriptor = asUser(1000, () => openSync(path, 'r+'));
        asUser(1000, () => fallocate(descriptor, 0, 0, 4096));
        closeSync(descriptor);
      },
      copy_file_range: (path) => {
        const to = asUser(1000, () => openSync(path, 'r+'));
        writeFileSync(`${path}2`, 'on the same branch');
        const from = openSync(`${path}2`, 'r');
        asUser(1000, () => copyFileRange(from, to, 5));
        closeSync(from);
        closeSync(to);
      },
      'write while another reads': (path) => {
        const reader = openSync(path, 'r');
        asUser(1000, () => writeFileSync(path, 'x', { flag: 'r+' }));
        closeSync(reader);
      },
    };

    for (const [name, change] of Object.entries(ways)) {
      it(`loses set-id bits and capabilities by ${name} without privilege`, () => {
        writeFileSync(file, 'content');
        spawnSync('setcap', ['cap_net_raw+ep', file]);
        const hasCapabilities = () => spawnSync('getcap', [file], { encoding: 'utf8' }).stdout !== '';
        const couldSet = hasCapabilities();
        spawnSync('chmod', ['6777', file]);
        expect(statSync(file).mode & 0o7000).to.equal(0o6000);
        change(file);
        expect((statSync(file).mode & 0o7000).toString(8)).to.equal('0');
        expect(couldSet && hasCapabilities()).to.equal(false);
      });
    }

    for (const opener of [0, 1000]) {
      it(`loses set-id bits and capabilities that came while user ${opener} had it open, by a write without privilege`, () => {
        writeFileSync(file, 'content');
        chmodSync(file, 0o777);
        const descriptor = asUser(opener, () => open('r+'));
        asUser(1000, () => writeSync(descriptor, 'first'));
        spawnSync('setcap', ['cap_net_raw+ep', file]);
        chmodSync(file, 0o6777);
        asUser(1000, () => writeSync(descriptor, 'second'));
        expect((statSync(file).mode & 0o7000).toString(8)).to.equal('0');
        expect(spawnSync('getcap', [file], { encoding: 'utf8' }).stdout).to.equal('');
        chmodSync(file, 0o6777);
        writeSync(descriptor, 'third');
        expect(statSync(file).mode & 0o7000).to.equal(0o6000);
      });
    }

    it('keeps set-id bits when root writes', () => {
      writeFileSync(file, 'content');
      spawnSync('chmod', ['6777', file]);
      writeFileSync(file, 'x', { flag: 'r+' });
      expect(statSync(file).mode & 0o7000).to.equal(0o6000);
    });
  });
}
