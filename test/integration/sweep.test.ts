/** What the test runner takes away when tests were ended before they could. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { KeptMount } from '../support/kept-mount.ts';
import { findLeaks } from '../support/leaks.ts';
import { makeLoopBranches } from '../support/loop-branches.ts';
import { fuse, loop, needs } from '../support/skip.ts';
import { sweep } from '../support/sweep.ts';

describe('what tests leave behind', () => {
  let directory: string;
  const before = process.env.TMPDIR;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'sweep-'));
    process.env.TMPDIR = directory;
  });

  afterEach(() => {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  });

  it('is ended where it was started with their directory, whatever it does', async () => {
    const child = spawn('sh', ['-c', 'trap "" TERM INT; while :; do sleep 1000; done']);
    const ended = once(child, 'exit');
    const other = spawn('sleep', ['1000'], { env: { ...process.env, TMPDIR: `${directory}-other` } });
    expect((await sweep(directory)).join()).to.include('sleep 1000');
    expect(await ended).to.deep.equal([null, 'SIGKILL']);
    other.kill('SIGTERM');
    expect(await once(other, 'exit'), 'that of others').to.deep.equal([null, 'SIGTERM']);
    expect(existsSync(directory)).to.equal(false);
    expect(await sweep(directory)).to.deep.equal([]);
  });

  it('is nothing that goes by itself in a moment', async () => {
    const exited = once(spawn('sleep', ['0.3']), 'exit');
    expect(await sweep(directory, 10_000)).to.deep.equal([]);
    expect(await exited).to.deep.equal([0, null]);
  });

  it('is a union that is kept, with its branches and their loop devices', async function () {
    needs(this, fuse, loop);
    const branches = makeLoopBranches([32 << 20, 32 << 20]);
    const mountpoint = join(branches.folder, 'union');
    mkdirSync(mountpoint);
    const union = new KeptMount(branches.paths, mountpoint, ['keep=1000']);
    const left = await sweep(directory);
    expect(left).to.include.members([mountpoint, ...branches.paths].map((point) => `mount ${point}`));
    expect(union.processes()).to.deep.equal([]);
    expect(findLeaks(directory)).to.deep.equal({ mounts: [], loops: [], processes: [] });
    expect(existsSync(directory)).to.equal(false);
  });
});
