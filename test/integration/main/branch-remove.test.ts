/** `union-csi branch remove` on a union that is in use: what programs have open goes on, nothing is lost, and the branch is free. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  fstatSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { askMountStatus, findUnion } from '../../../src/host/mount-control.ts';
import { mountImage } from '../../support/faults.ts';
import { KeptMount } from '../../support/kept-mount.ts';
import { imageOf, makeLoopBranches, unmountBranch } from '../../support/loop-branches.ts';
import { until } from '../../support/processes.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, type TestUnion } from '../../support/union-mount.ts';

const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));
const branchBytes = 64 * 1024 ** 2;
const RESERVE_BYTES = 1024 ** 2;
const FILES = 24;

describe('union-csi branch remove', function () {
  this.timeout(90_000);
  let union: TestUnion;
  let mountpoint: string;
  /** The first branch, where everything new is made. */
  let first: string;

  before(async function () {
    needs(this, fuse, loop);
    const options = ['category.create=ff', 'minfreespace=1M'];
    union = await makeUnion({ sizesBytes: [branchBytes, branchBytes, branchBytes], options });
    mountpoint = union.mountpoint;
    await until(() => branches().then(Boolean, () => false)); // its control socket comes after the mount
  });

  beforeEach(async () => {
    first = (await branches())[0]!.path;
  });

  /** A branch that was removed comes back as the last one. */
  afterEach(async () => {
    const left = await branches();
    for (const { path, mode, minFreeSpaceBytes } of left)
      if (mode !== 'RW' || minFreeSpaceBytes !== RESERVE_BYTES) run('set', mountpoint, `${path}=RW,${RESERVE_BYTES}`);
    for (const name of readdirSync(mountpoint)) rmSync(join(mountpoint, name), { recursive: true });
    for (const path of union.branches)
      if (!left.some((known) => known.path === path)) expect(run('add', mountpoint, path).stderr).to.equal('');
  });

  after(async () => {
    await union?.close();
  });

  const run = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(program, ['branch', ...args], { encoding: 'utf8', timeout: 60_000 });
    return { status, stdout, stderr };
  };
  const branches = async () => (await askMountStatus(findUnion(mountpoint), new AbortController().signal)).branches;
  const inUnion = (...path: string[]) => join(mountpoint, ...path);
  /** Begins, and resolves when there is something to wait for. */
  const begin = async () => {
    const remove = spawn(program, ['branch', 'remove', mountpoint, first], { stdio: ['ignore', 'ignore', 'pipe'] });
    const [told] = await once(remove.stderr, 'data');
    return { remove, told: String(told) };
  };

  it('moves what is there, open as it is, and leaves a filesystem that can be unmounted', async () => {
    mkdirSync(inUnion('d', 'only'), { recursive: true });
    writeFileSync(inUnion('d', 'file'), 'content');
    linkSync(inUnion('d', 'file'), inUnion('d', 'only', 'other'));
    symlinkSync('nowhere', inUnion('d', 'link'));
    writeFileSync(inUnion('gone'), '');
    const before = statSync(inUnion('d', 'file'));
    // Open through the server: others are waited for.
    run('set', mountpoint, `${first}=RW,4000T`);
    const handle = openSync(inUnion('d', 'file'), 'r+');
    const nameless = openSync(inUnion('gone'), 'r+');
    expect(run('set', mountpoint, `${first}=RW,1`).status).to.equal(0);
    writeSync(nameless, 'nameless');
    unlinkSync(inUnion('gone'));
    try {
      expect(run('remove', mountpoint, first)).to.deep.equal({
        status: 0,
        stdout: `${first} is no branch of ${mountpoint} any more: 3 files moved, 1.00 KiB\n`,
        stderr: '',
      });
      unmountBranch(first);
      mountImage(imageOf(first), first);
      writeSync(handle, 'CON');
      const buffer = Buffer.alloc(8);
      expect(readSync(nameless, buffer, 0, 8, 0)).to.equal(8);
    } finally {
      for (const fd of [handle, nameless]) closeSync(fd);
    }
    expect(readFileSync(inUnion('d', 'only', 'other'), 'utf8')).to.equal('CONtent');
    expect(statSync(inUnion('d', 'file'))).to.include({ ino: before.ino, nlink: 2 });
    expect((await branches()).map(({ path }) => path)).to.deep.equal(union.branches.slice(1));
    writeFileSync(inUnion('new'), '');
    expect(existsSync(join(union.branches[1]!, 'new'))).to.equal(true);
  });

  it('names what it waits for, and goes on when that is closed', async () => {
    writeFileSync(inUnion('held'), 'x');
    const handle = openSync(inUnion('held'), 'r');
    const { remove, told } = await begin();
    expect(told).to.equal('waiting for 1 file: /held: it is open past the server, until it is closed\n');
    expect(fstatSync(handle).size).to.equal(1);
    const ended = once(remove, 'exit');
    closeSync(handle);
    expect(await ended).to.deep.equal([0, null]);
    expect(readdirSync(first)).to.deep.equal(['lost+found']);
  });

  it('can be ended and begun again, and the branch can stay after all', async () => {
    for (const name of ['a', 'held']) writeFileSync(inUnion(name), name);
    const handle = openSync(inUnion('held'), 'r');
    const { remove } = await begin();
    const ended = once(remove, 'exit');
    remove.kill('SIGINT');
    await ended;
    const [state] = await branches();
    expect(state).to.include({ path: first, mode: 'NC' });
    expect(state!.message).to.include('branch remove goes on with it');
    writeFileSync(inUnion('b'), '');
    expect(existsSync(join(first, 'b'))).to.equal(false);
    // The server notices that nobody asks any more.
    await until(() => run('set', mountpoint, `${first}=RW`).status === 0);
    expect((await branches())[0]).to.include({ mode: 'RW', message: '' });
    writeFileSync(inUnion('c'), '');
    expect(existsSync(join(first, 'c'))).to.equal(true);
    closeSync(handle);
    expect(run('remove', mountpoint, first).status).to.equal(0);
    expect(readdirSync(mountpoint).sort()).to.deep.equal(['a', 'b', 'c', 'held']);
  });

  it('loses nothing while others make, rename, link and remove files', async () => {
    for (let dir = 0; dir < 4; dir++) mkdirSync(inUnion(`d${dir}`));
    for (let file = 0; file < FILES; file++) writeFileSync(inUnion(`d${file % 4}`, `f${file}`), `content ${file}`);
    const remove = spawn(program, ['branch', 'remove', mountpoint, first], { stdio: ['ignore', 'ignore', 'inherit'] });
    const ended = once(remove, 'exit');
    const places = Array.from({ length: FILES }, (_, file) => inUnion(`d${file % 4}`, `f${file}`));
    for (let turn = 0; remove.exitCode === null && remove.signalCode === null; turn++) {
      const file = turn % FILES;
      const to = inUnion(`d${(turn * 7) % 4}`, `f${file}-${turn}`);
      if (turn % 3 === 0) {
        linkSync(places[file]!, to);
        unlinkSync(places[file]!);
      } else renameSync(places[file]!, to);
      places[file] = to;
      if (turn % 50 === 0) renameSync(inUnion('d3'), inUnion('d3-moved'));
      if (turn % 50 === 0) renameSync(inUnion('d3-moved'), inUnion('d3'));
      mkdirSync(inUnion('made'));
      rmSync(inUnion('made'), { recursive: true });
      if (turn % 10 === 0) await new Promise(setImmediate);
    }
    expect(await ended).to.deep.equal([0, null]);
    expect(places.map((path) => readFileSync(path, 'utf8'))).to.deep.equal(places.map((_, file) => `content ${file}`));
    expect(readdirSync(mountpoint, { recursive: true })).to.have.length(FILES + 4);
    expect(readdirSync(first, { recursive: true })).to.deep.equal(['lost+found']);
  });

  it('says what is in the way', async () => {
    const others = (await branches()).slice(1);
    for (const { path } of others) run('set', mountpoint, `${path}=RW,4000T`);
    writeFileSync(inUnion('large'), 'x');
    expect(run('remove', mountpoint, first)).to.deep.equal({
      status: 1,
      stdout: '',
      stderr: `union-csi branch: ${first} stays a branch, NC: 1 file: /large: no other branch has room for it\n`,
    });
    expect(run('remove', mountpoint, '/nowhere').stderr).to.include('does not exist');
    expect(run('remove', mountpoint).status).to.equal(2);
    expect(run('remove', mountpoint, others[0]!.path).stderr).to.include(`branch ${first} is being removed`);
    await until(() => run('set', mountpoint, `${first}=RO`).status === 0);
    expect(run('remove', mountpoint, first).stderr).to.include('is read-only, so that its files cannot move');
  });

  it('goes on under the next server when one is killed', async () => {
    const loops = makeLoopBranches([branchBytes, branchBytes]);
    const keptAt = join(loops.folder, 'union');
    mkdirSync(keptAt);
    const [drained] = loops.paths as [string];
    const kept = new KeptMount(loops.paths, keptAt, ['keep=100', 'category.create=ff']);
    try {
      for (let file = 0; file < FILES; file++) writeFileSync(join(keptAt, `f${file}`), `content ${file}`);
      await until(() => kept.servers().length === 2);
      const remove = spawn(program, ['branch', 'remove', keptAt, drained], { stdio: 'ignore' });
      const ended = once(remove, 'exit');
      await until(() => filesOf(drained) < FILES);
      process.kill(kept.servers()[0]!.pid, 'SIGKILL');
      await ended;
      // The next server is not there at once, and if it soon was, the command above has had it go on.
      await until(() => {
        const { stdout, stderr } = run('remove', keptAt, drained);
        return `${stdout}${stderr}`.includes(`${drained} is no branch of ${keptAt}`);
      });
      for (let file = 0; file < FILES; file++)
        expect(readFileSync(join(keptAt, `f${file}`), 'utf8')).to.equal(`content ${file}`);
      expect(readdirSync(drained)).to.deep.equal(['lost+found']);
    } finally {
      await kept.close();
      loops.close();
    }
  });
});

function filesOf(branch: string): number {
  return readdirSync(branch).filter((name) => name.startsWith('f')).length;
}
