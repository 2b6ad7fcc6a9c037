/** Mounts whose server has died, in the custody of the node plugin. */
import { execFile } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { mountAt } from '../../../src/host/mountinfo.ts';
import { attachmentTo, NodeUnderTest, volumeId } from '../../support/node-under-test.ts';
import { killed, until } from '../../support/processes.ts';
import { fuse, needs } from '../../support/skip.ts';

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
      const waiting = run('ls', ['-A', targetPath]);
      node.serve();
      expect((await waiting).stdout).to.equal('');
      expect(mountAt(targetPath)).to.deep.equal(before);
      expect(node.custodian.restarts.get(volumeId)).to.equal(1);
      expect(node.said).to.deep.equal(['Served', 'Held', 'Served']);
      expect(await node.stats(targetPath)).to.have.nested.property('volumeCondition.abnormal', false);
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
      expect((await run('ls', ['-A', targetPath])).stdout).to.equal('');
    });

    it('lets go when a server is there that cannot serve', async () => {
      node.serve('pod-1', { failure: 'branch b1 is gone' });
      const denied = await run('ls', ['-A', targetPath]).catch((error: Error) => error);
      expect(denied).to.be.an.instanceOf(Error);
      const { volumeCondition } = await node.stats(targetPath);
      expect(volumeCondition?.message).to.include('cannot open its branches: branch b1 is gone; pods that use it must');
      expect(node.said.at(-1)).to.match(/^Failed .*branch b1 is gone$/);
      await node.server!.close();
      node.serve();
      await node.publish({ targetPath: `${targetPath}2` });
      expect(node.said.at(-1)).to.equal('Served');
      expect((await run('ls', ['-A', `${targetPath}2`])).stdout).to.equal('');
      await node.unpublish();
      await node.unpublish(`${targetPath}2`);
      await node.unstage();
      expect(node.mounts()).to.deep.equal([]);
    });
  });

  it('takes custody back when it is started anew, and holds the mount again', async () => {
    const first = await node.spawn();
    await node.stage();
    await node.publish();
    node.custodian.close();
    expect(devicesOpen()).to.equal(0);
    await node.custodian.recover([volumeId], () => true, AbortSignal.timeout(60_000));
    await killed(first);
    node.serve();
    expect((await run('ls', ['-A', targetPath])).stdout).to.equal('');
  });

  it('mounts anew what died with its server while there was no custodian', async () => {
    const first = await node.spawn();
    await node.stage();
    node.custodian.close();
    await killed(first);
    expect(await node.stats(stagingTargetPath)).to.have.nested.property('volumeCondition.abnormal', true);
    node.serve();
    await node.publish();
    expect((await run('ls', ['-A', targetPath])).stdout).to.equal('');
  });
});

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
