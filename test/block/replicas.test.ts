/**
 * Replicas as processes over real sockets: killed, stopped past their lease and woken, cut off from each other, one at a time, while a
 * client writes and moves to whoever serves. What it sees is judged by the simulator's oracle. BLOCK_ROUNDS=200 for more,
 * BLOCK_REPLICAS=2 for two.
 */

import { rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { BLOCK_SIZE } from '../../src/block/units.ts';
import { Oracle } from '../sim/oracle.ts';
import { type Random, random } from '../sim/random.ts';
import { BlockWork } from '../support/block-work.ts';
import { Disconnected, type NbdClient } from '../support/nbd-client.ts';
import { ReplicaProcesses } from '../support/replica-processes.ts';
import { itEachRound } from '../support/rounds.ts';

const ROUNDS = Number(process.env.BLOCK_ROUNDS ?? 3);
const REPLICAS = Number(process.env.BLOCK_REPLICAS ?? 3);
const DEPTH = 8;
const BLOCKS = 4096;
/** A client that hears nothing for so long looks for another replica. */
const PATIENCE_MS = 5000;

describe(`${REPLICAS} replicas of a volume`, function () {
  this.timeout(60_000 + ROUNDS * 60_000);
  const ids = ['a', 'b', 'c'].slice(0, REPLICAS);
  let replicas: ReplicaProcesses;

  beforeEach(async () => {
    replicas = await ReplicaProcesses.start(ids, { blocks: BLOCKS });
  });

  afterEach(async function () {
    await replicas.close();
    if (this.currentTest?.state === 'failed') process.stderr.write(replicas.said);
  });

  /** Rounds of work, each with a fault in the middle; whatever it was is over when it returns, and all are in sync again. */
  async function faultyRounds(dice: Random, fault: (round: number, primary: string) => Promise<void>): Promise<void> {
    const oracle = new Oracle();
    const work = new BlockWork(dice, oracle, BLOCKS);
    for (let round = 0; round < ROUNDS; round++) {
      const { id, client } = await begin(oracle, work);
      const stop = new AbortController();
      const workers = Promise.all(Array.from({ length: DEPTH }, () => work.run(client, stop.signal)));
      await delay(dice.integer(1, 500));
      await fault(round, id).finally(() => stop.abort());
      client.close();
      await workers;
      oracle.lost(true);
      // At most one fault at a time.
      await replicas.allInSync();
    }
    (await begin(oracle, work)).client.close();
    expect(work.done, 'operations that were answered').to.be.greaterThan(ROUNDS);
  }

  /** A session that has seen all blocks. */
  async function begin(oracle: Oracle, work: BlockWork) {
    for (;;) {
      const session = await replicas.connect();
      try {
        await work.readAll(session.client);
        return session;
      } catch (error) {
        if (!(error instanceof Disconnected)) throw error;
        session.client.close();
        oracle.lost(true);
      }
    }
  }

  const seed = Number(process.env.BLOCK_SEED ?? Math.floor(Math.random() * 1e9));
  it(`loses nothing that was flushed when one after the other is killed or stopped, ${ROUNDS} rounds (seed ${seed})`, async () => {
    const dice = random(seed, 'replicas');
    await faultyRounds(dice, async (round, primary) => {
      const victim = round % 3 === 2 ? dice.pick(ids) : primary;
      const how = dice.pick(['SIGKILL', 'SIGSTOP'] as const);
      replicas.processOf(victim).kill(how);
      // The client goes on with the others' help, or gives up.
      await Promise.race([replicas.evicted(victim), delay(PATIENCE_MS)]);
      if (how === 'SIGKILL') {
        await replicas.kill(victim);
        replicas.start(victim);
      } else replicas.processOf(victim).kill('SIGCONT');
    });
  });

  it(`loses nothing that was flushed when the network between two is cut, ${ROUNDS} rounds (seed ${seed})`, async () => {
    const dice = random(seed, 'cuts');
    await faultyRounds(dice, async (round, primary) => {
      const backups = replicas.others(primary);
      // In turn: the primary and one, the primary and the other, the two others, which nobody need notice.
      const [a, b] = round % 3 === 2 ? [backups[0]!, backups[1]!] : [primary, backups[round % backups.length]!];
      const wires = replicas.wires(a, b ?? primary);
      for (const wire of wires) wire.cut();
      if (a === primary)
        await replicas.inSync('one of two that cannot hear each other leaves', (of) => of.length < REPLICAS);
      else {
        await replicas.use((client) => client.write((BLOCKS - 1) * BLOCK_SIZE, Buffer.alloc(BLOCK_SIZE, 1), true));
      }
      for (const wire of wires) wire.heal();
    });
  });

  itEachRound('a primary that was stopped past its lease answers nothing when it wakes', async () => {
    await replicas.use((client) => client.write(0, Buffer.alloc(BLOCK_SIZE, 1), true));
    await replicas.allInSync();
    const { id, client } = await replicas.connect();
    replicas.processOf(id).kill('SIGSTOP');
    const refused = asked(client);
    const others = replicas.others(id);
    expect(await replicas.use(async (next) => (await next.read(0, BLOCK_SIZE))[0], others)).to.equal(1);
    await replicas.use((next) => next.write(0, Buffer.alloc(BLOCK_SIZE, 2), true), others);
    replicas.processOf(id).kill('SIGCONT');
    expect(await refused).to.deep.equal(['refused', 'refused', 'refused']);
    expect(await replicas.use(async (next) => (await next.read(0, BLOCK_SIZE))[0])).to.equal(2);
  });

  it('rebuilds one that has lost its disk, and sends no more than was ever written', async () => {
    const id = await replicas.use(async (client, primary) => {
      for (let block = 0; block < 50; block++)
        await client.write(block * 40 * BLOCK_SIZE, Buffer.alloc(BLOCK_SIZE, block + 1));
      await client.flush();
      return primary;
    });
    const lost = replicas.others(id)[0]!;
    await replicas.kill(lost);
    rmSync(replicas.directoryOf(lost), { recursive: true });
    await replicas.evicted(lost);
    const wires = replicas.others(lost).flatMap((other) => replicas.wires(other, lost)[0]!);
    const passed = () => wires.reduce((sum, wire) => sum + wire.passed, 0);
    const before = passed();
    replicas.start(lost);
    await replicas.allInSync();
    expect(passed() - before).to.be.lessThan((BLOCKS * BLOCK_SIZE) / 8);
    // Nothing is left but what was rebuilt.
    for (const other of replicas.others(lost)) await replicas.kill(other);
    await replicas.use(
      async (client) => {
        for (let block = 0; block < 50; block++)
          expect((await client.read(block * 40 * BLOCK_SIZE, 1))[0]).to.equal(block + 1);
      },
      [lost],
    );
  });
});

/** What becomes of a read, a flush and a forced write. */
async function asked(client: NbdClient): Promise<readonly string[]> {
  const requests = [client.read(0, BLOCK_SIZE), client.flush(), client.write(0, Buffer.alloc(BLOCK_SIZE, 9), true)];
  return await Promise.all(
    requests.map((request) =>
      request.then(
        () => 'answered',
        () => 'refused',
      ),
    ),
  );
}
