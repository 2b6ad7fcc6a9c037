/** Where the threads of a union's server run. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { killed, statFields, until } from '../../support/processes.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, type TestUnion } from '../../support/union-mount.ts';

const cpus = availableParallelism();
const readers = Math.min(4, cpus);
const [SCHED_OTHER, SCHED_BATCH, SCHED_IDLE] = [0, 3, 5];
/** Of /proc/…/stat, behind the name. */
const [PROCESSOR, POLICY] = [36, 38];

describe('the readers of a union', () => {
  let union: TestUnion | undefined;

  before(function () {
    needs(this, fuse, loop, () => (cpus === 1 ? 'needs two CPUs' : undefined));
  });

  afterEach(async () => {
    await union?.close();
    union = undefined;
  });

  it('are one for each CPU, at most four, and stay there', async () => {
    union = await makeUnion({ sizesBytes: [32 << 20] });
    await until(() => pinned(union!).length >= readers);
    expect(new Set(pinned(union).map(({ cpu }) => cpu)).size).to.equal(readers);
    lookUp(union, 3000);
    expect(pinned(union).map(({ policy }) => policy)).to.deep.equal(Array(readers).fill(SCHED_OTHER));
  });

  it('work beside a caller who is alone, and go home when another follows', async function () {
    needs(this, scheduledAlone);
    union = await makeUnion({ sizesBytes: [32 << 20], ownSession: true });
    await until(() => {
      lookUp(union!, 3000);
      const cpu = Number(statFields('self')[PROCESSOR]);
      return pinned(union!).every((reader) => reader.cpu === cpu && reader.policy === SCHED_IDLE);
    });
    const another = 'for i in $(seq 50); do stat other$i; done';
    await until(() => {
      spawnSync('sh', ['-c', another], { cwd: union!.mountpoint, stdio: 'ignore' });
      return areAtHome(union!, SCHED_OTHER);
    });
  });

  it('do not interrupt callers who come at one time', async () => {
    union = await makeUnion({ sizesBytes: [32 << 20] });
    const endless = 'i=0; while i=$((i + 1)); do [ -e "$0-$i" ]; done';
    const crowd = Array.from({ length: 2 * cpus }, (_, n) =>
      spawn('sh', ['-c', endless, `other-${n}`], { cwd: union!.mountpoint, stdio: 'ignore' }),
    );
    try {
      await until(() => areAtHome(union!, SCHED_BATCH));
    } finally {
      await Promise.all(crowd.map(killed));
    }
    await until(() => {
      lookUp(union!, 3000);
      return pinned(union!).every(({ policy }) => policy !== SCHED_BATCH);
    });
  });
});

/** Each reader has a CPU of its own. */
function areAtHome(union: TestUnion, policy: number): boolean {
  const places = pinned(union);
  return new Set(places.map(({ cpu }) => cpu)).size === readers && places.every((place) => place.policy === policy);
}

/** Asks for names that are not there, each a request. */
function lookUp({ mountpoint }: TestUnion, count: number): void {
  const nonce = Math.random();
  for (let i = 0; i < count; i++) existsSync(join(mountpoint, `missing-${nonce}-${i}`));
}

/** Of a server in a session of its own. */
function scheduledAlone(): string | undefined {
  const file = new URL('../../../fuse/transport/scheduling-group.ts', import.meta.url);
  const program = `import('${file}').then(({ ownsSchedulingGroup }) => process.exit(ownsSchedulingGroup() ? 0 : 1))`;
  const { status } = spawnSync('setsid', ['--wait', process.execPath, '-e', program]);
  return status === 0 ? undefined : 'needs a scheduling group for each session (sched_autogroup_enabled)';
}

/** The threads that may run on one CPU only. */
function pinned({ pid }: TestUnion): { cpu: number; policy: number }[] {
  const threads = readdirSync(`/proc/${pid}/task`).map((thread) => `${pid}/task/${thread}`);
  return threads.flatMap((thread) => {
    const [, cpu] = /^Cpus_allowed_list:\s*(\d+)$/m.exec(readFileSync(`/proc/${thread}/status`, 'utf8')) ?? [];
    return cpu === undefined ? [] : [{ cpu: Number(cpu), policy: Number(statFields(thread)[POLICY]) }];
  });
}
