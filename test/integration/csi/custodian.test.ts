/** Mounts whose server has died, in the custody of the node plugin. */
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { unionsWithin } from '../../../src/host/mounter.ts';
import { mountAt } from '../../../src/host/mountinfo.ts';
import type { UnionAttachment } from '../../../src/protocol/resources.ts';
import { runProgram } from '../../support/loop-branches.ts';
import { attachmentTo, NodeUnderTest, volumeId } from '../../support/node-under-test.ts';
import { hasEnded, killed, until } from '../../support/processes.ts';
import { fuse, needs } from '../../support/skip.ts';
import type { Inability } from '../../support/union-servers.ts';

const run = promisify(execFile);

describe('Custodian', () => {
  let node: NodeUnderTest;
  let stagingTargetPath: string;
  let targetPath: string;

  before(function () {
    needs(this, fuse);
  });

  beforeEach(() => {
    node = new NodeUnderTest();
    ({ stagingTargetPath, targetPath } = node);
  });

  afterEach(async () => await node.close());

  describe('while no server lives', () => {
    beforeEach(async () => {
      const first = await node.spawn();
      await node.stage();
      await node.publish();
      await killed(first);
      const { device } = mountAt(targetPath)!;
      await until(() => node.custodian.standing(volumeId, device).kind === 'held');
    });

    it('holds the mount, which the next server takes over', async () => {
      const before = mountAt(targetPath);
      const waiting = look(targetPath);
      node.serve();
      expect(await waiting).to.equal('');
      expect(mountAt(targetPath)).to.deep.equal(before);
      expect(node.custodian.restarts.get(volumeId)).to.equal(1);
      expect(node.said).to.deep.equal(['Served', 'Held', 'Served']);
      expect(await node.stats(targetPath)).to.have.nested.property('volumeCondition.abnormal', false);
    });

    it('finds the next server of the same pod while the API server does not answer', async () => {
      const away = Promise.withResolvers<void>();
      node.api = away.promise;
      node.serve();
      expect(await look(targetPath)).to.equal('');
      away.resolve();
    });

    it('says so, and asks the mount nothing', async () => {
      const { volumeCondition } = await node.stats(targetPath);
      expect(volumeCondition).to.deep.equal({
        abnormal: true,
        message: 'the server of this mount has ended; it answers when the next one is up',
      });
    });

    it('stages and publishes what is staged', async () => {
      await node.stage();
      await node.publish({ targetPath: `${targetPath}2` });
      expect(node.mounts()).to.deep.equal([stagingTargetPath, targetPath, `${targetPath}2`]);
    });

    it('unpublishes and unstages, and lets go of the descriptors', async () => {
      expect(devicesOpen()).to.be.above(0);
      await node.unpublish();
      await node.unstage();
      expect(node.mounts()).to.deep.equal([]);
      expect(devicesOpen()).to.equal(0);
    });

    it('hands over to the server of another pod', async () => {
      node.attachment = attachmentTo('pod-2');
      node.serve('pod-2');
      expect(await look(targetPath)).to.equal('');
    });
  });

  it('lets go of a mount when one of its branches is unmounted while no server lives: its driver takes the device away', async () => {
    const branch = join(node.kubeletDir, 'pods', 'pod-1', 'volumes', 'branch');
    mkdirSync(branch, { recursive: true });
    runProgram('mount', ['-t', 'tmpfs', 'branch', branch]);
    const first = await node.spawn();
    await node.stage();
    await node.publish();
    await killed(first);
    const waiting = look(targetPath);
    await until(() => node.said.includes('Held'));
    runProgram('umount', [branch]);
    expect(await waiting).to.match(/not connected|aborted|abort/);
    expect(node.said.at(-1)).to.match(
      /^Failed its server has ended, and a branch was unmounted; pods that use it must be/,
    );
    expect(devicesOpen()).to.equal(0);
  });

  describe('when there is no server that can go on', () => {
    /** `then`: a server that cannot go on, or what the attachment says while there is none. */
    const begin = async (then: Inability | UnionAttachment) => {
      await node.close();
      node = new NodeUnderTest(100);
      ({ stagingTargetPath, targetPath } = node);
      const first = await node.spawn();
      await node.stage();
      await node.publish();
      await killed(first);
      if ('kind' in then) node.attachment = then;
      else node.serve('pod-1', then);
      expect(await look(targetPath)).to.match(/Input\/output error/);
    };

    it('answers errors, says why, and goes on with a better one', async () => {
      await begin({ failure: 'branch b1 is gone' });
      const { volumeCondition } = await node.stats(targetPath);
      expect(volumeCondition?.message).to.match(/branch b1 is gone; it answers errors until a better one is up$/);
      expect(node.said.slice(0, 2)).to.deep.equal(['Served', 'Held']);
      expect(node.said[2]).to.match(/^Failed .*branch b1 is gone$/);
      await node.server!.close();
      node.serve();
      await until(async () => (await look(targetPath)) === '');
      expect(node.said.at(-1)).to.equal('Served');
    });

    it('answers errors, too, when servers end before they listen', async () => {
      let restarts = 0;
      const { status, ...rest } = attachmentTo('pod-1');
      await begin({
        ...rest,
        get status() {
          return { ...status, restarts: restarts++ };
        },
      });
      expect(node.said.at(-1)).to.match(/^Failed its server died 1 times, and was started \d+ times since$/);
    });

    it('mounts anew when nobody uses it', async () => {
      await begin({ unfit: 'the state is of version 9' });
      await node.unpublish();
      // Until no attempt with the old state is under way.
      await until(() =>
        node.publish().then(
          () => true,
          () => false,
        ),
      );
      expect(await look(targetPath)).to.equal('');
      expect(node.said.at(-1)).to.equal('Served');
      await node.unpublish();
      await node.unstage();
      expect(node.mounts()).to.deep.equal([]);
      await until(() => devicesOpen() === 0);
    });
  });

  it('has a server whose pod is to go make way for the next one', async () => {
    const first = await node.spawn();
    await node.stage();
    await node.publish();
    const before = mountAt(targetPath);
    first.kill('SIGTERM');
    node.attachment = attachmentTo('pod-2');
    node.serve('pod-2');
    await until(() => hasEnded(first));
    expect(await look(targetPath)).to.equal('');
    expect(mountAt(targetPath)).to.deep.equal(before);
    expect(node.custodian.restarts.get(volumeId)).to.equal(1);
    expect(node.said).to.deep.equal(['Served', 'Served']);
  });

  it('lets a server be whose pod is to go and has no successor', async () => {
    const first = await node.spawn();
    await node.stage();
    await node.publish();
    first.kill('SIGTERM');
    expect(await look(targetPath)).to.equal('');
    await node.unpublish();
    await node.unstage();
    expect(hasEnded(first)).to.equal(false);
    expect(node.said).to.deep.equal(['Served']);
  });

  it('takes custody back when it is started anew, and holds the mount again', async () => {
    const first = await node.spawn();
    await node.stage();
    await node.publish();
    await node.custodian.close();
    expect(devicesOpen()).to.equal(0);
    await node.custodian.recover(() => unionsWithin(node.folder), AbortSignal.timeout(60_000));
    await killed(first);
    node.serve();
    expect(await look(targetPath)).to.equal('');
  });

  it('says what died with its server while there was no custodian, and mounts it anew', async () => {
    const first = await node.spawn();
    await node.stage();
    await node.custodian.close();
    await killed(first);
    await node.custodian.recover(() => unionsWithin(node.folder), AbortSignal.timeout(60_000));
    const why = 'its server and the node plugin were away at the same time; pods that use it must be started again';
    expect(node.said.at(-1)).to.equal(`Failed ${why}`);
    const { volumeCondition } = await node.stats(stagingTargetPath);
    expect(volumeCondition).to.deep.equal({ abnormal: true, message: why });
    node.serve();
    await node.publish();
    expect(await look(targetPath)).to.equal('');
  });

  it('waits at its end for the server that is to take over', async () => {
    const first = await node.spawn();
    await node.stage();
    await killed(first);
    await until(() => node.custodian.heldCount === 1);
    let isSettled = false;
    const settled = node.custodian.settled(1_000_000).then(() => {
      isSettled = true;
    });
    expect(isSettled).to.equal(false);
    node.serve();
    await settled;
    expect(node.custodian.heldCount).to.equal(0);
    await node.custodian.settled(0);
  });
});

/** What `ls` says, from outside of this process. */
async function look(path: string): Promise<string> {
  const { stdout, stderr } = await run('ls', ['-A', path]).catch((error: { stdout: string; stderr: string }) => error);
  return stdout + stderr;
}

/** Descriptors of /dev/fuse in this process. */
function devicesOpen(): number {
  const linkOf = (fd: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // closed while we looked
    }
  };
  return readdirSync('/proc/self/fd').filter((fd) => linkOf(fd) === '/dev/fuse').length;
}
