/**
 * Faults of the disk under one of two replicas, on real filesystems: full, failing, and a flipped bit. The replica is repaired or
 * leaves the in-sync set; nothing wrong is returned, and the other goes on. BLOCK_ROUNDS=50 for more of each.
 */
import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { BLOCK_SIZE } from '../../src/block/units.ts';
import { eventually } from '../support/eventually.ts';
import { shutDown } from '../support/faults.ts';
import { type LoopBranches, makeLoopBranches } from '../support/loop-branches.ts';
import type { NbdClient } from '../support/nbd-client.ts';
import { hasEnded } from '../support/processes.ts';
import { ReplicaProcesses } from '../support/replica-processes.ts';
import { itEachRound } from '../support/rounds.ts';
import { loop, needs } from '../support/skip.ts';

const MIB = 1024 ** 2;
/** Scrubbed in four seconds. */
const BLOCKS = 1024;
/** The upper half is written so often that the log is more than half full, and the lower half is applied. */
const PASSES = 5;
const PATIENCE_MS = 60_000;

describe('a replica whose disk fails', function () {
  this.timeout(120_000);
  let disks: LoopBranches;
  let replicas: ReplicaProcesses;

  before(function () {
    needs(this, loop);
  });

  /** Two replicas, each on a filesystem of its own, and which of them leads. */
  async function start(): Promise<{ primary: string; backup: string }> {
    disks = makeLoopBranches([64 * MIB, 64 * MIB]);
    const [a, b] = disks.paths as [string, string];
    replicas = await ReplicaProcesses.start(['a', 'b'], {
      blocks: BLOCKS,
      directories: { a: join(a, 'replica'), b: join(b, 'replica') },
    });
    const primary = await replicas.use(async (_client, id) => id);
    await replicas.allInSync();
    return { primary, backup: replicas.others(primary)[0]! };
  }

  afterEach(async function () {
    await replicas.close();
    disks.close();
    if (this.currentTest?.state === 'failed') process.stderr.write(replicas.said);
  });

  /** Block i holds byte i + shift. */
  async function fill(client: NbdClient, shift: number, blocks = (BLOCKS * (1 + PASSES)) / 2): Promise<void> {
    for (let at = 0; at < blocks; at += 64) {
      const lba = at < BLOCKS ? at : BLOCKS / 2 + (at % (BLOCKS / 2));
      const data = Buffer.concat(
        Array.from({ length: 64 }, (_, index) => Buffer.alloc(BLOCK_SIZE, lba + index + shift)),
      );
      await client.write(lba * BLOCK_SIZE, data);
    }
    await client.flush();
  }

  async function expectContent(client: NbdClient, shift: number, blocks = BLOCKS): Promise<void> {
    for (let lba = 0; lba < blocks; lba += 13) {
      const data = await client.read(lba * BLOCK_SIZE, BLOCK_SIZE);
      expect(data.equals(Buffer.alloc(BLOCK_SIZE, lba + shift)), `block ${lba}`).to.equal(true);
    }
  }

  itEachRound('leaves when it is full, and comes back when it has room', async () => {
    // The log of 16 MiB is there from the beginning, and the data have no room.
    const { primary, backup } = await start();
    const ballast = join(replicas.directoryOf(backup), '..', 'ballast');
    const room = openSync(ballast, 'w');
    try {
      expect(() => {
        for (;;) writeSync(room, Buffer.alloc(MIB, 1));
      }).to.throw(/ENOSPC/);
    } finally {
      closeSync(room);
    }
    await replicas.use((client) => fill(client, 1));
    await eventually('it stops', () => hasEnded(replicas.processOf(backup)), PATIENCE_MS);
    await replicas.evicted(backup);
    await replicas.use((client) => expectContent(client, 1));
    rmSync(ballast);
    replicas.start(backup);
    await replicas.allInSync();
    await replicas.kill(primary);
    await replicas.use((client) => expectContent(client, 1), [backup]);
  });

  for (const role of ['primary', 'backup'] as const) {
    itEachRound(
      `is repaired when a bit of the ${role} is flipped, never returns it, and goes on when the other answers EIO`,
      async () => {
        const { primary, backup } = await start();
        await replicas.use((client) => fill(client, 1));
        const victim = role === 'primary' ? primary : backup;
        const data = join(replicas.directoryOf(victim), 'replica', 'data');
        await eventually('there is something to flip', () => flip(data, 100), PATIENCE_MS);
        // The primary finds it when it is read, the backup when it scrubs.
        await eventually(
          'the flipped bit is found',
          async () => {
            const answer = await replicas.use((client) => client.read(100 * BLOCK_SIZE, BLOCK_SIZE));
            expect(answer.equals(Buffer.alloc(BLOCK_SIZE, 101))).to.equal(true);
            return !(await replicas.config()).inSync.includes(victim);
          },
          PATIENCE_MS,
        );
        await replicas.allInSync();
        // What was repaired is all there is from now on.
        const other = replicas.others(victim)[0]!;
        shutDown(join(replicas.directoryOf(other), '..'));
        await replicas.use((client) => fill(client, 1, 64), [victim]);
        await replicas.evicted(other);
        await replicas.use((client) => expectContent(client, 1), [victim]);
      },
    );
  }
});

/** False while there is nothing: it has not been applied yet. */
function flip(path: string, lba: number): boolean {
  const fd = openSync(path, 'r+');
  try {
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, lba * BLOCK_SIZE + 77);
    if (byte[0] === 0) return false;
    byte[0]! ^= 4;
    writeSync(fd, byte, 0, 1, lba * BLOCK_SIZE + 77);
    return true;
  } finally {
    closeSync(fd);
  }
}
