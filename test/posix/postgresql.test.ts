/**
 * PostgreSQL with page checksums on a union of four ext4 branches, as an unprivileged user: pgbench, SIGKILL to all processes in the
 * middle of it, recovery. Whatever was answered as committed is there, books balance, every page and index is sound.
 */
import { once } from 'node:events';
import { chmodSync, existsSync, globSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { eventually } from '../support/eventually.ts';
import { killed } from '../support/processes.ts';
import { fuse, loop, needs, program } from '../support/skip.ts';
import { isLong } from '../support/torture.ts';
import { makeUnion, type TestUnion } from '../support/union-mount.ts';
import { Cluster, postgresql } from './postgresql.ts';

const branchBytes = 512 * 1024 ** 2;
const kills = isLong ? 8 : 2;
/** Transactions that are answered before the next kill. */
const transactionsPerKill = isLong ? 3000 : 500;
const answerMs = 120_000;

for (const passthrough of [true, false]) {
  describe(`PostgreSQL, ${passthrough ? 'passthrough' : 'proxied'}`, function () {
    this.timeout(120_000 + kills * 60_000);
    let union: TestUnion;
    let cluster: Cluster | undefined;

    before(async function () {
      needs(this, fuse, loop, program('setpriv'), postgresql);
      union = await makeUnion({ sizesBytes: Array(4).fill(branchBytes), library: { passthrough, create: 'rand' } });
      cluster = new Cluster(union.mountpoint, union.folder);
      await cluster.start();
      cluster.client('pgbench', ['--initialize', '--quiet', '--scale', '2', 'postgres']);
    });

    after(async () => {
      await cluster?.kill();
      await union?.close();
    });

    it(`has what it promised after ${kills} kills`, async () => {
      let promised = 0;
      for (let kill = 0; kill < kills; kill++) {
        promised += await runAndKill(cluster!, join(union.folder, 'log'));
        await cluster!.start();
        const [history, ...sums] = cluster!.query(books).split('|').map(Number);
        expect(history).to.be.at.least(promised);
        expect(new Set(sums).size, `sums ${sums}`).to.equal(1);
      }
      expect(cluster!.log).to.contain('automatic recovery in progress');
    });

    it('has sound indexes and pages, and has the server say nothing', async () => {
      cluster!.query('CREATE EXTENSION amcheck');
      expect(cluster!.client('pg_amcheck', ['--all', '--heapallindexed'])).to.equal('');
      await cluster!.stop();
      expect(cluster!.checkPages()).to.match(/Bad checksums: +0\n/);
      expect(union.complaints()).to.equal('');
    });
  });
}

const books = `SELECT (SELECT count(*) FROM pgbench_history), (SELECT sum(delta) FROM pgbench_history),
  (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
  (SELECT sum(bbalance) FROM pgbench_branches)`;

/** Runs pgbench until enough transactions are answered, and kills the cluster. Answers how many were by then. */
async function runAndKill(cluster: Cluster, log: string): Promise<number> {
  if (existsSync(log)) rmSync(log, { recursive: true });
  mkdirSync(log);
  chmodSync(log, 0o777);
  const answered = () =>
    globSync(join(log, 'pgbench_log.*'))
      .map((path) => readFileSync(path, 'latin1').split('\n').length - 1)
      .reduce((sum, lines) => sum + lines, 0);
  // The rest of it is written when pgbench ends, as it does when the server has gone.
  const bench = cluster.startClient('pgbench', ['--client=4', '--time=600', '--no-vacuum', '--log', 'postgres'], log);
  try {
    for (let seen = 0; seen < transactionsPerKill; ) {
      const before = seen;
      seen = await eventually('more transactions', () => answered() > before && answered(), answerMs);
    }
    await cluster.kill();
    if (bench.exitCode === null) await once(bench, 'exit');
  } finally {
    await killed(bench);
  }
  return answered();
}
