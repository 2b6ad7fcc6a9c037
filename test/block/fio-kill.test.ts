/**
 * fio writes to an attached volume and verifies what it reads back, while one process after the other is killed with SIGKILL:
 * replicas, the one that leads and others, and both that serve the device. It must not see an error. Then all of them are killed at
 * once, and it verifies once more what it was told is written. A killed process takes nothing from the page cache: power loss is
 * the simulator's. BLOCK_ROUNDS=200 for more kills at each number of replicas, BLOCK_SEED for their order.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { type Random, random } from '../sim/random.ts';
import { AttachedDevice } from '../support/attached-device.ts';
import { BlockNodes } from '../support/block-nodes.ts';
import { eventually } from '../support/eventually.ts';
import { type FioRun, fio } from '../support/fio.ts';
import { expectNoLeaks } from '../support/leaks.ts';
import { fuse, loop, needs, program } from '../support/skip.ts';

const ROUNDS = Number(process.env.BLOCK_ROUNDS ?? 4);
const BLACKOUTS = Math.ceil(ROUNDS / 5);
const BLOCKS = 32_768;
/** As much as the volume's log has room for. */
const AREA = ['--size=16M'];
const LIMIT_MS = 60_000 + ROUNDS * 2_000;
/** So many requests are answered after a kill before the next. */
const ANSWERED = 32;
/** A replica that is dead for longer than its lease has lost its seat. */
const MAX_DEAD_MS = 3_000;

/** What can be killed while fio goes on. Of the two processes of the device never both at once: the connection would end. */
const ofDevice: Readonly<Record<string, readonly ('serves' | 'waits')[]>> = {
  'process of the device': ['serves'],
  'process that waits': ['waits'],
  // The one that serves has just started another.
  'both in turn': ['waits', 'serves'],
};
const ofReplicas: Readonly<Record<string, (nodes: BlockNodes, dice: Random) => readonly string[]>> = {
  primary: ({ primary }) => [primary],
  backup: ({ ids, primary }, dice) => [dice.pick(ids.filter((id) => id !== primary))],
  'all replicas': ({ ids }) => ids,
};

/** A pass writes each block once, or some of them often. What is written differs by pass and place, or else by write, so that an older block is seen. */
const jobs: readonly ((pass: number) => readonly string[])[] = [
  (pass) => [...mixed(pass), '--fsync=64', '--verify_backlog=128'],
  (pass) => [...mixed(pass), '--fsync=32'],
  () => [
    ...['--name=hot', '--rw=randwrite', '--bs=4k', '--norandommap', '--random_distribution=zipf:1.1', '--io_size=16M'],
    ...['--verify=crc32c', '--verify_backlog=64', '--fdatasync=16'],
  ],
];

function mixed(pass: number): readonly string[] {
  const pattern = `0x${pass.toString(16).padStart(8, '0')}%o`;
  const sizes = '--bssplit=4k/50:16k/30:64k/20';
  return ['--name=mixed', '--rw=randwrite', sizes, '--verify=pattern', `--verify_pattern=${pattern}`];
}

/** Passes are counted from 1: nothing that is written is all zeros. */
function flagsOf(pass: number): readonly string[] {
  const flags = jobs[pass % jobs.length]!(pass);
  const verify = ['--do_verify=1', '--verify_fatal=1', '--verify_state_save=0', '--serialize_overlap=1'];
  return [...flags, ...AREA, ...verify, '--iodepth=16', '--end_fsync=1', `--randseed=${pass}`];
}

/** Four that have one request under way each, so that fio can say exactly what was answered; the whole volume, so that they do not end. */
function alone(pass: number): readonly string[] {
  const places = ['--numjobs=4', '--size=32M', '--offset_increment=32M'];
  return [...mixed(pass), ...places, '--iodepth=1', '--do_verify=1', '--verify_fatal=1', `--randseed=${pass}`];
}

