/** Bind mounts, unmounting and probing on the real kernel, in a directory whose name has spaces. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { createStateMemory, mountDevice, openDevice } from '../../../fuse/index.ts';
import { type Clock, systemClock } from '../../../src/base/clock.ts';
import { callDescriptorServer } from '../../../src/host/descriptor-client.ts';
import { findHolders, formatHolders } from '../../../src/host/holders.ts';
import { bindMount, probe, unionAt, unmountAll, unmountOnce } from '../../../src/host/mounter.ts';
import { mountAt } from '../../../src/host/mountinfo.ts';
import { removeFolderWithMounts } from '../../support/loop-branches.ts';
import { killed, until } from '../../support/processes.ts';
import { fuse, needs, root } from '../../support/skip.ts';

const signal = () => AbortSignal.timeout(60_000);

describe('mounter', () => {
  let folder: string;
  let source: string;
  let target: string;
  const started: ChildProcess[] = [];

  before(function () {
    needs(this, root);
  });

  beforeEach(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'mounter with space-')));
    [source, target] = [join(folder, 'source'), join(folder, 'target')];
    for (const path of [source, target]) mkdirSync(path);
  });

  afterEach(async () => {
    for (const child of started.splice(0)) {
      await killed(child);
    }
    removeFolderWithMounts(folder);
  });

  it('binds a directory to another', async () => {
    await bindMount({ source, target, readOnly: false });
    writeFileSync(join(target, 'file'), 'content');
    expect(readFileSync(join(source, 'file'), 'utf8')).to.equal('content');
  });

  it('binds read only, and only there', async () => {
    await bindMount({ source, target, readOnly: true });
    expect(() => writeFileSync(join(target, 'file'), '')).to.throw('EROFS');
    writeFileSync(join(source, 'file'), '');
  });

  it('keeps nosuid and nodev of what it binds read only', async () => {
    spawnSync('mount', ['-t', 'tmpfs', '-o', 'nosuid,nodev', 'none', source]);
    await bindMount({ source, target, readOnly: true });
    expect(mountAt(target)!.options).to.include.members(['ro', 'nosuid', 'nodev']);
  });

  it('takes all mounts off a path, and nothing for done', async () => {
    for (let i = 0; i < 3; i++) await bindMount({ source, target, readOnly: false });
    await unmountAll(target, systemClock, signal());
    expect(mountAt(target)).to.equal(undefined);
    await unmountAll(target, systemClock, signal());
    await unmountOnce(target, { lazy: false });
    await unmountOnce(join(folder, 'none'), { lazy: false });
  });

  it('waits for a short use to end, and gives up on a long one with its name', async () => {
    await bindMount({ source, target, readOnly: false });
    writeFileSync(join(source, 'file'), '');
    const fd = openSync(join(target, 'file'), 'r');
    let waits = 0;
    const clock: Clock = {
      now: () => 0,
      sleep: async () => {
        if (++waits === 3) closeSync(fd);
      },
    };
    await unmountAll(target, clock, signal());
    expect(waits).to.equal(3);

    await bindMount({ source, target, readOnly: false });
    const child = spawn('sleep', ['60'], { cwd: target });
    started.push(child);
    await once(child, 'spawn');
    const failure = await unmountAll(target, { now: () => 0, sleep: async () => {} }, signal()).catch((error) => error);
    expect(failure).to.include({ code: 'FAILED_PRECONDITION' });
    expect(failure.message).to.equal(`${target} is in use by sleep (${child.pid}); end it, then unmount again`);
    expect(formatHolders(findHolders(join(folder, 'source')))).to.equal('something that is not visible in /proc');
  });

  it('measures a filesystem from outside of this process', async () => {
    spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1M,nr_inodes=10', 'none', target]);
    const answer = await probe(target, signal());
    expect(answer).to.deep.include({ kind: 'alive' });
    expect(answer.kind === 'alive' && answer.usage).to.include({ totalBytes: 1048576n, totalInodes: 10n });
    expect(await probe(join(folder, 'none'), signal())).to.deep.equal({ kind: 'missing' });
  });

  it('tells a dead union from a live one, and gives up on a stuck one in time', async function () {
    needs(this, fuse);
    const socket = join(folder, 'server.sock');
    const script = fileURLToPath(new URL('../../support/null-server.ts', import.meta.url));
    const server = spawn(process.execPath, [script, socket, 'uv-1'], { stdio: ['ignore', 'pipe', 'inherit'] });
    started.push(server);
    await once(server.stdout, 'data');
    const [state, device] = [createStateMemory(), openDevice()];
    mountDevice({ deviceFd: device, mountpoint: target, fsname: 'uv-1', readOnly: false });
    await callDescriptorServer(
      { path: socket, message: { op: 'serve', device: '0:1', readOnly: false }, descriptors: [state, device] },
      signal(),
    );
    for (const descriptor of [state, device]) closeSync(descriptor);
    expect(unionAt(target)).to.include({ source: 'uv-1' });
    expect(await probe(target, signal())).to.deep.include({ kind: 'alive' });

    server.kill('SIGSTOP');
    const stuck = await probe(target, AbortSignal.timeout(300)).catch((error) => error);
    expect(stuck).to.include({ name: 'TimeoutError' });
    server.kill('SIGKILL');
    await until(async () => (await probe(target, signal())).kind === 'dead');
    expect(existsSync(target)).to.equal(false); // ENOTCONN
    await unmountAll(target, systemClock, signal());
    expect(existsSync(target)).to.equal(true);
  });
});
