/**
 * `union-csi block-serve` killed with SIGKILL at any moment, again and again, while a client writes; what it then serves is
 * judged by the simulator's oracle. BLOCK_KILL_ROUNDS=200 for more of it. The page cache outlives a killed process: that
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
import { BLOCK_SIZE } from '../../../src/block/units.ts';
import { contentOf, readValue } from '../../sim/client.ts';
import { Oracle } from '../../sim/oracle.ts';
import { type Random, random } from '../../sim/random.ts';
import { Disconnected, NbdClient } from '../../support/nbd-client.ts';
import { killed } from '../../support/processes.ts';

const ROUNDS = Number(process.env.BLOCK_KILL_ROUNDS ?? 6);
const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));
const DEPTH = 8;
const BLOCKS = 4096;
const HOT = 40;

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

  const seed = Number(process.env.BLOCK_KILL_SEED ?? Math.floor(Math.random() * 1e9));
  it(`loses nothing that was flushed in ${ROUNDS} rounds of kill -9 (seed ${seed})`, async () => {
    const dice = random(seed, 'kill');
    const oracle = new Oracle();
    const work = new Work(dice, oracle);
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

/** Random operations, every one reported to the oracle. */
class Work {
  readonly #dice: Random;
  readonly #oracle: Oracle;
  #nextValue = 1;
  done = 0;

  constructor(dice: Random, oracle: Oracle) {
    this.#dice = dice;
    this.#oracle = oracle;
  }

  async readAll(client: NbdClient): Promise<void> {
    for (let index = 0; index < HOT; index++) await this.#read(client, lbaOf(index));
  }

  /** Until the connection ends. */
  async run(client: NbdClient): Promise<void> {
    try {
      for (;;) {
        const lba = lbaOf(this.#dice.integer(0, HOT - 1));
        const dice = this.#dice.next();
        if (dice < 0.3) await this.#read(client, lba);
        else if (dice < 0.4) await this.#flush(client);
        else await this.#change(client, lba, dice < 0.5);
        this.done++;
      }
    } catch (error) {
      if (!(error instanceof Disconnected)) throw error;
    }
  }

  async #read(client: NbdClient, lba: number): Promise<void> {
    const begun = this.#oracle.beginRead(lba);
    const data = await client.read(lba * BLOCK_SIZE, BLOCK_SIZE);
    this.#oracle.endRead(lba, begun, readValue(data, lba));
  }

  async #flush(client: NbdClient): Promise<void> {
    const since = this.#oracle.now;
    await client.flush();
    this.#oracle.flushed(since);
  }

  async #change(client: NbdClient, lba: number, zero: boolean): Promise<void> {
    const value = zero ? 0 : this.#nextValue++;
    const fua = !zero && this.#dice.chance(0.2);
    const operation = this.#oracle.beginWrite(lba, value);
    if (zero) await client.zero(lba * BLOCK_SIZE, BLOCK_SIZE);
    else await client.write(lba * BLOCK_SIZE, contentOf(value), fua);
    if (fua) this.#oracle.forced(lba, operation);
    this.#oracle.endWrite(lba, operation);
  }
}

/** All over the volume, and over several pages of its table. */
function lbaOf(index: number): number {
  return (index * 101) % BLOCKS;
}
