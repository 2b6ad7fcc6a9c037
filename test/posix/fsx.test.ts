/**
 * fsx: random reads, writes, truncates, maps, holes and copies of one file against a model in memory, on plain ext4 and on
 * a union, past the server and through it. Seeds are fixed so that a run can be repeated; FSX_SEED tries another.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { makeLoopBranches } from '../support/loop-branches.ts';
import { fuse, loop, needs } from '../support/skip.ts';
import { isLong, seedsOf } from '../support/torture.ts';
import { makeUnion } from '../support/union-mount.ts';
import { findTool } from './tools.ts';

const configuration = fileURLToPath(new URL('fsx.toml', import.meta.url));
const operations = 10_000;
const branchBytes = 64 * 1024 ** 2;
const seeds = seedsOf('FSX_SEED', isLong ? 20 : 3);

interface Exercise {
  readonly directory: string;
  /** Where fsx leaves its copies of the file when it finds a difference. */
  readonly artifacts: string;
  readonly seed: number;
}

function exercise({ directory, artifacts, seed }: Exercise): void {
  const tool = findTool('fsx', 'cargo install fsx --version 0.3.2 --locked');
  const args = ['-q', '-N', String(operations), '-S', String(seed), '-f', configuration, '-P', artifacts];
  const run = spawnSync(tool, [...args, join(directory, `seed-${seed}`)], { encoding: 'utf8', timeout: 120_000 });
  if (run.status !== 0) {
    throw new Error(
      `fsx with seed ${seed} ended with ${run.signal ?? run.status}:\n${(run.stdout + run.stderr).slice(-3000)}`,
    );
  }
}

describe('fsx', function () {
  this.timeout(300_000);

  before(function () {
    needs(this, fuse, loop);
  });

  it(`finds no difference in ${operations} operations on ext4, as a check of the test itself`, () => {
    const branches = makeLoopBranches([branchBytes]);
    try {
      exercise({ directory: branches.paths[0]!, artifacts: branches.folder, seed: seeds[0]! });
    } finally {
      branches.close();
    }
  });

  for (const passthrough of [true, false]) {
    for (const seed of seeds) {
      const how = passthrough ? 'passthrough' : 'proxied';
      it(`finds no difference in ${operations} operations on a union, ${how}, seed ${seed}`, async () => {
        const union = await makeUnion({ sizesBytes: [branchBytes, branchBytes], library: { passthrough } });
        try {
          exercise({ directory: union.mountpoint, artifacts: union.folder, seed });
          expect(union.complaints()).to.equal('');
        } finally {
          await union.close();
        }
      });
    }
  }
});
