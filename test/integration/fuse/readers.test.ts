/** Where the threads of a union's server run. */
import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { expect } from 'chai';
import { until } from '../../support/processes.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, type TestUnion } from '../../support/union-mount.ts';

const cpus = availableParallelism();

describe('the readers of a union', () => {
  let union: TestUnion | undefined;

  before(async function () {
    needs(this, fuse, loop, () => (cpus === 1 ? 'needs two CPUs' : undefined));
    union = await makeUnion({ sizesBytes: [32 << 20] });
  });

  after(async () => {
    await union?.close();
  });

  it('are one for each CPU, at most four, and stay there', async () => {
    const wanted = Math.min(4, cpus);
    await until(() => pinned(union!.pid).length >= wanted);
    expect(new Set(pinned(union!.pid)).size).to.equal(wanted);
  });
});

/** The CPU of each thread that may run on one only. */
function pinned(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`)
    .map(
      (thread) => /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8'))![1]!,
    )
    .filter((list) => /^\d+$/.test(list));
}
