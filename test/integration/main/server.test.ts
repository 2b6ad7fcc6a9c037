/** The process `union-csi server` with the real filesystem, asked by its control socket as the node plugin asks it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { createStateMemory, isMounted, mountDevice, openDevice } from '../../../fuse/index.ts';
import { callDescriptorServer, takeDescriptors } from '../../../src/host/descriptor-client.ts';
import { unmountOnce } from '../../../src/host/mounter.ts';
import type { ServerConfig } from '../../../src/protocol/server-config.ts';
import { parseServerStatus, type ServerStatus } from '../../../src/protocol/server-control.ts';
import { descriptorsOf } from '../../support/descriptors.ts';
import { removeFolderWithMounts } from '../../support/loop-branches.ts';
import { hasEnded, killed, until } from '../../support/processes.ts';
import { fuse, needs } from '../../support/skip.ts';

const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));

describe('union-csi server', () => {
  let folder: string;
  let path: string;
  let mountpoint: string;
  const started: ChildProcess[] = [];

  before(function () {
    needs(this, fuse);
  });

  beforeEach(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'union-server-')));
    path = join(folder, 'server.sock');
    mountpoint = join(folder, 'union');
    for (const name of ['b0', 'b1', 'union']) mkdirSync(join(folder, name));
  });

  afterEach(async () => {
    for (const child of started.splice(0)) await killed(child);
    removeFolderWithMounts(folder);
  });

  const start = async (change: Partial<ServerConfig> = {}) => {
    const branch = (id: string) => ({ id, path: join(folder, id), mode: 'RW' as const, minFreeSpaceBytes: 0 });
    const config: ServerConfig = {
      volumeId: 'uv-1',
      branches: [branch('b0'), branch('b1')],
      policies: { create: 'ff', action: 'ff', search: 'ff' },
      passthrough: true,
      cache: 'exclusive',
      ...change,
    };
    const args = ['server', '--socket', path, '--config', JSON.stringify(config)];
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr!.resume();
    started.push(child);
    await until(() =>
      ask({ op: 'status' }).then(
        () => true,
        () => hasEnded(child),
      ),
    );
    return child;
  };
  const ask = (message: unknown, descriptors: readonly number[] = []) =>
    callDescriptorServer({ path, message, descriptors }, AbortSignal.timeout(60_000));
  const status = async (): Promise<ServerStatus> => {
    const parsed = parseServerStatus(await ask({ op: 'status' }));
    return parsed.ok ? parsed.value : expect.fail(parsed.error.message);
  };
  const mount = async (readOnly = false) => {
    const descriptors = [createStateMemory(), openDevice()];
    try {
      mountDevice({ deviceFd: descriptors[1]!, mountpoint, fsname: 'uv-1', readOnly });
      expect(await ask({ op: 'serve', device: '0:1', readOnly }, descriptors)).to.deep.equal({ ok: true });
    } finally {
      for (const descriptor of descriptors) closeSync(descriptor);
    }
  };

  it('serves a union over a descriptor that was passed to it', async () => {
    const child = await start();
    expect(await status()).to.include({ volume: 'uv-1', state: 'waiting', pid: child.pid });
    await mount();
    writeFileSync(join(mountpoint, 'file'), 'content');
    expect(readFileSync(join(folder, 'b0', 'file'), 'utf8')).to.equal('content');
    const { state, branches } = await status();
    expect(state).to.equal('serving');
    expect(branches.map(({ id, mode }) => [id, mode])).to.deep.equal([
      ['b0', 'RW'],
      ['b1', 'RW'],
    ]);
    expect(branches[0]!.totalBytes).to.be.above(0);
  });

  it('ends the mount at the unmount, closes its branches before it acknowledges stop, and can serve again', async () => {
    const child = await start();
    for (let i = 0; i < 3; i++) {
      await mount();
      mkdirSync(join(mountpoint, `directory-${i}`));
      writeFileSync(join(mountpoint, `directory-${i}`, 'file'), '');
      expect(openBelow(child.pid!, folder)).to.not.deep.equal([]);
      await unmountOnce(mountpoint, { lazy: false });
      expect(await ask({ op: 'stop' })).to.deep.equal({ ok: true });
      expect(openBelow(child.pid!, folder)).to.deep.equal([]);
    }
    expect(descriptorsTo(child.pid!, '/dev/fuse')).to.deep.equal([]);
    expect(await ask({ op: 'stop' })).to.deep.equal({ ok: true });
  });

  it('writes nothing to branches that it serves read only', async () => {
    await start();
    await mount(true);
    expect(() => writeFileSync(join(mountpoint, 'file'), '')).to.throw('EROFS');
  });

  it('refuses to stop while it is mounted', async function () {
    this.slow(5_000);
    await start();
    await mount();
    expect(await ask({ op: 'stop' })).to.include({ ok: false, code: 'FAILED_PRECONDITION' });
    writeFileSync(join(mountpoint, 'file'), 'still here');
  });

  it('ends at SIGTERM when it is not mounted, and removes its socket', async () => {
    const child = await start();
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).to.deep.equal([0, null]);
    expect(existsSync(path)).to.equal(false);
  });

  it('outlives SIGTERM while it is mounted, and ends with the unmount', async () => {
    const child = await start();
    await mount();
    child.kill('SIGTERM');
    child.kill('SIGTERM');
    writeFileSync(join(mountpoint, 'file'), 'still here');
    expect((await status()).state).to.equal('serving');
    const exited = once(child, 'exit');
    await unmountOnce(mountpoint, { lazy: false });
    expect(await exited).to.deep.equal([0, null]);
  });

  it('takes over from a server that was killed what it is given anew, and gives it back', async () => {
    const first = await start();
    const descriptors = [createStateMemory(), openDevice()];
    mountDevice({ deviceFd: descriptors[1]!, mountpoint, fsname: 'uv-1', readOnly: false });
    const request = { op: 'serve', device: '0:1', readOnly: false };
    await ask(request, descriptors);
    const file = openSync(join(mountpoint, 'file'), 'w');
    unlinkSync(join(mountpoint, 'file'));
    await killed(first);
    await start();
    expect(await status()).to.include({ state: 'waiting' });
    expect(await ask(request, descriptors)).to.deep.equal({ ok: true });
    writeSync(file, 'content');
    expect(fstatSync(file).size).to.equal(7);
    closeSync(file);
    for (const descriptor of descriptors) closeSync(descriptor);
    const {
      answer,
      descriptors: given,
      connection,
    } = await takeDescriptors({ path, message: { op: 'custody' } }, AbortSignal.timeout(60_000));
    expect(answer).to.deep.equal({ ok: true, device: '0:1', readOnly: false });
    expect(given).to.have.length(2);
    expect(isMounted(given[1]!)).to.equal(true);
    connection.close();
    for (const descriptor of given) closeSync(descriptor);
  });

  it('tells why it cannot serve, and recovers when the branch is there', async () => {
    rmdirSync(join(folder, 'b1'));
    await start();
    const failed = await status();
    expect(failed).to.include({ state: 'failed' });
    expect(failed.message).to.include(`branch b1: cannot open the directory ${folder}/b1: ENOENT`);
    mkdirSync(join(folder, 'b1'));
    expect(await status()).to.include({ state: 'waiting' });
  });

  it("refuses another volume's branch put in the place of one of its own", async () => {
    const child = await start();
    await mount();
    await killed(child);
    await start({ volumeId: 'uv-2' });
    const { state, message } = await status();
    expect(state).to.equal('failed');
    expect(message).to.include(`the directory ${folder}/b0 belongs to branch b0 of volume uv-1`);
  });

  it('says what is wrong with its command line', () => {
    const run = (...args: string[]) => spawnSync(program, ['server', ...args], { encoding: 'utf8' });
    expect(run()).to.include({ status: 2, stderr: 'union-csi server: --socket is missing; see --help\n' });
    expect(run('--socket', path, '--config', '{')).to.include({
      status: 2,
      stderr: 'union-csi server: --config: not JSON\n',
    });
    expect(run('--sockt', path)).to.include({
      status: 2,
      stderr: 'union-csi server: unknown flag --sockt; did you mean --socket?\n',
    });
  });
});

/** What a process has open at or below the branches of `folder`. */
function openBelow(pid: number, folder: string): readonly string[] {
  return descriptorsTo(pid, `${folder}/b`);
}

function descriptorsTo(pid: number, prefix: string): readonly string[] {
  return descriptorsOf(pid)
    .map(({ target }) => target)
    .filter((target) => target.startsWith(prefix));
}
