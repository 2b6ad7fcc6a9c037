/**
 * Four clients in one small tree, so that their operations meet: nothing may fail that no order explains, and afterwards the
 * view is what is on the branches. HAMMER_MS makes it longer; the seeds are printed when it fails.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { runProgram } from '../../support/loop-branches.ts';
import { until } from '../../support/processes.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { describeTree, mergeTrees, readTree } from '../../support/tree.ts';
import { makeUnion, mountUnion, type TestUnion } from '../../support/union-mount.ts';

const mebibyte = 1024 ** 2;
const durationMs = Number(process.env.HAMMER_MS ?? 2000);
const firstSeed = Number(process.env.HAMMER_SEED ?? Date.now() % 1_000_000);
const client = fileURLToPath(new URL('../../support/hammer-client.ts', import.meta.url));
const maker = fileURLToPath(new URL('../../support/make-client.ts', import.meta.url));

async function runClient(...args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, [...args, String(durationMs)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: AbortSignal.timeout(durationMs + 60_000),
    killSignal: 'SIGKILL',
  });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  child.stdout.resume();
  const [code, signal] = await once(child, 'close').catch(() => [1, 'no answer in time']);
  return code === 0 ? '' : `${args.join(' ')} ended with ${signal ?? code}: ${complaint}`;
}

for (const passthrough of [true, false]) {
  describe(`a union under four clients, ${passthrough ? 'passthrough' : 'proxied'}`, function () {
    this.timeout(durationMs + 120_000);
    let union: TestUnion | undefined;

    before(async function () {
      needs(this, fuse, loop);
      union = await makeUnion({
        sizesBytes: [32 * mebibyte, 32 * mebibyte, 32 * mebibyte],
        library: { passthrough, create: 'rand', readers: 3 },
      });
    });

    after(async () => {
      await union?.close();
    });

    it('makes and removes files beside others that do, each in a directory of its own', async () => {
      const directories = ['one', 'two', 'three'].map((name) => join(union!.mountpoint, name));
      const failures = await Promise.all(directories.map((directory) => runClient(maker, directory)));
      expect(failures.join('') + union!.complaints()).to.equal('');
    });

    it(`shows what is on the branches afterwards, from seed ${firstSeed}`, async () => {
      const { mountpoint, branches, folder, complaints } = union!;
      const seeds = [0, 1, 2, 3].map((index) => firstSeed + index * 7919);
      const failures = await Promise.all(seeds.map((seed) => runClient(client, mountpoint, String(seed))));
      expect(failures.join('') + complaints()).to.equal('');
      const seen = describeTree(readTree(mountpoint));
      expect(seen).to.deep.equal(describeTree(mergeTrees(branches.map(readTree))));

      // What the kernel forgets, the server forgets, but for directories and files that keep their backing id.
      const directories = seen.filter((line) => line.includes(' directory ')).length;
      await knowsAtMost(union!, 1 + (passthrough ? seen.length : directories));

      const again = join(folder, 'again');
      mkdirSync(again);
      const other = await mountUnion({ branches, mountpoint: again });
      try {
        expect(describeTree(readTree(again))).to.deep.equal(seen);
      } finally {
        await other.close();
      }
      for (const name of readdirSync(mountpoint)) rmSync(join(mountpoint, name), { recursive: true });
      await knowsAtMost(union!, 1);
    });
  });
}

/** When the kernel has forgotten all that it can, the server knows no more inodes than that, and has no open handle. */
async function knowsAtMost({ mountpoint, output, pid }: TestUnion, most: number): Promise<void> {
  runProgram('mount', ['-i', '-o', 'remount,rw', mountpoint]);
  await until(() => {
    process.kill(pid, 'SIGUSR2');
    const last = /.*status (.*)\n/s.exec(output())?.[1] ?? '{}';
    const { inodes, openHandles } = JSON.parse(last) as { inodes?: number; openHandles?: number };
    return openHandles === 0 && inodes! <= most;
  });
}