describe('an attached volume, under fio with verify', function () {
  this.timeout(120_000 + ROUNDS * 60_000);
  let folder: string;
  let nodes: BlockNodes;
  let device: AttachedDevice;
  /** What goes on beside a test, and ends with its device. */
  let beside: Promise<unknown>;

  before(function () {
    needs(this, fuse, loop, program('fio'));
  });

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'union-fio-'));
    beside = Promise.resolve();
  });

  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(`${nodes.said}\n${device.said}\n`);
    try {
      // What fio has under way fails by this.
      await device.close();
      await beside;
    } finally {
      await nodes.close();
    }
    await expectNoLeaks(folder);
    rmSync(folder, { recursive: true });
  });

  async function start(replicas: number): Promise<void> {
    nodes = await BlockNodes.start(replicas, { folder, blocks: BLOCKS });
    // As in one container, or in two.
    device = new AttachedDevice(folder, nodes.volumeId, { keeper: replicas > 1 });
    await device.attach(nodes.attachConfig);
  }

  /** All processes at once, and all of them again. */
  async function killEverything(): Promise<void> {
    await Promise.all([device.killAll(), ...nodes.ids.map((id) => nodes.kill(id))]);
  }

  async function startEverything(): Promise<void> {
    await device.detach();
    for (const id of nodes.ids) nodes.start(id);
    await device.attach(nodes.attachConfig);
  }

  const seed = Number(process.env.BLOCK_SEED ?? Math.floor(Math.random() * 1e9));
  for (const replicas of [1, 2, 3]) {
    it(`with ${replicas} of its replicas, sees no error in ${ROUNDS} rounds of kill -9, and loses nothing when all is killed (seed ${seed})`, async () => {
      await start(replicas);
      const dice = random(seed, `fio ${replicas}`);
      const stop = new AbortController();
      const passes: FioRun[] = [];
      const write = async () => {
        // The last pass is one whose blocks say which pass they are of.
        while (!stop.signal.aborted || passes.length % jobs.length !== 1)
          passes.push(await verified(flagsOf(passes.length + 1)));
      };
      const writing = write().finally(() => stop.abort());
      const killing = killOneByOne(dice, stop.signal).finally(() => stop.abort());
      beside = Promise.allSettled([killing, writing]);
      const [killed] = await Promise.all([killing, writing]);
      await killEverything();
      await startEverything();
      const last = await verified([...flagsOf(passes.length), '--verify_only']);
      console.log(report(replicas, killed, [...passes, last]));
    });
  }

  for (const replicas of [1, 2, 3]) {
    it(`with ${replicas} of its replicas, has every write that was answered when all was killed in the midst of them, ${BLACKOUTS} times (seed ${seed})`, async () => {
      await start(replicas);
      const dice = random(seed, `blackout ${replicas}`);
      for (let pass = 1; pass <= BLACKOUTS; pass++) {
        const { done } = device.requests;
        const running = fio(device.path, [...alone(pass), '--verify_state_save=1'], folder);
        beside = Promise.allSettled([running]);
        await eventually('fio to write', () => device.requests.done > done + ANSWERED, LIMIT_MS);
        await delay(dice.integer(0, 500));
        await killEverything();
        const cut = await running;
        expect(cut.ok, 'was cut').to.equal(false);
        await startEverything();
        const after = await verified([...alone(pass), '--verify_only', '--verify_state_load=1']);
        expect(after.verifiedBytes).to.equal(cut.writtenBytes);
      }
    });
  }

  async function verified(flags: readonly string[]): Promise<FioRun> {
    const run = await fio(device.path, flags, folder);
    expect(run.ok, `fio ${flags.join(' ')}: ${run.said}`).to.equal(true);
    expect(run.verifiedBytes, 'verified').to.be.greaterThan(0);
    return run;
  }

  /** Answers how often each was. */
  async function killOneByOne(dice: Random, signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
    const replicas = nodes.ids.length === 1 ? ['primary'] : Object.keys(ofReplicas);
    const killed = new Map<string, number>();
    let turn: string[] = [];
    let answered = 0;
    const isUnderWay = () => device.requests.done > answered + ANSWERED && device.requests.underWay > 0;
    const underWay = () => eventually('fio to go on', () => signal.aborted || isUnderWay(), LIMIT_MS);
    for (let round = 0; round < ROUNDS && !signal.aborted; round++) {
      await underWay();
      await delay(dice.integer(0, 300));
      await underWay();
      // Each once, in an order that is never the same.
      if (turn.length === 0) turn = [...Object.keys(ofDevice), ...replicas];
      const [victim] = turn.splice(dice.integer(0, turn.length - 1), 1) as [string];
      await kill(victim, dice);
      killed.set(victim, (killed.get(victim) ?? 0) + 1);
      answered = device.requests.done;
      if (dice.chance(0.5))
        await eventually('all replicas to be in sync', () => signal.aborted || nodes.areAllInSync, LIMIT_MS);
    }
    await underWay();
    return killed;
  }

  async function kill(victim: string, dice: Random): Promise<void> {
    for (const which of ofDevice[victim] ?? []) await device.kill(which, LIMIT_MS);
    const ids = ofReplicas[victim]?.(nodes, dice) ?? [];
    await Promise.all(ids.map((id) => nodes.kill(id)));
    if (ids.length > 0 && dice.chance(0.5)) await delay(dice.integer(0, MAX_DEAD_MS));
    for (const id of ids) nodes.start(id);
  }
});

function report(replicas: number, killed: ReadonlyMap<string, number>, runs: readonly FioRun[]): string {
  const mebibytes = (of: (run: FioRun) => number) =>
    Math.round(runs.reduce((all, run) => all + of(run), 0) / 1024 ** 2);
  const rounds = [...killed].map(([victim, times]) => `${victim} ${times}`).join(', ');
  const longest = Math.max(...runs.map(({ longestMs }) => longestMs));
  return `    replicas: ${replicas}; killed: ${rounds}; MiB written ${mebibytes((run) => run.writtenBytes)}, verified ${mebibytes((run) => run.verifiedBytes)} in ${runs.length} passes; longest request ${(longest / 1000).toFixed(1)} s`;
}
