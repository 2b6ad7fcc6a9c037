/**
 * State memory as a file of tests, so that it is known what a server of another version finds: the pages that are not zero, compressed.
 * `node test/support/state-fixture.ts` writes the memory of a server that was killed at its work to stdout: to be run, and its
 * output kept as test/unit/fuse/state-version-N.gz, before a change of inode/layout.ts raises STATE_VERSION from N.
 */
import { readSync, writeSync } from 'node:fs';
import { gunzipSync, gzipSync } from 'node:zlib';
import { createStateMemory } from '../../fuse/inode/state.ts';
import { OP } from '../../fuse/protocol/abi.ts';
import * as libc from '../../fuse/sys/libc.ts';
import { FuseDriver } from './fuse-driver.ts';
import { Killed, Killer } from './killer.ts';

const PAGE = 4096;
const [SEEK_DATA, SEEK_HOLE] = [3, 4];

/** Each page: its number in 4 bytes, and its content. */
function dump(fd: number): Buffer {
  const pages: Buffer[] = [];
  for (let from = libc.lseek(fd, 0, SEEK_DATA); from >= 0; ) {
    const end = libc.lseek(fd, from, SEEK_HOLE);
    for (let at = from; at < end; at += PAGE) {
      const page = Buffer.alloc(4 + PAGE);
      page.writeUInt32LE(at / PAGE);
      readSync(fd, page, 4, PAGE, at);
      if (page.subarray(4).some((byte) => byte !== 0)) pages.push(page);
    }
    from = libc.lseek(fd, end, SEEK_DATA);
  }
  return gzipSync(Buffer.concat(pages));
}

/** Memory with that content: a descriptor, owned by the caller. */
export function load(fixture: Buffer): number {
  const bytes = gunzipSync(fixture);
  const fd = createStateMemory();
  for (let at = 0; at < bytes.length; at += 4 + PAGE) writeSync(fd, bytes, at + 4, PAGE, bytes.readUInt32LE(at) * PAGE);
  return fd;
}

/** What the server of the fixture had: a directory on both branches, an open file in it, and a directory that it was just making. */
function fixture(): Buffer {
  const killer = new Killer();
  const driver = new FuseDriver(2, 'exclusive', undefined, { view: killer.view });
  const directory = driver.mkdir(1, 'd');
  driver.ask(OP.CREATE, directory, [2, 0o644, 0, 0, 'open']);
  driver.place(OP.MKDIR, directory, [0o750, 0, 'new']);
  // The branch is chosen, and nothing is made.
  killer.arm(Number(process.argv[2] ?? 5));
  try {
    driver.perform();
    throw new Error('not killed');
  } catch (error) {
    if (!Killed.is(error)) throw error;
  }
  killer.arm();
  const bytes = dump(driver.context.state.fd);
  driver.close();
  return bytes;
}

if (process.argv[1] === import.meta.filename) process.stdout.write(fixture());
