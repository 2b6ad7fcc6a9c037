/**
 * Whole lives of a union in the embedded cluster, the production processes in it, and one of them killed with SIGKILL at one
 * step: the life must end in success all the same, and leave the machine and the API as they were.
 *
 * Every step of the life with each of the three victims is a test; `npm test` runs some of them, drawn by a seed that it
 * prints, and `npm run test:kill` all. KILL_SEED draws the same ones again.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { ClusterProcess, VICTIMS, type Victim } from '../../support/cluster-process.ts';
import { ClusterWatch } from '../../support/cluster-watch.ts';
import { eventually } from '../../support/eventually.ts';
import { createClasses, goDown, goUp, Observer, STEPS, type Step, View } from '../../support/life.ts';
import { fuse, loop, needs } from '../../support/skip.ts';

const every = process.env.KILL_STEPS === 'all';
const seed = Number(process.env.KILL_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** Lives in `npm test`, which shall stay below a minute on two cores. */
const SOME = 6;

interface Kill {
  readonly victim: Victim;
  readonly step: Step;
}

describe('a union in a cluster', () => {
  let cluster: ClusterProcess | undefined;
  let watch: ClusterWatch | undefined;
  /** The machine and the API before the first life. */
  let atRest: readonly string[];

  before(function () {
    needs(this, fuse, loop);
    const which = every ? 'all of them' : `${SOME}, drawn by KILL_SEED=${seed}; npm run test:kill kills at all`;
    const total = `${STEPS.length} steps x ${VICTIMS.length} victims`;
    process.stdout.write(`\n  SIGKILL at ${total} = ${STEPS.length * VICTIMS.length}: ${which}\n`);
  });

  beforeEach(async () => {
    if (cluster) return;
    cluster = new ClusterProcess();
    await cluster.start();
    await createClasses(cluster.api);
    watch = new ClusterWatch(cluster.api);
    atRest = await cluster.state();
  });

  afterEach(async function () {
    if (this.currentTest?.state !== 'failed') return;
    await watch?.stop();
    await cluster?.discard();
    cluster = undefined;
  });

  after(async () => {
    await watch?.stop();
    await cluster?.stop();
  });

  /** One life. Returns the steps that were seen. */
  async function live(kill?: Kill): Promise<ReadonlySet<Step>> {
    const { api } = cluster!;
    const view = new View(watch!, cluster!);
    const observer = new Observer(view, watch!);
    const pid = kill && (await cluster!.pidOf(kill.victim));
    let restarted: Promise<void> | undefined;
    observer.onStep = (step) => {
      if (step !== kill?.step) return;
      process.kill(pid!, 'SIGKILL');
      restarted = kill.victim === 'cluster' ? cluster!.start() : Promise.resolve();
    };
    await observer.during('up', () => goUp(api, view, cluster!.dir));
    await expectWritten(view);
    const volumeId = view.union!.metadata.name;
    await observer.during('down', () => goDown(api, view));
    await restarted;
    if (kill) expect(restarted, 'the step to kill at was not seen').not.to.equal(undefined);
    await cluster!.expectState(atRest, volumeId);
    return observer.reached;
  }

  it('lives and leaves nothing, and takes every step that is listed', async () => {
    const reached = await live();
    expect(STEPS.filter((step) => !reached.has(step)).map(({ name }) => name)).to.deep.equal([]);
  });

  for (const kill of chosen()) {
    it(`lives and leaves nothing when ${kill.victim} is killed as ${kill.step.name}`, async () => {
      try {
        await live(kill);
      } catch (error) {
        throw new Error(`${(error as Error).message}\n${await cluster!.report()}`, { cause: error });
      }
    });
  }
});

/** What the pod wrote is there, and its mount is alive. */
async function expectWritten(view: View): Promise<void> {
  const file = join(view.published, 'file');
  await eventually('the file', () => {
    try {
      return readFileSync(file, 'utf8') === 'checked\n';
    } catch {
      return false;
    }
  });
  expect(readFileSync(join(view.published, 'many', '20'), 'utf8')).to.equal('20\n');
  writeFileSync(join(view.published, 'probe'), 'alive');
  expect(readFileSync(join(view.published, 'probe'), 'utf8')).to.equal('alive');
  const restarts = [view.pod, view.server].map((pod) => pod?.status?.containerStatuses?.[0]?.restartCount);
  expect(restarts).to.deep.equal([0, 0]);
}

/** Victims by turns, so that each process is killed once in a cluster's life: its restart has no back-off to wait for. */
function chosen(): readonly Kill[] {
  const random = generator(seed);
  const shuffled = VICTIMS.map((victim) => shuffle(STEPS, random).map((step) => ({ victim, step })));
  const kills = STEPS.flatMap((_, index) => shuffled.map((list) => list[index]!));
  return every ? kills : kills.slice(0, SOME);
}

function shuffle<T>(list: readonly T[], random: () => number): readonly T[] {
  const keyed = list.map((item) => ({ item, key: random() }));
  return keyed.sort((a, b) => a.key - b.key).map(({ item }) => item);
}

/** Mulberry32: small, and the same everywhere. */
function generator(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
