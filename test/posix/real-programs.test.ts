/**
 * Programs that people use, run in a union of four ext4 branches, and again with one branch nearly full. They ask of a filesystem
 * what no list of system calls would think of, and each brings its own check of what it got.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readdirSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { runProgram } from '../support/loop-branches.ts';
import { fuse, loop, needs, program } from '../support/skip.ts';
import { makeUnion, type TestUnion } from '../support/union-mount.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const mebibyte = 1024 ** 2;
const branchBytes = 1024 * mebibyte;
/**
 * More than what is written to one branch by files that were opened while it had more: such a file goes past the server and
 * cannot move, and the largest here, Node's program of 120 MB, may be one of them.
 */
const reserveBytes = 192 * mebibyte;

interface Setup {
  readonly name: string;
  /** What the first branch has left when the union is mounted; all, if not said. */
  readonly firstBranchLeavesBytes?: number;
}

const setups: readonly Setup[] = [
  { name: 'over four ext4 branches' },
  { name: 'over four ext4 branches, one nearly full', firstBranchLeavesBytes: reserveBytes + 2 * mebibyte },
];

/** Takes up space until only so much is left. */
function fill(branch: string, leaveBytes: number): void {
  const { bavail, bsize } = statfsSync(branch);
  runProgram('fallocate', ['--length', String(bavail * bsize - leaveBytes), join(branch, 'ballast')]);
}

for (const { name, firstBranchLeavesBytes } of setups) {
  describe(`real programs ${name}`, () => {
    let union: TestUnion;

    before(async function () {
      needs(this, fuse, loop);
      union = await makeUnion({
        sizesBytes: Array(4).fill(branchBytes),
        options: ['category.create=rand', `minfreespace=${reserveBytes}`],
        prepare: ([first]) => {
          if (firstBranchLeavesBytes !== undefined) fill(first!, firstBranchLeavesBytes);
        },
      });
    });

    after(async () => {
      await union?.close();
    });

    it('git clones this repository, and fsck finds nothing', function () {
      needs(this, program('git'), () => (existsSync(join(repository, '.git')) ? undefined : 'needs a git clone'));
      const clone = join(union.mountpoint, 'clone');
      const git = (...args: string[]) => runProgram('git', ['-c', 'safe.directory=*', ...args]);
      git('clone', '--quiet', '--no-hardlinks', repository, clone);
      expect(git('-C', clone, 'fsck', '--full', '--strict', '--no-dangling')).to.equal('');
      expect(git('-C', clone, 'status', '--porcelain')).to.equal('');
      expect(git('-C', clone, 'rev-parse', 'HEAD')).to.equal(git('-C', repository, 'rev-parse', 'HEAD'));
      git('-C', clone, 'gc', '--quiet', '--aggressive', '--prune=now');
      expect(git('-C', clone, 'fsck', '--full', '--strict', '--no-dangling')).to.equal('');
    });

    it('tar unpacks node_modules, and rsync finds it the same by content, links, ACLs and xattrs', function () {
      needs(this, program('tar'), program('rsync'), program('setfacl'), program('setfattr'));
      const source = join(union.folder, 'source');
      runProgram('cp', ['--archive', join(repository, 'node_modules'), source]);
      makeCuriosities(join(source, 'curiosities'));
      const archive = join(union.folder, 'source.tar');
      const keepAll = ['--xattrs', '--xattrs-include=*', '--acls', '--sparse'];
      runProgram('tar', [...keepAll, '-C', source, '-cf', archive, '.']);
      const unpacked = join(union.mountpoint, 'unpacked');
      mkdirSync(unpacked);
      runProgram('tar', [...keepAll, '--same-owner', '--preserve-permissions', '-C', unpacked, '-xf', archive]);
      const compare = ['-aHAXn', '--checksum', '--delete', '--itemize-changes', `${source}/`, `${unpacked}/`];
      expect(runProgram('rsync', compare)).to.equal('');
    });

    it('two processes write to one SQLite database in each journal mode, and its integrity holds', async () => {
      for (const journal of ['delete', 'wal']) {
        const database = join(union.mountpoint, `${journal}.db`);
        runNode(sqliteSetup, database, journal);
        const codes = await Promise.all([1, 2].map((writer) => startNode(sqliteWriter, database, String(writer))));
        expect(codes).to.deep.equal([0, 0]);
        expect(runNode(sqliteCheck, database)).to.equal(`ok ${2 * sqliteTransactions * 10}\n`);
        if (program('sqlite3')() === undefined) {
          expect(runProgram('sqlite3', [database, 'PRAGMA integrity_check'])).to.equal('ok\n');
        }
      }
    });

    it('cc compiles, links and runs a program of many files', function () {
      needs(this, program('cc'), program('make'));
      const project = join(union.mountpoint, 'project');
      mkdirSync(project);
      const parts = Array.from({ length: 20 }, (_, i) => i);
      for (const i of parts) writeFileSync(join(project, `part${i}.c`), `int part${i}(void) { return ${i}; }\n`);
      const declarations = parts.map((i) => `int part${i}(void);`).join('\n');
      const sum = parts.map((i) => `part${i}()`).join(' + ');
      writeFileSync(
        join(project, 'main.c'),
        `#include <stdio.h>\n${declarations}\nint main(void) { printf("%d\\n", ${sum}); }\n`,
      );
      const objects = ['main.o', ...parts.map((i) => `part${i}.o`)].join(' ');
      writeFileSync(join(project, 'Makefile'), `program: ${objects}\n\tcc -o $@ $^\n`);
      runProgram('make', ['-s', '-j2', 'program'], { cwd: project });
      expect(runProgram(join(project, 'program'), [])).to.equal('190\n');
      expect(runProgram('make', ['program'], { cwd: project })).to.contain('up to date');
    });

    it('tsc compiles a part of this repository', () => {
      const project = join(union.mountpoint, 'typescript');
      cpSync(join(repository, 'src/base'), join(project, 'src/base'), { recursive: true });
      const config = { extends: join(repository, 'tsconfig.build.json'), include: ['src'] };
      const compilerOptions = { outDir: 'dist', rootDir: '.', typeRoots: [join(repository, 'node_modules/@types')] };
      writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ ...config, compilerOptions }));
      writeFileSync(join(project, 'package.json'), '{"type":"module"}');
      runProgram(process.execPath, [join(repository, 'node_modules/typescript/bin/tsc'), '-p', project]);
      const compiled = readdirSync(join(project, 'dist/src/base')).filter((file) => file.endsWith('.js'));
      expect(compiled).to.have.length(readdirSync(join(repository, 'src/base')).length);
    });

    if (firstBranchLeavesBytes !== undefined) {
      it('left no room above the reserve of the full branch, and puts no new file there', () => {
        const { bavail, bsize } = statfsSync(union.branches[0]!);
        expect(bavail * bsize).to.be.at.most(reserveBytes);
        const directory = join(union.mountpoint, 'late');
        mkdirSync(directory);
        for (let i = 0; i < 50; i++) writeFileSync(join(directory, `file${i}`), '');
        const onFullBranch = join(union.branches[0]!, 'late');
        expect(existsSync(onFullBranch) ? readdirSync(onFullBranch) : []).to.deep.equal([]);
      });
    }
  });
}

