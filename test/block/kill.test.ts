/**
 * `union-csi block-serve` killed with SIGKILL at any moment, again and again, while a client writes; what it then serves is
 * judged by the simulator's oracle. BLOCK_ROUNDS=200 for more of it. The page cache outlives a killed process: that
 * files are made right is proved here, power loss in the simulator.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { BLOCK_SIZE } from '../../src/block/units.ts';
import { Oracle } from '../sim/oracle.ts';
import { random } from '../sim/random.ts';
import { BlockWork } from '../support/block-work.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { killed } from '../support/processes.ts';

const ROUNDS = Number(process.env.BLOCK_ROUNDS ?? 6);
const program = fileURLToPath(new URL('../../bin/union-csi', import.meta.url));
const DEPTH = 8;
const BLOCKS = 4096;

describe('union-csi block-serve', function () {
  this.timeout(20_000 + ROUNDS * 10_000);
  let folder: string;
  let server: ChildProcess | undefined;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'union-block-kill-'));
  });

  afterEach(async () => {
    if (server) await killed(server);
    rmSync(folder, { recursive: true, force: true });
  });

  const socket = () => join(folder, 'nbd.sock');

  async function start(): Promise<void> {
    const args = ['block-serve', '--size', String(BLOCKS * BLOCK_SIZE), '--socket', socket(), join(folder, 'volume')];
    server = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    server.stderr!.on('data', (text) => {
      said += text;
    });
    const ended = once(server, 'exit').then(([code]) => {
      throw new Error(`block-serve ended with ${code} before it served: ${said}`);
    });
    ended.catch(() => {});
    await Promise.race([once(createInterface(server.stdout!), 'line'), ended]);
  }

  const seed = Number(process.env.BLOCK_SEED ?? Math.floor(Math.random() * 1e9));
  it(`loses nothing that was flushed in ${ROUNDS} rounds of kill -9 (seed ${seed})`, async () => {
    const dice = random(seed, 'kill');
    const oracle = new Oracle();
    const work = new BlockWork(dice, oracle, BLOCKS);
    for (let round = 0; round < ROUNDS; round++) {
      await start();
      const client = await NbdClient.connect({ path: socket() });
      oracle.recovered();
      await work.readAll(client);
      const workers = Array.from({ length: DEPTH }, () => work.run(client));
      await delay(dice.integer(1, 300));
      await killed(server!);
      await Promise.all(workers);
      oracle.lost();
    }
    expect(work.done, 'operations that were answered').to.be.greaterThan(ROUNDS);
  });

  it('flushes when it is asked to end, and has it all when it starts again', async () => {
    await start();
    const client = await NbdClient.connect({ path: socket() });
    await client.write(BLOCK_SIZE, Buffer.alloc(3 * BLOCK_SIZE, 7));
    const exited = once(server!, 'exit');
    server!.kill('SIGTERM');
    expect((await exited)[0]).to.equal(0);
    await start();
    const again = await NbdClient.connect({ path: socket() });
    expect(
      (await again.read(0, 2 * BLOCK_SIZE)).equals(
        Buffer.concat([Buffer.alloc(BLOCK_SIZE), Buffer.alloc(BLOCK_SIZE, 7)]),
      ),
    ).to.equal(true);
    again.close();
  });
});
