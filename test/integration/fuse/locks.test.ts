/** flock and POSIX locks between processes. */
import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { LOCK_KINDS, type LockKind, takeLock } from '../../support/locker.ts';
import { killed } from '../../support/processes.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, type TestUnion } from '../../support/union-mount.ts';

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

  const lock = async (kind: LockKind) => {
    const { child, answer } = await takeLock(kind, join(union.mountpoint, 'file'));
    children.push(child);
    return answer;
  };

  for (const kind of LOCK_KINDS) {
    it(`are one process's at a time, and end with it: ${kind}`, async () => {
      expect(await lock(kind)).to.equal('locked');
      expect(await lock(kind)).to.equal('refused');
      await killed(children[0]!);
      expect(await lock(kind)).to.equal('locked');
    });
  }
});
