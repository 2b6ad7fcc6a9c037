/** flock and POSIX locks between processes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { killed } from '../../support/processes.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, type TestUnion } from '../../support/union-mount.ts';

/** A process that takes a lock of a kind, says whether it got it, and keeps it until its input ends. */
const locker = `
  import koffi from 'koffi';
  import { openSync } from 'node:fs';
  const libc = koffi.load('libc.so.6');
  const [kind, path] = process.argv.slice(1);
  const fd = openSync(path, 'r+');
  const got = kind === 'flock'
    ? libc.func('int flock(int, int)')(fd, 2 | 4)
    : libc.func('int lockf(int, int, int64_t)')(fd, 2, 10);
  console.log(got === 0 ? 'locked' : 'refused');
  process.stdin.resume();
`;

describe('locks of a union', () => {
  let union: TestUnion;
  const children: ChildProcess[] = [];

  before(async function () {
    needs(this, fuse, loop);
    union = await makeUnion({ sizesBytes: [32 * 1024 ** 2], options: ['minfreespace=1M'] });
    writeFileSync(join(union.mountpoint, 'file'), '');
  });

  afterEach(async () => {
    for (const child of children.splice(0)) await killed(child);
  });

  after(async () => {
    await union?.close();
  });

  const lock = async (kind: string) => {
    const args = ['--input-type=module', '-e', locker, kind, join(union.mountpoint, 'file')];
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(child);
    const [answer] = (await once(child.stdout!.setEncoding('utf8'), 'data')) as [string];
    return answer.trim();
  };

  for (const kind of ['flock', 'posix']) {
    it(`are one process's at a time, and end with it: ${kind}`, async () => {
      expect(await lock(kind)).to.equal('locked');
      expect(await lock(kind)).to.equal('refused');
      await killed(children[0]!);
      expect(await lock(kind)).to.equal('locked');
    });
  }
});
