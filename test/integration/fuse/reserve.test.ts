/** The reserve of a branch holds however fast it fills; and what the union knows of its branches' space. */
import { existsSync, mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, type TestUnion } from '../../support/union-mount.ts';

const mebibyte = 1024 ** 2;

describe('a reserve', () => {
  let union: TestUnion | undefined;

  before(function () {
    needs(this, fuse, loop);
  });

  afterEach(async () => {
    await union?.close();
    union = undefined;
  });

  const available = (branch: string) => {
    const { bavail, bsize } = statfsSync(branch);
    return (bavail * bsize) / mebibyte;
  };

  it('is not used up by a fast writer', async () => {
    union = await makeUnion({
      sizesBytes: [192 * mebibyte, 192 * mebibyte],
      options: ['category.create=ff', 'minfreespace=32M'],
    });
    const [first, second] = union.branches as [string, string];
    const content = Buffer.alloc(mebibyte);
    const files = Math.floor(available(first));
    for (let file = 0; file < files; file++) writeFileSync(join(union.mountpoint, `${file}`), content);
    // The last file that found the reserve intact used some of it; and figures are a moment old.
    expect(available(first)).to.be.within(28, 32);
    expect(available(second)).to.be.lessThan(192 - 20);
  });

  it('lets a branch take files again soon after some were removed', async () => {
    union = await makeUnion({
      sizesBytes: [64 * mebibyte, 64 * mebibyte],
      options: ['category.create=ff', 'minfreespace=32M'],
    });
    const [first] = union.branches as [string, string];
    const fill = join(union.mountpoint, 'fill');
    writeFileSync(fill, Buffer.alloc(24 * mebibyte));
    writeFileSync(join(union.mountpoint, 'more'), Buffer.alloc(8 * mebibyte));
    mkdirSync(join(union.mountpoint, 'elsewhere'));
    expect(available(first)).to.be.lessThan(32);
    rmSync(fill);
    const deadline = Date.now() + 5_000;
    let tries = 0;
    do writeFileSync(join(union.mountpoint, `try-${++tries}`), '');
    while (!isOn(first, `try-${tries}`) && Date.now() < deadline);
    expect(isOn(first, `try-${tries}`)).to.equal(true);
  });

  it('and the space of other branches are looked at again by the threads that there are: another takes 100 ms of CPU to start', async () => {
    union = await makeUnion({
      sizesBytes: [64 * mebibyte, 96 * mebibyte],
      library: { create: 'mfs', readers: 1 }, // more would still be starting
    });
    const { branches, mountpoint, pid } = union;
    const [first, second] = branches as [string, string];
    const threads = () => readdirSync(`/proc/${pid}/task`).length;
    writeFileSync(join(mountpoint, 'before'), '');
    expect(isOn(second, 'before')).to.equal(true);
    const before = threads();
    writeFileSync(join(second, 'much'), Buffer.alloc(64 * mebibyte));
    await delay(1_000);
    const deadline = Date.now() + 5_000;
    let tries = 0;
    do writeFileSync(join(mountpoint, `try-${++tries}`), '');
    while (!isOn(first, `try-${tries}`) && Date.now() < deadline);
    expect(isOn(first, `try-${tries}`)).to.equal(true);
    await delay(300); // one would be started in the moment after
    expect(threads()).to.equal(before);
  });
});

function isOn(branch: string, name: string): boolean {
  return existsSync(join(branch, name));
}