/** What package archives do not have: links of both kinds, holes, odd names, special files, ACLs, xattrs, set-id bits. */
function makeCuriosities(directory: string): void {
  mkdirSync(directory, { recursive: true });
  const script = `
    set -e
    echo data > file; ln file hard; ln -s file soft; ln -s nowhere dangling
    mkdir deep; ln file deep/hard; mkdir -m 2775 setgid; mkdir -m 1777 sticky
    printf 'x' > 'name with
newline'; printf 'x' > "$(printf 'not-utf8-\\377')"; mkfifo fifo; mknod device c 1 3
    truncate -s 10M holes; printf end >> holes
    printf x > program; chmod 6755 program; chown 1:2 file
    setfattr -n user.colour -v blue file; setfattr -n user.empty deep
    setfacl -m u:daemon:rx,d:g:bin:rwx deep; setfacl -m u:bin:rw file
    touch -d '1999-12-31 23:59:59.123456789' file; touch -d '2001-01-01 00:00:00.5' deep`;
  runProgram('sh', ['-c', script], { cwd: directory });
}

const sqliteTransactions = 100;

const sqliteSetup = `
  const [path, journal] = process.argv.slice(1);
  const db = new (require('node:sqlite').DatabaseSync)(path);
  db.exec('PRAGMA journal_mode=' + journal);
  db.exec('CREATE TABLE item (id INTEGER PRIMARY KEY, writer INT, payload BLOB); CREATE INDEX by_writer ON item (writer)');
  db.close();`;

const sqliteWriter = `
  const [path, writer] = process.argv.slice(1);
  const db = new (require('node:sqlite').DatabaseSync)(path);
  db.exec('PRAGMA busy_timeout=60000');
  const insert = db.prepare('INSERT INTO item (writer, payload) VALUES (?, ?)');
  for (let i = 0; i < ${sqliteTransactions}; i++) {
    db.exec('BEGIN IMMEDIATE');
    for (let j = 0; j < 10; j++) insert.run(Number(writer), Buffer.alloc(500 + i, i));
    db.exec('COMMIT');
  }
  db.close();`;

const sqliteCheck = `
  const db = new (require('node:sqlite').DatabaseSync)(process.argv[1]);
  const { integrity_check } = db.prepare('PRAGMA integrity_check').get();
  const { items } = db.prepare('SELECT count(*) AS items FROM item').get();
  console.log(integrity_check, items);
  db.close();`;

const nodeFlags = ['--disable-warning=ExperimentalWarning', '-e'];

function runNode(script: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...nodeFlags, script, ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return stdout;
}

async function startNode(script: string, ...args: string[]): Promise<number | null> {
  const child = spawn(process.execPath, [...nodeFlags, script, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = await once(child, 'exit');
  return code;
}
