/** The CSI Node service over real mounts in a kubelet directory of its own, with null unions in the place of the filesystem. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { systemClock } from '../../../src/base/clock.ts';
import type { UnionError } from '../../../src/base/errors.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import { Custodian } from '../../../src/csi/custodian.ts';
import { createNodeService } from '../../../src/csi/node.ts';
import { UnionLink } from '../../../src/csi/union-link.ts';
import { unmountOnce } from '../../../src/host/mounter.ts';
import { mountAt, readMountInfo } from '../../../src/host/mountinfo.ts';
import type { NodePublishVolumeRequest__Output } from '../../../src/protocol/generated/csi/v1/NodePublishVolumeRequest.ts';
import type { VolumeCapability__Output } from '../../../src/protocol/generated/csi/v1/VolumeCapability.ts';
import type { UnionAttachment } from '../../../src/protocol/resources.ts';
import { attachmentNameOf, volumeIdOf } from '../../../src/union/ids.ts';
import { removeFolderWithMounts } from '../../support/loop-branches.ts';
import { killed, until } from '../../support/processes.ts';
import { fuse, needs } from '../../support/skip.ts';
import { type InProcessServer, spawnServer, startServer } from '../../support/union-servers.ts';

const volumeId = volumeIdOf('pvc-1');
const nodeName = 'node-1';
const run = promisify(execFile);

describe('Node service', () => {
  let folder: string;
  let kubeletDir: string;
  let stagingTargetPath: string;
  let targetPath: string;
  let attachment: UnionAttachment | undefined;
  let server: InProcessServer | undefined;
  let custodian: Custodian;
  let node: Required<ReturnType<typeof createNodeService>>;
  const started: ChildProcess[] = [];

  before(function () {
    needs(this, fuse);
  });

  beforeEach(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'node-service-')));
    kubeletDir = join(folder, 'kubelet');
    stagingTargetPath = join(kubeletDir, 'staging', 'globalmount');
    targetPath = join(kubeletDir, 'pods', 'app', 'mount');
    mkdirSync(join(kubeletDir, 'staging'), { recursive: true });
    attachment = running('pod-1');
    const attachments = {
      get: async ({ name }: { name: string }) => (name === attachment?.metadata.name ? attachment : undefined),
    };
    const link = new UnionLink({ nodeName, kubeletDir, attachments, clock: impatientClock() });
    custodian = new Custodian({ link, clock: impatientClock(), log: silentLogger });
    node = createNodeService({ nodeName, link, custodian, clock: impatientClock() }) as typeof node;
  });

  afterEach(async () => {
    for (const child of started.splice(0)) await killed(child);
    custodian.close();
    await detachAll(folder);
    await server?.close();
    server = undefined;
    removeFolderWithMounts(folder);
  });

  const context = () => ({ signal: AbortSignal.timeout(15_000), deadline: Infinity, log: silentLogger });
  const stage = (path = stagingTargetPath) =>
    node.NodeStageVolume(
      {
        volumeId,
        stagingTargetPath: path,
        volumeCapability: capability(),
        publishContext: {},
        secrets: {},
        volumeContext: {},
      },
      context(),
    );
  const unstage = () => node.NodeUnstageVolume({ volumeId, stagingTargetPath }, context());
  const publish = (change: Partial<NodePublishVolumeRequest__Output> = {}) =>
    node.NodePublishVolume(
      {
        volumeId,
        stagingTargetPath,
        targetPath,
        volumeCapability: capability(),
        readonly: false,
        publishContext: {},
        secrets: {},
        volumeContext: {},
        ...change,
      },
      context(),
    );
  const unpublish = (path = targetPath) => node.NodeUnpublishVolume({ volumeId, targetPath: path }, context());
  const stats = (volumePath: string) =>
    node.NodeGetVolumeStats({ volumeId, volumePath, stagingTargetPath: '' }, context());
  const serve = () => {
    server = startServer(socketPath(kubeletDir, 'pod-1'), volumeId);
    return server;
  };

  it('stages, publishes, unpublishes and unstages, each ten times over', async () => {
    serve();
    for (let i = 0; i < 10; i++) await stage();
    expect(mountAt(stagingTargetPath)).to.include({ fsType: 'fuse.union', source: volumeId });
    for (let i = 0; i < 10; i++) await publish();
    expect(mountsOf(folder)).to.deep.equal([stagingTargetPath, targetPath]);
    expect(mountAt(targetPath)!.device).to.equal(mountAt(stagingTargetPath)!.device);
    expect((await run('ls', ['-A', targetPath])).stdout).to.equal('');
    for (let i = 0; i < 10; i++) await unpublish();
    for (let i = 0; i < 10; i++) await unstage();
    expect(mountsOf(folder)).to.deep.equal([]);
    expect(existsSync(targetPath)).to.equal(false);
    expect(existsSync(stagingTargetPath)).to.equal(false);
    expect(await server!.state()).to.equal('ended');
  });

  it('stages again after it was unstaged', async () => {
    serve();
    await stage();
    await unstage();
    await stage();
    expect(mountAt(stagingTargetPath)).to.include({ source: volumeId });
    await unstage();
  });

  it('stages again what is staged and alive while its server pod is on its way out, as a new kubelet asks', async () => {
    serve();
    await stage();
    attachment = { ...running('pod-1'), status: { phase: 'Pending' } };
    await stage();
    await publish();
  });

  it('keeps the staging directory closed while nothing is mounted on it', async () => {
    serve();
    mkdirSync(stagingTargetPath, { mode: 0o750 });
    await stage();
    await run('umount', [stagingTargetPath]);
    expect(statSync(stagingTargetPath).mode & 0o7777).to.equal(0);
  });

  it('publishes read only', async () => {
    serve();
    await stage();
    await publish({ readonly: true });
    expect(mountAt(targetPath)!.options).to.include('ro');
    expect(mountAt(stagingTargetPath)!.options).to.include('rw');
    await publish({ readonly: true });
    expect(await failureOf(publish())).to.include({ code: 'ALREADY_EXISTS' });
  });

  it('publishes at several targets, but not a volume for a single pod', async () => {
    serve();
    await stage();
    await publish();
    await publish({ targetPath: `${targetPath}2` });
    const alone = await failureOf(
      publish({ targetPath: `${targetPath}3`, volumeCapability: capability('SINGLE_NODE_SINGLE_WRITER') }),
    );
    expect(alone).to.include({ code: 'FAILED_PRECONDITION' });
    expect(alone.message).to.include(`volume ${volumeId} allows one pod and is published at ${targetPath}`);
  });

  describe('while no server lives', () => {
    beforeEach(async () => {
      const first = await spawnServer(socketPath(kubeletDir, 'pod-1'), volumeId);
      started.push(first);
      await stage();
      await publish();
      await killed(first);
      const { device } = mountAt(targetPath)!;
      await until(() => custodian.standing(volumeId, device).kind === 'held');
    });

    it('holds the mount, which the next server takes over', async () => {
      const before = mountAt(targetPath);
      const waiting = run('ls', ['-A', targetPath]);
      serve();
      expect((await waiting).stdout).to.equal('');
      expect(mountAt(targetPath)).to.deep.equal(before);
      expect(custodian.restarts.get(volumeId)).to.equal(1);
      expect(await stats(targetPath)).to.have.nested.property('volumeCondition.abnormal', false);
    });

    it('says so, and asks the mount nothing', async () => {
      const { volumeCondition } = await stats(targetPath);
      expect(volumeCondition).to.deep.equal({
        abnormal: true,
        message: 'the server of this mount has ended; it answers when the next one is up',
      });
    });

    it('stages and publishes what is staged', async () => {
      await stage();
      await publish({ targetPath: `${targetPath}2` });
      expect(mountsOf(folder)).to.deep.equal([stagingTargetPath, targetPath, `${targetPath}2`]);
    });

    it('unpublishes and unstages, and lets go of the descriptors', async () => {
      expect(devicesOpen()).to.be.above(0);
      await unpublish();
      await unstage();
      expect(mountsOf(folder)).to.deep.equal([]);
      expect(devicesOpen()).to.equal(0);
    });

    it('hands over to the server of another pod', async () => {
      attachment = running('pod-2');
      server = startServer(socketPath(kubeletDir, 'pod-2'), volumeId);
      expect((await run('ls', ['-A', targetPath])).stdout).to.equal('');
    });

    it('lets go when a server is there that cannot serve', async () => {
      server = startServer(socketPath(kubeletDir, 'pod-1'), volumeId, 'branch b1 is gone');
      await failureOf(run('ls', ['-A', targetPath]));
      const { volumeCondition } = await stats(targetPath);
      expect(volumeCondition?.message).to.include('cannot open its branches: branch b1 is gone; pods that use it must');
      await server.close();
      serve();
      await publish({ targetPath: `${targetPath}2` });
      expect((await run('ls', ['-A', `${targetPath}2`])).stdout).to.equal('');
      await unpublish();
      await unpublish(`${targetPath}2`);
      await unstage();
      expect(mountsOf(folder)).to.deep.equal([]);
    });
  });

  it('takes custody back when it is started anew, and holds the mount again', async () => {
    const first = await spawnServer(socketPath(kubeletDir, 'pod-1'), volumeId);
    started.push(first);
    await stage();
    await publish();
    custodian.close();
    expect(devicesOpen()).to.equal(0);
    await custodian.recover([volumeId], () => true, AbortSignal.timeout(5_000));
    await killed(first);
    serve();
    expect((await run('ls', ['-A', targetPath])).stdout).to.equal('');
  });

  it('mounts anew what died with its server while there was no custodian', async () => {
    const first = await spawnServer(socketPath(kubeletDir, 'pod-1'), volumeId);
    started.push(first);
    await stage();
    custodian.close();
    await killed(first);
    expect(await stats(stagingTargetPath)).to.have.nested.property('volumeCondition.abnormal', true);
    serve();
    await publish();
    expect((await run('ls', ['-A', targetPath])).stdout).to.equal('');
  });

  it('is ABORTED while another call about the volume is under way', async () => {
    serve();
    const first = stage();
    expect(await failureOf(stage())).to.include({ code: 'ABORTED' });
    await first;
  });

  it('unmounts only when nobody uses the volume, and names who does', async () => {
    serve();
    await stage();
    await publish();
    // Not the `cwd` of spawn, in which this process would wait for the directory that it serves.
    const child = spawn('sh', ['-c', 'cd "$1" && echo there && exec sleep 60', 'sh', targetPath]);
    started.push(child);
    await once(child.stdout, 'data');
    await until(() => readFileSync(`/proc/${child.pid}/comm`, 'utf8') === 'sleep\n');
    const error = await failureOf(unpublish());
    expect(error).to.include({ code: 'FAILED_PRECONDITION' });
    expect(error.message).to.equal(`${targetPath} is in use by sleep (${child.pid}); end it, then unmount again`);
    expect(mountAt(targetPath)).to.include({ source: volumeId });
  });

  it('measures a published volume', async () => {
    serve();
    await stage();
    await publish();
    expect(await stats(targetPath)).to.deep.equal({
      usage: [
        { unit: 'BYTES', total: '4096000', available: '1228800', used: '2457600' },
        { unit: 'INODES', total: '100', available: '50', used: '50' },
      ],
      volumeCondition: { abnormal: false, message: 'the mount answers' },
    });
    expect(await failureOf(stats(folder))).to.include({ code: 'NOT_FOUND' });
    expect(await failureOf(stats('no/path'))).to.include({ code: 'NOT_FOUND' });
  });

  it('tells who and where it is', async () => {
    const info = { nodeId: nodeName, accessibleTopology: { segments: { 'kubernetes.io/hostname': nodeName } } };
    expect(await node.NodeGetInfo({}, context())).to.deep.equal(info);
  });

  describe('says what is wrong', () => {
    it('not attached', async () => {
      attachment = undefined;
      const error = await failureOf(stage());
      expect(error).to.include({ code: 'NOT_FOUND' });
      expect(error.message).to.equal(`volume ${volumeId} is not attached to node node-1; publish it to the node first`);
    });

    it('server pod not scheduled, with the reason that the attachment tells', async () => {
      const message = 'branch b1: claim union-csi/uv-1-b1 is pending';
      const condition = { type: 'Ready', status: 'False', reason: 'Pending', message, lastTransitionTime: '' } as const;
      attachment = { ...running('pod-1'), status: { phase: 'Pending', conditions: [condition] } };
      const error = await failureOf(stage());
      expect(error).to.include({ code: 'UNAVAILABLE' });
      expect(error.message).to.equal(`volume ${volumeId} is not served yet: ${message}`);
    });

    it('server pod runs without a socket', async () => {
      const error = await failureOf(stage());
      expect(error).to.include({ code: 'UNAVAILABLE' });
      expect(error.message).to.include('server pod union-csi/server-1 runs, but nobody answers at');
      expect(mountsOf(folder)).to.deep.equal([]);
    });

    it('branches cannot be opened', async () => {
      server = startServer(socketPath(kubeletDir, 'pod-1'), volumeId, 'branch b1 is gone');
      const error = await failureOf(stage());
      expect(error).to.include({ code: 'UNAVAILABLE' });
      expect(error.message).to.include('cannot open its branches: branch b1 is gone');
    });

    it('a server of another volume', async () => {
      server = startServer(socketPath(kubeletDir, 'pod-1'), 'uv-2');
      expect(await failureOf(stage())).to.include({ code: 'FAILED_PRECONDITION' });
    });

    it('a volume that is staged elsewhere, and leaves nothing mounted', async () => {
      serve();
      await stage();
      const second = await failureOf(stage(`${stagingTargetPath}2`));
      expect(second).to.include({ code: 'FAILED_PRECONDITION' });
      expect(second.message).to.equal(`volume ${volumeId} is served already; unmount it first`);
      expect(mountsOf(folder)).to.deep.equal([stagingTargetPath]);
    });

    it('something else mounted at the staging path', async () => {
      serve();
      mkdirSync(stagingTargetPath);
      await run('mount', ['-t', 'tmpfs', 'other', stagingTargetPath]);
      for (const call of [stage, unstage, publish]) {
        const error = await failureOf(call());
        expect(error).to.include({ code: 'FAILED_PRECONDITION' });
        expect(error.message).to.include(
          `${stagingTargetPath} is not volume ${volumeId}'s: other of type tmpfs is mounted`,
        );
      }
    });

    it('publish before stage', async () => {
      serve();
      mkdirSync(stagingTargetPath);
      const error = await failureOf(publish());
      expect(error).to.include({ code: 'FAILED_PRECONDITION' });
      expect(error.message).to.include('is not mounted at the staging path');
      expect(existsSync(targetPath)).to.equal(false);
    });

    it('a target that is a file', async () => {
      serve();
      await stage();
      mkdirSync(join(targetPath, '..'), { recursive: true });
      writeFileSync(targetPath, 'precious');
      const error = await failureOf(publish());
      expect(error).to.include({ code: 'FAILED_PRECONDITION' });
      expect(error.message).to.include(`target path ${targetPath} cannot be mounted on: it is not a directory`);
    });

    it('a target that is not empty, and never deletes what is in it', async () => {
      serve();
      await stage();
      mkdirSync(targetPath, { recursive: true });
      writeFileSync(join(targetPath, 'precious'), 'data');
      expect((await failureOf(publish())).message).to.include(`target path ${targetPath} is not empty (precious)`);
      expect((await failureOf(unpublish())).message).to.include('it holds files of the node itself');
      expect(readdirSync(targetPath)).to.deep.equal(['precious']);
    });

    it('arguments that are missing or no paths', async () => {
      expect((await failureOf(publish({ volumeId: '' }))).message).to.equal('volume_id is missing');
      expect((await failureOf(publish({ targetPath: '' }))).message).to.equal('target_path is missing');
      expect((await failureOf(publish({ targetPath: '/a/../b' }))).message).to.include('not an absolute path');
      expect((await failureOf(publish({ volumeCapability: null }))).message).to.equal('volume_capability is missing');
      const block = { accessMode: null, accessType: 'block', block: {} } as const;
      expect((await failureOf(publish({ volumeCapability: block }))).message).to.include('cannot be a block device');
    });
  });
});

function running(podUid: string): UnionAttachment {
  return {
    apiVersion: 'union.csi.dev/v1alpha1',
    kind: 'UnionAttachment',
    metadata: { name: attachmentNameOf(volumeId, nodeName) },
    spec: { volume: volumeId, node: nodeName, readOnly: false },
    status: { phase: 'Running', pod: { namespace: 'union-csi', name: 'server-1', uid: podUid } },
  };
}

function socketPath(kubeletDir: string, podUid: string): string {
  return join(kubeletDir, 'pods', podUid, 'volumes', 'kubernetes.io~empty-dir', 'run', 'server.sock');
}

function capability(
  mode: 'SINGLE_NODE_WRITER' | 'SINGLE_NODE_SINGLE_WRITER' = 'SINGLE_NODE_WRITER',
): VolumeCapability__Output {
  return { accessMode: { mode }, accessType: 'mount', mount: { fsType: '', mountFlags: [], volumeMountGroup: '' } };
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

/** Waits a twentieth of the time, and takes a wait for twenty times as long. */
function impatientClock() {
  const start = systemClock.now();
  return {
    now: () => start + (systemClock.now() - start) * 20,
    sleep: (delayMs: number, signal?: AbortSignal) => systemClock.sleep(delayMs / 20, signal),
  };
}

function mountsOf(folder: string): readonly string[] {
  return readMountInfo()
    .map(({ mountpoint }) => mountpoint)
    .filter((path) => path.startsWith(folder));
}

/** Not by a program that we would wait for: we may be the ones who answer it. */
async function detachAll(folder: string): Promise<void> {
  for (const path of mountsOf(folder).toReversed()) await unmountOnce(path, { lazy: true });
}

async function failureOf(promise: Promise<unknown>): Promise<UnionError> {
  return await promise.then(
    (value) => expect.fail(`succeeded with ${JSON.stringify(value)}`),
    (error: unknown) => error as UnionError,
  );
}
