/** The CSI Node service, call by call, over real mounts. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import type { UnionError } from '../../../src/base/errors.ts';
import { mountAt } from '../../../src/host/mountinfo.ts';
import { attachmentTo, capability, NodeUnderTest, nodeName, volumeId } from '../../support/node-under-test.ts';
import { until } from '../../support/processes.ts';
import { fuse, needs } from '../../support/skip.ts';

const run = promisify(execFile);

describe('Node service', () => {
  let node: NodeUnderTest;
  let folder: string;
  let stagingTargetPath: string;
  let targetPath: string;

  before(function () {
    needs(this, fuse);
  });

  beforeEach(() => {
    node = new NodeUnderTest();
    ({ folder, stagingTargetPath, targetPath } = node);
  });

  afterEach(async () => await node.close());

  it('stages, publishes, unpublishes and unstages, each ten times over', async () => {
    node.serve();
    for (let i = 0; i < 10; i++) await node.stage();
    expect(mountAt(stagingTargetPath)).to.include({ fsType: 'fuse.union', source: volumeId });
    for (let i = 0; i < 10; i++) await node.publish();
    expect(node.mounts()).to.deep.equal([stagingTargetPath, targetPath]);
    expect(mountAt(targetPath)!.device).to.equal(mountAt(stagingTargetPath)!.device);
    expect((await run('ls', ['-A', targetPath])).stdout).to.equal('');
    for (let i = 0; i < 10; i++) await node.unpublish();
    for (let i = 0; i < 10; i++) await node.unstage();
    expect(node.mounts()).to.deep.equal([]);
    expect(existsSync(targetPath)).to.equal(false);
    expect(existsSync(stagingTargetPath)).to.equal(false);
    await until(async () => (await node.server!.state()) === 'ended');
  });

  it('stages again after it was unstaged', async () => {
    node.serve();
    await node.stage();
    await node.unstage();
    await node.stage();
    expect(mountAt(stagingTargetPath)).to.include({ source: volumeId });
    await node.unstage();
  });

  it('stages again what is staged and alive while its server pod is on its way out, as a new kubelet asks', async () => {
    node.serve();
    await node.stage();
    node.attachment = { ...attachmentTo('pod-1'), status: { phase: 'Pending' } };
    await node.stage();
    await node.publish();
  });

  it('keeps the staging directory closed while nothing is mounted on it', async () => {
    node.serve();
    mkdirSync(stagingTargetPath, { mode: 0o750 });
    await node.stage();
    await run('umount', [stagingTargetPath]);
    expect(statSync(stagingTargetPath).mode & 0o7777).to.equal(0);
  });

  it('publishes read only', async () => {
    node.serve();
    await node.stage();
    await node.publish({ readonly: true });
    expect(mountAt(targetPath)!.options).to.include('ro');
    expect(mountAt(stagingTargetPath)!.options).to.include('rw');
    await node.publish({ readonly: true });
    expect(await failureOf(node.publish())).to.include({ code: 'ALREADY_EXISTS' });
  });

  it('publishes at several targets, but not a volume for a single pod', async () => {
    node.serve();
    await node.stage();
    await node.publish();
    await node.publish({ targetPath: `${targetPath}2` });
    const alone = await failureOf(
      node.publish({ targetPath: `${targetPath}3`, volumeCapability: capability('SINGLE_NODE_SINGLE_WRITER') }),
    );
    expect(alone).to.include({ code: 'FAILED_PRECONDITION' });
    expect(alone.message).to.include(`volume ${volumeId} allows one pod and is published at ${targetPath}`);
  });

  it('is ABORTED while another call about the volume is under way', async () => {
    node.serve();
    const first = node.stage();
    expect(await failureOf(node.stage())).to.include({ code: 'ABORTED' });
    await first;
  });

  it('unmounts only when nobody uses the volume, and names who does', async () => {
    node.serve();
    await node.stage();
    await node.publish();
    // Not the `cwd` of spawn, in which this process would wait for the directory that it serves.
    const child = spawn('sh', ['-c', 'cd "$1" && echo there && exec sleep 60', 'sh', targetPath]);
    node.started.push(child);
    await once(child.stdout, 'data');
    await until(() => readFileSync(`/proc/${child.pid}/comm`, 'utf8') === 'sleep\n');
    const error = await failureOf(node.unpublish());
    expect(error).to.include({ code: 'FAILED_PRECONDITION' });
    expect(error.message).to.equal(`${targetPath} is in use by sleep (${child.pid}); end it, then unmount again`);
    expect(mountAt(targetPath)).to.include({ source: volumeId });
  });

  it('measures a published volume', async () => {
    node.serve();
    await node.stage();
    await node.publish();
    expect(await node.stats(targetPath)).to.deep.equal({
      usage: [
        { unit: 'BYTES', total: '4096000', available: '1228800', used: '2457600' },
        { unit: 'INODES', total: '100', available: '50', used: '50' },
      ],
      volumeCondition: { abnormal: false, message: 'the mount answers' },
    });
    expect(await failureOf(node.stats(folder))).to.include({ code: 'NOT_FOUND' });
    expect(await failureOf(node.stats('no/path'))).to.include({ code: 'NOT_FOUND' });
  });

  it('tells who and where it is', async () => {
    const info = { nodeId: nodeName, accessibleTopology: { segments: { 'kubernetes.io/hostname': nodeName } } };
    expect(await node.service.NodeGetInfo({}, node.context())).to.deep.equal(info);
  });

  describe('says what is wrong', () => {
    it('not attached', async () => {
      node.attachment = undefined;
      const error = await failureOf(node.stage());
      expect(error).to.include({ code: 'NOT_FOUND' });
      expect(error.message).to.equal(`volume ${volumeId} is not attached to node node-1; publish it to the node first`);
    });

    it('server pod not scheduled, with the reason that the attachment tells', async () => {
      const message = 'branch b1: claim union-csi/uv-1-b1 is pending';
      const condition = { type: 'Ready', status: 'False', reason: 'Pending', message, lastTransitionTime: '' } as const;
      node.attachment = { ...attachmentTo('pod-1'), status: { phase: 'Pending', conditions: [condition] } };
      const error = await failureOf(node.stage());
      expect(error).to.include({ code: 'UNAVAILABLE' });
      expect(error.message).to.equal(`volume ${volumeId} is not served yet: ${message}`);
    });

    it('server pod runs without a socket', async () => {
      const error = await failureOf(node.stage());
      expect(error).to.include({ code: 'UNAVAILABLE' });
      expect(error.message).to.include('server pod union-csi/server-1 runs, but nobody answers at');
      expect(node.mounts()).to.deep.equal([]);
    });

    it('branches cannot be opened', async () => {
      node.serve('pod-1', { failure: 'branch b1 is gone' });
      const error = await failureOf(node.stage());
      expect(error).to.include({ code: 'UNAVAILABLE' });
      expect(error.message).to.include('cannot open its branches: branch b1 is gone');
    });

    it('a server of another volume', async () => {
      node.serve('pod-1', { volume: 'uv-2' });
      expect(await failureOf(node.stage())).to.include({ code: 'FAILED_PRECONDITION' });
    });

    it('a volume that is staged elsewhere, and leaves nothing mounted', async () => {
      node.serve();
      await node.stage();
      const second = await failureOf(node.stage(`${stagingTargetPath}2`));
      expect(second).to.include({ code: 'FAILED_PRECONDITION' });
      expect(second.message).to.equal(`volume ${volumeId} is still mounted; unmount it first`);
      expect(node.mounts()).to.deep.equal([stagingTargetPath]);
    });

    it('something else mounted at the staging path', async () => {
      node.serve();
      mkdirSync(stagingTargetPath);
      await run('mount', ['-t', 'tmpfs', 'other', stagingTargetPath]);
      for (const call of [() => node.stage(), () => node.unstage(), () => node.publish()]) {
        const error = await failureOf(call());
        expect(error).to.include({ code: 'FAILED_PRECONDITION' });
        expect(error.message).to.include(
          `${stagingTargetPath} is not volume ${volumeId}'s: other of type tmpfs is mounted`,
        );
      }
    });

    it('publish before stage', async () => {
      node.serve();
      mkdirSync(stagingTargetPath);
      const error = await failureOf(node.publish());
      expect(error).to.include({ code: 'FAILED_PRECONDITION' });
      expect(error.message).to.include('is not mounted at the staging path');
      expect(existsSync(targetPath)).to.equal(false);
    });

    it('a target that is a file', async () => {
      node.serve();
      await node.stage();
      mkdirSync(join(targetPath, '..'), { recursive: true });
      writeFileSync(targetPath, 'precious');
      const error = await failureOf(node.publish());
      expect(error).to.include({ code: 'FAILED_PRECONDITION' });
      expect(error.message).to.include(`target path ${targetPath} cannot be mounted on: it is not a directory`);
    });

    it('a target that is not empty, and never deletes what is in it', async () => {
      node.serve();
      await node.stage();
      mkdirSync(targetPath, { recursive: true });
      writeFileSync(join(targetPath, 'precious'), 'data');
      expect((await failureOf(node.publish())).message).to.include(`target path ${targetPath} is not empty (precious)`);
      expect((await failureOf(node.unpublish())).message).to.include('it holds files of the node itself');
      expect(readdirSync(targetPath)).to.deep.equal(['precious']);
    });

    it('arguments that are missing or no paths', async () => {
      expect((await failureOf(node.publish({ volumeId: '' }))).message).to.equal('volume_id is missing');
      expect((await failureOf(node.publish({ targetPath: '' }))).message).to.equal('target_path is missing');
      expect((await failureOf(node.publish({ targetPath: '/a/../b' }))).message).to.include('not an absolute path');
      expect((await failureOf(node.publish({ volumeCapability: null }))).message).to.equal(
        'volume_capability is missing',
      );
      const block = { accessMode: null, accessType: 'block', block: {} } as const;
      expect((await failureOf(node.publish({ volumeCapability: block }))).message).to.include(
        'cannot be a block device',
      );
    });
  });
});

async function failureOf(promise: Promise<unknown>): Promise<UnionError> {
  return await promise.then(
    (value) => expect.fail(`succeeded with ${JSON.stringify(value)}`),
    (error: unknown) => error as UnionError,
  );
}
