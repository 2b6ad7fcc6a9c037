/**
 * stress-ng's class `filesystem` on a union of four ext4 branches: nothing fails or is skipped that is not so on plain ext4 in the same
 * run. The short form is a choice of stressors for a second each, the long one all of them, as root past the server and
 * without privilege through it.
 */
import { chmodSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { makeLoopBranches } from '../support/loop-branches.ts';
import { fuse, loop, needs, program } from '../support/skip.ts';
import { isLong } from '../support/torture.ts';
import { makeUnion, type TestUnion } from '../support/union-mount.ts';
import { filesystemStressors, type Outcome, type Stress, stress } from './stress-ng.ts';

const branchBytes = 512 * 1024 ** 2;
const seconds = isLong ? 4 : 1;

/** Those that find the most per second: names, links, listings, attributes, locks, leases, allocation. */
const chosen = ['dentry', 'dir', 'dirmany', 'dnotify', 'fallocate', 'filename', 'getdent', 'link', 'rename', 'xattr'];

/** What no FUSE filesystem can have, and why. */
const impossible: Readonly<Record<string, string>> = {
  fiemap: 'the kernel asks no FUSE filesystem where its extents are',
};

/** Over plain ext4, for comparison. */
async function overExt4(load: Stress): Promise<Outcome> {
  const branches = makeLoopBranches([branchBytes]);
  try {
    return await stress(makeDirectory(branches.paths[0]!, load), load);
  } finally {
    branches.close();
  }
}

function makeDirectory(root: string, { stressor, user }: Stress): string {
  const directory = join(root, `${stressor}-${user}`);
  mkdirSync(directory);
  chmodSync(directory, 0o777);
  return directory;
}

for (const { user, passthrough } of [
  { user: 'root', passthrough: true },
  { user: 'nobody', passthrough: false },
] as const) {
  describe(`stress-ng as ${user}, ${passthrough ? 'passthrough' : 'proxied'}`, function () {
    this.timeout(300_000);
    let union: TestUnion;

    before(async function () {
      needs(this, fuse, loop, program('stress-ng'), program('setpriv'));
      union = await makeUnion({ sizesBytes: Array(4).fill(branchBytes), library: { passthrough, create: 'rand' } });
    });

    after(async () => {
      await union?.close();
    });

    const stressors = isLong && program('stress-ng')() === undefined ? filesystemStressors() : chosen;
    for (const stressor of stressors.filter((name) => impossible[name] === undefined)) {
      it(`${stressor} ends as on ext4`, async () => {
        const load = { stressor, user, seconds };
        const directory = makeDirectory(union.mountpoint, load);
        const outcome = await stress(directory, load);
        if (outcome.kind !== 'passed') expect(outcome).to.deep.equal(await overExt4(load));
        expect(readdirSync(directory), 'what it left').to.deep.equal([]);
        expect(union.complaints(), 'what the server complains of').to.equal('');
      });
    }
  });
}
