/**
 * Replicas as processes over real sockets: killed, stopped past their lease and woken, one at a time, while a client writes and
 * moves to whoever serves. What it sees is judged by the simulator's oracle. BLOCK_ROUNDS=200 for more, BLOCK_REPLICAS=2 for two.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { BLOCK_SIZE } from '../../../src/block/units.ts';
import { ConfigRegister } from '../../../src/host/block/config-register.ts';
import { Oracle } from '../../sim/oracle.ts';
import { random } from '../../sim/random.ts';
import { BlockWork } from '../../support/block-work.ts';
import { eventually } from '../../support/eventually.ts';
import { NbdClient } from '../../support/nbd-client.ts';
import { killed } from '../../support/processes.ts';

const ROUNDS = Number(process.env.BLOCK_ROUNDS ?? 3);
const REPLICAS = Number(process.env.BLOCK_REPLICAS ?? 3);
const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));
const DEPTH = 8;
const BLOCKS = 4096;
/** A client that hears nothing for so long looks for another replica. */
const PATIENCE_MS = 5000;
const FAILOVER_MS = 60_000;

describe(`${REPLICAS} replicas of a volume`, function () {
  this.timeout(60_000 + ROUNDS * 60_000);
  const ids = ['a', 'b', 'c'].slice(0, REPLICAS);
  const processes = new Map<string, ChildProcess>();
  let folder: string;
  let members: readonly string[];
  let said = '';

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'union-block-replicas-'));
    members = await Promise.all(ids.map(async (id) => `${id}=127.0.0.1:${await freePort()}`));
    said = '';
    for (const id of ids) start(id);
  });

  afterEach(async function () {
    for (const child of processes.values()) await killed(child);
    processes.clear();
    rmSync(folder, { recursive: true, force: true });
    if (this.currentTest?.state === 'failed') process.stderr.write(said);
  });

  const socketOf = (id: string) => join(folder, `${id}.sock`);
  const register = () => new ConfigRegister(join(folder, 'config'));

  function start(id: string): void {
    const where = ['--config', join(folder, 'config'), '--id', id, '--socket', socketOf(id), join(folder, id)];
    const size = ['--size', String(BLOCKS * BLOCK_SIZE)];
    const args = ['block-serve', ...size, ...members.flatMap((member) => ['--member', member]), ...where];
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr!.on('data', (text) => {
      said += text;
    });
    processes.set(id, child);
  }

  /** Whoever serves. */
  async function connect(): Promise<{ readonly id: string; readonly client: NbdClient }> {
    return await eventually(
      'one of the replicas serves',
      async () => {
        for (const id of ids) {
          const client = await NbdClient.connect({ path: socketOf(id) }).catch(() => undefined);
          if (client) return { id, client };
        }
        return undefined;
      },
      FAILOVER_MS,
    );
  }

  async function allInSync(): Promise<void> {
    const all = async () => (await register().read()).inSync.length === ids.length;
    await eventually('all replicas are in sync', all, FAILOVER_MS);
  }

  const seed = Number(process.env.BLOCK_SEED ?? Math.floor(Math.random() * 1e9));
  it(`loses nothing that was flushed when one after the other is killed or stopped, ${ROUNDS} rounds (seed ${seed})`, async () => {
    const dice = random(seed, 'replicas');
    const oracle = new Oracle();
    const work = new BlockWork(dice, oracle, BLOCKS);
    for (let round = 0; round < ROUNDS; round++) {
      const { id, client } = await connect();
      await work.readAll(client);
      const stop = new AbortController();
      const workers = Promise.all(Array.from({ length: DEPTH }, () => work.run(client, stop.signal)));
      await delay(dice.integer(1, 500));
      const victim = round % 3 === 2 ? dice.pick(ids) : id;
      const how = dice.pick(['SIGKILL', 'SIGSTOP'] as const);
      processes.get(victim)!.kill(how);
      // The client goes on with the others' help, or notices that its server is gone.
      await Promise.race([workers, delay(PATIENCE_MS)]);
      stop.abort();
      client.close();
      await workers;
      oracle.lost(true);
      if (how === 'SIGKILL') {
        await killed(processes.get(victim)!);
        start(victim);
      } else processes.get(victim)!.kill('SIGCONT');
      // At most one is away at a time.
      await allInSync();
    }
    const { client } = await connect();
    await work.readAll(client);
    client.close();
    expect(work.done, 'operations that were answered').to.be.greaterThan(ROUNDS);
  });

  it('a primary that was stopped past its lease answers nothing when it wakes', async () => {
    const { id, client } = await connect();
    await allInSync();
    await client.write(0, Buffer.alloc(BLOCK_SIZE, 1), true);
    processes.get(id)!.kill('SIGSTOP');
    const refused = [
      client.read(0, BLOCK_SIZE),
      client.flush(),
      client.write(0, Buffer.alloc(BLOCK_SIZE, 9), true),
    ].map((asked) =>
      asked.then(
        () => 'answered',
        () => 'refused',
      ),
    );
    const next = await eventually(
      'another replica serves',
      async () => {
        for (const other of ids.filter((candidate) => candidate !== id)) {
          const found = await NbdClient.connect({ path: socketOf(other) }).catch(() => undefined);
          if (found) return found;
        }
        return undefined;
      },
      FAILOVER_MS,
    );
    expect((await next.read(0, BLOCK_SIZE))[0]).to.equal(1);
    await next.write(0, Buffer.alloc(BLOCK_SIZE, 2), true);
    processes.get(id)!.kill('SIGCONT');
    expect(await Promise.all(refused)).to.deep.equal(['refused', 'refused', 'refused']);
    expect((await next.read(0, BLOCK_SIZE))[0]).to.equal(2);
    next.close();
  });

  it('rebuilds one that has lost its disk', async () => {
    const { id, client } = await connect();
    await allInSync();
    for (let block = 0; block < 50; block++)
      await client.write(block * 40 * BLOCK_SIZE, Buffer.alloc(BLOCK_SIZE, block + 1));
    await client.flush();
    const lost = ids.find((other) => other !== id)!;
    await killed(processes.get(lost)!);
    rmSync(join(folder, lost), { recursive: true });
    const without = async () => !(await register().read()).inSync.includes(lost);
    await eventually('the one that is away leaves the in-sync set', without, FAILOVER_MS);
    start(lost);
    await allInSync();
    client.close();
    // Nothing is left but what was rebuilt.
    for (const other of ids) if (other !== lost) await killed(processes.get(other)!);
    const { client: again } = await connect();
    for (let block = 0; block < 50; block++)
      expect((await again.read(block * 40 * BLOCK_SIZE, 1))[0]).to.equal(block + 1);
    again.close();
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address ? address.port : 0;
}
