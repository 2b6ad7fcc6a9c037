/**
 * POSIX conformance: pjdfstest on unions of one, four and eight ext4 branches, with each way of serving data and each cache,
 * against plain ext4 in the same run.
 * A test that plain ext4 fails here says nothing about the union and is left out.
 */
import { linkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { makeLoopBranches } from '../support/loop-branches.ts';
import { fuse, loop, needs } from '../support/skip.ts';
import { makeUnion } from '../support/union-mount.ts';
import { describeFailures, namesOf, type Report, runPjdfstest } from './pjdfstest.ts';

/** Tests that no FUSE filesystem can run, and why. */
const impossible: Readonly<Record<string, string>> = {
  'link::link_count_max':
    'glibc answers pathconf(_PC_LINK_MAX) from the filesystem type, and knows none for FUSE; tested below instead',
};

const branchBytes = 256 * 1024 ** 2;

async function overExt4(): Promise<Report> {
  const branches = makeLoopBranches([branchBytes]);
  try {
    return await runPjdfstest(branches.paths[0]!);
  } finally {
    branches.close();
  }
}

interface Setup {
  readonly branchCount: number;
  readonly passthrough: boolean;
  readonly cache: 'exclusive' | 'shared';
}

const setups: readonly Setup[] = [1, 4, 8].flatMap((branchCount) =>
  [true, false].flatMap((passthrough) =>
    (['exclusive', 'shared'] as const).map((cache) => ({ branchCount, passthrough, cache })),
  ),
);

async function overUnion({ branchCount, passthrough, cache }: Setup): Promise<Report> {
  const union = await makeUnion({
    sizesBytes: Array(branchCount).fill(branchBytes),
    // At random, so that the names of one test are on different branches.
    library: { passthrough, cache, create: 'rand' },
  });
  try {
    const report = await runPjdfstest(union.mountpoint);
    expect(union.complaints(), 'what the server complains of').to.equal('');
    return report;
  } finally {
    await union.close();
  }
}

describe('pjdfstest', function () {
  this.timeout(180_000);
  let native: Report;

  before(async function () {
    needs(this, fuse, loop);
    native = await overExt4();
  });

  for (const setup of setups) {
    const { branchCount, passthrough, cache } = setup;
    describe(`over ${branchCount} ext4, ${passthrough ? 'passthrough' : 'proxied'}, cache=${cache}`, () => {
      let union: Report;

      before(async () => {
        union = await overUnion(setup);
      });

      it('passes every test that ext4 passes', () => {
        const failed = namesOf(union, 'FAILED').filter((name) => native.get(name)?.outcome !== 'FAILED');
        expect(failed, `\n${describeFailures(union)}`).to.deep.equal([]);
        expect(namesOf(union, 'ok').length).to.be.greaterThan(300);
      });

      it('skips nothing that ext4 does not skip', () => {
        const skipped = namesOf(union, 'skipped').filter((name) => native.get(name)?.outcome !== 'skipped');
        expect(skipped.filter((name) => impossible[name] === undefined)).to.deep.equal([]);
        expect([...union.keys()].sort()).to.deep.equal([...native.keys()].sort());
      });
    });
  }

  it('allows as many hard links as ext4, then answers EMLINK', async () => {
    const union = await makeUnion({ sizesBytes: [branchBytes] });
    try {
      const ext4Links = 65_000;
      const file = join(union.mountpoint, 'file');
      writeFileSync(file, '');
      for (let links = 1; links < ext4Links; links++) linkSync(file, `${file}-${links}`);
      expect(() => linkSync(file, `${file}-beyond`)).to.throw('EMLINK');
      expect(statSync(file).nlink).to.equal(ext4Links);
    } finally {
      await union.close();
    }
  });
});
