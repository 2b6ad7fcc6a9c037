/** The end of a union: what other processes do to it meanwhile, and that the tests' own unmounting copes with it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { unmount } from '../../../fuse/index.ts';
import { mountpointsBelow, runProgram } from '../../support/loop-branches.ts';
import { killed, until } from '../../support/processes.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { makeUnion, mountUnion, type TestUnion } from '../../support/union-mount.ts';

describe('the end of a union', () => {
  let union: TestUnion;
  let other: ChildProcess | undefined;

  before(function () {
    needs(this, fuse, loop);
  });

  beforeEach(async () => {
    union = await makeUnion({ sizesBytes: [16 << 20] });
  });

  afterEach(async () => {
    if (other !== undefined) await killed(other);
    other = undefined;
    await union?.close().catch(() => undefined);
  });

  /** Starts a program that says when it has begun, and goes on until its stdin ends. */
  const start = async (command: string, args: readonly string[] = [], cwd = '/') => {
    other = spawn(command, [...args, 'sh', '-c', 'echo begun; read line'], { stdio: ['pipe', 'pipe', 'inherit'], cwd });
    await once(other.stdout!, 'data');
    return other;
  };

  const inNamespaceOf = (pid: number) =>
    mountpointsBelow(
      union.folder,
      runProgram('nsenter', [`--mount=/proc/${pid}/ns/mnt`, 'cat', '/proc/self/mountinfo']),
    );

  it('comes although another mount namespace has copies of its mounts', async () => {
    const { pid } = await start('unshare', ['--mount']);
    expect(inNamespaceOf(pid!)).to.have.length(2);
    await union.close();
    expect(inNamespaceOf(pid!)).to.deep.equal([]);
    expect(existsSync(union.folder)).to.equal(false);
  });

  it('comes although who has copies does not see them, having another root', async () => {
    const root = join(union.folder, 'root');
    mkdirSync(root);
    const script = `mount --bind / ${root} && exec chroot ${root} "$@"`;
    const { pid } = await start('unshare', ['--mount', 'sh', '-c', script, 'sh']);
    expect(inNamespaceOf(pid!)).to.have.length(3);
    await union.close();
    expect(inNamespaceOf(pid!)).to.deep.equal([]);
    expect(existsSync(union.folder)).to.equal(false);
  });

  it('leaves the next union in its place alone, however late it comes', async () => {
    writeFileSync(join(union.mountpoint, 'first'), ''); // it serves
    process.kill(union.pid, 'SIGSTOP');
    // Not by umount(8), which would look at it.
    unmount(union.mountpoint, { lazy: false });
    const next = await mountUnion({ branches: union.branches, mountpoint: union.mountpoint });
    try {
      process.kill(union.pid, 'SIGCONT');
      await until(() => !existsSync(`/proc/${union.pid}`));
      writeFileSync(join(union.mountpoint, 'file'), '');
      expect(existsSync(join(union.branches[0]!, 'file'))).to.equal(true);
      expect(union.complaints()).to.equal('');
    } finally {
      await next.close();
    }
  });

  it('waits for whoever uses it for a moment', async () => {
    const user = await start('env', [], union.mountpoint);
    setTimeout(() => user.stdin!.end(), 200);
    await union.close();
  });

  it('tells who uses it for longer', async () => {
    const user = await start('env', [], union.mountpoint);
    const error = await union.close(300).then(
      () => undefined,
      (reason: Error) => reason,
    );
    expect(error?.message).to.include(`target is busy. It is held by sh (${user.pid})`);
  });
});
