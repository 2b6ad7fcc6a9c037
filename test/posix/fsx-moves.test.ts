/**
 * fsx on a file that is moved from branch to branch all the while: random reads, writes, truncates, maps, holes and copies
 * against a model that knows nothing of it. FSX_SEED=N tries another seed.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { setXattr } from '../support/posix.ts';
import { fuse, loop, needs } from '../support/skip.ts';
import { isLong, seedsOf } from '../support/torture.ts';
import { makeUnion, type TestUnion } from '../support/union-mount.ts';
import { findTool } from './tools.ts';

const configuration = fileURLToPath(new URL('fsx.toml', import.meta.url));
const operations = isLong ? 5_000 : 1_500;
const branchBytes = 32 * 1024 ** 2;

describe('fsx on a file that moves', function () {
  this.timeout(300_000);

  before(function () {
    needs(this, fuse, loop);
  });

  for (const seed of seedsOf('FSX_SEED', isLong ? 20 : 2)) {
    it(`finds no difference in ${operations} operations, seed ${seed}`, async () => {
      // What is open past the server cannot move.
      const sizesBytes = [branchBytes, branchBytes, branchBytes];
      const union = await makeUnion({ sizesBytes, library: { passthrough: false } });
      try {
        const moves = await exercise(union, seed);
        expect(moves).to.be.greaterThan(20);
        expect(union.complaints()).to.equal('');
      } finally {
        await union.close();
      }
    });
  }
});

/** Runs fsx, and moves its file until it ends. Answers how often. */
async function exercise(union: TestUnion, seed: number): Promise<number> {
  const tool = findTool('fsx', 'cargo install fsx --version 0.3.2 --locked');
  const file = join(union.mountpoint, `seed-${seed}`);
  const args = ['-q', '-N', String(operations), '-S', String(seed), '-f', configuration, '-P', union.folder, file];
  const run = spawn(tool, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [run.stdout, run.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const exited = once(run, 'exit');
  let moves = 0;
  while (run.exitCode === null && run.signalCode === null) {
    if (existsSync(file) && move(file, union.branches[(moves + 1) % union.branches.length]!)) moves++;
    await setImmediate();
  }
  await exited;
  if (run.exitCode !== 0)
    throw new Error(
      `fsx with seed ${seed} ended with ${run.signalCode ?? run.exitCode} after ${moves} moves:\n${output.slice(-3000)}`,
    );
  return moves;
}

/** False when fsx has removed its file meanwhile. */
function move(file: string, branch: string): boolean {
  try {
    setXattr(file, 'trusted.union.branch', branch);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return false;
  }
}
