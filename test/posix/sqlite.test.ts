/**
 * SQLite on a union of four ext4 branches: a writer is killed with SIGKILL after some of its commits, over and over, in each journal
 * mode. The database is whole each time and has all that was answered as committed, in order.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect } from 'chai';
import { runProgram } from '../support/loop-branches.ts';
import { fuse, loop, needs } from '../support/skip.ts';
import { isLong } from '../support/torture.ts';
import { makeUnion, type TestUnion } from '../support/union-mount.ts';

const branchBytes = 64 * 1024 ** 2;
const kills = isLong ? 50 : 4;

/** Commits one row after the other from what there is on, and tells the number of each. */
const writer = `
  const db = new (require('node:sqlite').DatabaseSync)(process.argv[1]);
  db.exec('PRAGMA journal_mode=' + process.argv[2] + '; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=20');
  db.exec('CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, payload BLOB)');
  const insert = db.prepare('INSERT INTO item VALUES (?, ?)');
  let { id } = db.prepare('SELECT coalesce(max(id), 0) AS id FROM item').get();
  for (;;) {
    insert.run(++id, Buffer.alloc(3000 + id % 1000, id));
    require('node:fs').writeSync(1, id + '\\n');
  }`;

const reader = `
  const db = new (require('node:sqlite').DatabaseSync)(process.argv[1]);
  const { integrity_check } = db.prepare('PRAGMA integrity_check').get();
  const { count, last } = db.prepare('SELECT count(*) AS count, coalesce(max(id), 0) AS last FROM item').get();
  console.log(integrity_check, count, last);`;

const nodeFlags = ['--disable-warning=ExperimentalWarning', '-e'];

/** Kills the writer as soon as it has answered so many commits. Answers the last that it told. */
async function killAfter(commits: number, database: string, journal: string): Promise<number> {
  const child = spawn(process.execPath, [...nodeFlags, writer, database, journal], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  let told = 0;
  let last = 0;
  for await (const line of createInterface(child.stdout)) {
    last = Number(line);
    if (++told === commits) child.kill('SIGKILL');
  }
  const [, signal] = await ended;
  expect(signal).to.equal('SIGKILL');
  return last;
}

for (const passthrough of [true, false]) {
  describe(`SQLite, ${passthrough ? 'passthrough' : 'proxied'}`, function () {
    this.timeout(60_000 + kills * 10_000);
    let union: TestUnion;

    before(async function () {
      needs(this, fuse, loop);
      union = await makeUnion({ sizesBytes: Array(4).fill(branchBytes), library: { passthrough, create: 'rand' } });
    });

    after(async () => {
      await union?.close();
    });

    for (const journal of ['delete', 'truncate', 'wal']) {
      it(`has what it promised after ${kills} kills, journal_mode=${journal}`, async () => {
        const directory = join(union.mountpoint, journal);
        mkdirSync(directory);
        const database = join(directory, 'database');
        for (let kill = 1; kill <= kills; kill++) {
          const promised = await killAfter(3 + ((kill * 7) % 20), database, journal);
          const [integrity, count, last] = runProgram(process.execPath, [...nodeFlags, reader, database])
            .trim()
            .split(' ');
          expect(integrity).to.equal('ok');
          expect(Number(count)).to.equal(Number(last));
          expect(Number(last)).to.be.at.least(promised);
        }
        expect(union.complaints()).to.equal('');
      });
    }
  });
}
