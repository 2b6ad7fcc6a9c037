/**
 * Clients of a union whose server is killed all the time: `node chaos-client.ts KIND FOLDER SEED`, until its stdin ends. Nothing that
 * they do may fail: what is done twice meets itself, what is not done is missed. At the end they compare with their model.
 * Exit code 0 and the number of operations on stdout, or the error.
 */
import {
  appendFileSync,
  chmodSync,
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

const [kind, folder, seed] = process.argv.slice(2) as [keyof typeof kinds, string, string];

let random = Number(seed) >>> 0;
/** Below `limit`: xorshift32. */
function pick(limit: number): number {
  random ^= random << 13;
  random ^= random >>> 17;
  random ^= random << 5;
  return (random >>> 0) % limit;
}

/** What is to be done again and again, and what is to be looked at in the end. */
interface Client {
  readonly step: () => void;
  readonly check: () => void;
}

function expectEqual(what: string, seen: unknown, expected: unknown): void {
  const [one, other] = [JSON.stringify(seen), JSON.stringify(expected)];
  if (one !== other) throw new Error(`${what}: seen ${one.slice(0, 2000)}, expected ${other.slice(0, 2000)}`);
}

/** Names in three directories: made exclusively, renamed, linked, replaced, removed; directories too. */
function storm(): Client {
  const files = new Map<string, string>();
  const directories = ['x', 'y', 'z'].map((name) => join(folder, name));
  for (const directory of directories) mkdirSync(directory);
  let count = 0;
  const any = () => [...files.keys()][pick(files.size)]!;
  const fresh = () => join(directories[pick(3)]!, `n${count++}`);
  const acts: (() => void)[] = [
    () => {
      const name = fresh();
      writeFileSync(name, name, { flag: 'wx' });
      files.set(name, name);
    },
    () => {
      const [from, to] = [any(), fresh()];
      renameSync(from, to);
      files.set(to, files.get(from)!);
      files.delete(from);
    },
    () => {
      const [from, to] = [any(), any()];
      if (from === to || statSync(from).ino === statSync(to).ino) return;
      renameSync(from, to);
      files.set(to, files.get(from)!);
      files.delete(from);
    },
    () => {
      const [from, to] = [any(), fresh()];
      linkSync(from, to);
      files.set(to, files.get(from)!);
    },
    () => {
      const name = any();
      unlinkSync(name);
      files.delete(name);
    },
    () => {
      const name = fresh();
      mkdirSync(name);
      writeFileSync(join(name, 'in'), name, { flag: 'wx' });
      const moved = fresh();
      renameSync(name, moved);
      expectEqual(moved, readFileSync(join(moved, 'in'), 'utf8'), name);
      unlinkSync(join(moved, 'in'));
      rmdirSync(moved);
    },
    () => {
      const name = fresh();
      symlinkSync('target', name);
      unlinkSync(name);
    },
    () => chmodSync(any(), 0o600 + pick(0o100)),
    () => {
      // Written after its name has gone.
      const name = fresh();
      const file = openSync(name, 'wx+');
      unlinkSync(name);
      writeSync(file, name);
      const bytes = Buffer.alloc(name.length);
      readSync(file, bytes, 0, bytes.length, 0);
      expectEqual(name, bytes.toString(), name);
      closeSync(file);
    },
  ];
  return {
    step: () => (files.size < 5 ? acts[0]! : acts[files.size > 60 ? 4 : pick(acts.length)]!)(),
    check: () => {
      const seen = directories.flatMap((directory) => readdirSync(directory).map((name) => join(directory, name)));
      expectEqual('names', seen.sort(), [...files.keys()].sort());
      for (const [name, content] of files) expectEqual(name, readFileSync(name, 'utf8'), content);
    },
  };
}

/** One file that grows by a line at a time, opened anew or kept open; sometimes made durable. */
function append(): Client {
  const path = join(folder, 'log');
  const file = openSync(path, 'a');
  const lines: string[] = [];
  return {
    step: () => {
      const line = `line ${lines.length} ${'.'.repeat(pick(200))}\n`;
      if (pick(2) === 0) appendFileSync(path, line);
      else writeSync(file, line);
      if (pick(20) === 0) fsyncSync(file);
      lines.push(line);
    },
    check: () => expectEqual('log', readFileSync(path, 'utf8'), lines.join('')),
  };
}

/** A database with a journal that is made and removed for every transaction. */
function sqlite(): Client {
  const database = new DatabaseSync(join(folder, 'db'));
  database.exec('PRAGMA journal_mode=DELETE; CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)');
  const insert = database.prepare('INSERT INTO t VALUES (?, ?)');
  let count = 0;
  return {
    step: () => {
      insert.run(count, `row ${count}`);
      count++;
    },
    check: () => {
      expectEqual('rows', database.prepare('SELECT count(*) AS count FROM t').get(), { count });
      expectEqual('integrity', database.prepare('PRAGMA integrity_check').get(), { integrity_check: 'ok' });
      database.close();
    },
  };
}

const kinds = { storm, append, sqlite };

let stopping = false;
process.stdin.on('end', () => {
  stopping = true;
});
process.stdin.resume();
const client = kinds[kind]();
let operations = 0;
const work = () => {
  const until = performance.now() + 20;
  while (performance.now() < until) {
    client.step();
    operations++;
  }
  if (!stopping) return void setImmediate(work);
  client.check();
  console.log(operations);
  process.exit(0);
};
work();
