/** What a union says of its space. */
import { mkdirSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { type LoopBranches, makeLoopBranches } from '../../support/loop-branches.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { mountUnion, type UnionMount } from '../../support/union-mount.ts';

const mebibyte = 1024 ** 2;
/** A union counts in blocks of 4 KiB. */
const rounding = 4096;

describe('the space of a union', () => {
  let branches: LoopBranches;
  const unions: UnionMount[] = [];

  before(function () {
    needs(this, fuse, loop);
    branches = makeLoopBranches([32 * mebibyte, 64 * mebibyte]);
  });

  afterEach(async () => {
    for (const union of unions.splice(0).reverse()) await union.close();
  });

  after(() => branches?.close());

  const mount = async (name: string, ...written: string[]) => {
    const mountpoint = join(branches.folder, name);
    mkdirSync(mountpoint, { recursive: true });
    unions.push(await mountUnion({ branches: written, mountpoint, options: ['minfreespace=0'] }));
    return mountpoint;
  };
  const space = (path: string) => {
    const { bsize, blocks, bfree, bavail } = statfsSync(path);
    return { total: blocks * bsize, free: bfree * bsize, available: bavail * bsize };
  };

  it('counts a filesystem once, however many branches are on it, and others each', async () => {
    const [a, b] = branches.paths as [string, string];
    for (const path of [join(a, 'one'), join(a, 'two')]) mkdirSync(path);
    const union = await mount('union', join(a, 'one'), join(a, 'two'), b);
    for (const kind of ['total', 'free', 'available'] as const)
      expect(space(union)[kind], kind).to.be.closeTo(space(a)[kind] + space(b)[kind], rounding);
  });

  it('counts filesystems that have no number of their own, as those of the network', async () => {
    const [a, b] = branches.paths as [string, string];
    const lowers = [await mount('lower-a', a), await mount('lower-b', b)];
    const union = await mount('union', ...lowers);
    expect(space(union).total).to.be.closeTo(space(a).total + space(b).total, rounding);
  });

  it('has for available what a new file could take', async () => {
    const [a, b] = branches.paths as [string, string];
    writeFileSync(join(b, 'file'), 'x'.repeat(mebibyte));
    const union = await mount('union', `${a}=NC`, b);
    expect(space(union).total).to.be.closeTo(space(a).total + space(b).total, rounding);
    expect(space(union).available).to.be.closeTo(space(b).available, rounding);
    const full = await mount('full', a, `${b}=RW,1T`);
    expect(space(full).available).to.be.closeTo(space(a).available, rounding);
  });
});
