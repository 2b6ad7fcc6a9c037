/**
 * Volumes of volumeMode Block in the embedded cluster: pods that have the bare device, and the calls of a kubelet in any order. Real
 * processes, FUSE files and loop devices.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { silentLogger } from '../../src/base/logger.ts';
import {
  blockPools,
  blockVolumes,
  persistentVolumeClaims,
  persistentVolumes,
  volumeAttachments,
} from '../../src/embedded/api-server/kinds.ts';
import { type Cluster, startCluster } from '../../src/embedded/cluster.ts';
import { removeCluster } from '../../src/embedded/remove-cluster.ts';
import { blockDriver } from '../../src/embedded/union-driver.ts';
import { ApiClient } from '../support/api-client.ts';
import { ClusterUser } from '../support/cluster-user.ts';
import { type Answer, CsiCalls } from '../support/csi-calls.ts';
import { eventually } from '../support/eventually.ts';
import { expectNoLeaks, findLeaks } from '../support/leaks.ts';
import { fuse, loop, needs, program } from '../support/skip.ts';

const LIMIT_MS = 60_000;
const MEBIBYTE = 1024 ** 2;
/** A MiB past what is looked at of a volume that may be blank; half of it is in the page cache of the device when the pod ends. */
const WRITE = `head -c 1048576 /dev/urandom >/tmp/sent
  dd if=/tmp/sent of=/dev/data bs=4096 count=128 seek=4096 oflag=direct status=none
  dd if=/tmp/sent of=/dev/data bs=4096 skip=128 seek=4224 conv=notrunc status=none
  sha256sum </tmp/sent`;
const SUM = 'dd if=/dev/data bs=4096 count=256 skip=4096 status=none | sha256sum';

describe('block.union.csi.dev with volumeMode Block', function () {
  this.timeout(180_000);
  let dir: string;
  let cluster: Cluster;
  let user: ClusterUser;

  before(async function () {
    needs(this, fuse, loop);
    dir = mkdtempSync(join(tmpdir(), 'uc-'));
    cluster = await startCluster({
      ...{ dir, nodes: 2, port: 0, log: silentLogger },
      drivers: (places) => [blockDriver(places)],
    });
    user = new ClusterUser(new ApiClient(() => cluster.url));
    const isThere = async () => (await user.api.list(blockPools)).filter(({ status }) => status).length === 2;
    await eventually('both pools', isThere, LIMIT_MS);
    await eventually('the controller', () => existsSync(controllerSocket()), LIMIT_MS);
    await user.createClass('one', { replicas: '1' }, { provisioner: 'block.union.csi.dev' });
  });

  after(async () => {
    if (cluster === undefined) return;
    // By its file's path it is told no more once that is unmounted.
    const [device] = findLeaks(dir).loops.map((line) => line.split(' ')[0]);
    const problems = await cluster.close();
    await removeCluster(dir);
    rmSync(dir, { recursive: true, force: true });
    expect(problems).to.deep.equal([]);
    await expectNoLeaks(dir);
    if (device !== undefined) expect(findLeaks(`${device} /`).loops).to.not.include(`${device} /`);
  });

  const socketOf = (node: string) => join(dir, 'nodes', node, 'kubelet/plugins/block.union.csi.dev/csi.sock');
  const controllerSocket = () => join(dir, 'run/block.sock');

  it('gives pods the device, which keeps what they write, grows, and is never taken for a blank disk', async () => {
    await user.createClaim('raw', 'one', { volumeMode: 'Block' });
    const { spec } = await user.bound('raw');
    const sent = await user.runOnDevice('writer', 'raw', { script: WRITE });
    await user.deletePod('writer');
    await eventually('the device to go', () => findLeaks(dir).loops.length === 0, LIMIT_MS);

    // Somebody who may only look, on another node.
    const [volume] = await user.api.list(blockVolumes);
    const node = ['node-1', 'node-2'].find((name) => name !== volume!.spec.members[0]);
    const script = `${SUM}; dd if=/dev/zero of=/dev/data bs=4096 count=1 oflag=direct status=none 2>&1 || echo refused`;
    const looked = await user.runOnDevice('reader', 'raw', { script, readOnly: true, node });
    expect(looked).to.match(new RegExp(`^${sent}.*\nrefused\n$`));
    expect(findLeaks(dir).loops).to.have.length(2);
    await user.deletePod('reader');
    await eventually('both devices to go', () => findLeaks(dir).loops.length === 0, LIMIT_MS);

    const grown = user.runOnDevice('grown', 'raw', {
      script: `until [ $(blockdev --getsize64 /dev/data) = ${128 * MEBIBYTE} ]; do sleep 0.05; done; ${SUM}`,
    });
    await user.running('grown');
    await user.resizeClaim('raw', '128Mi');
    expect(await grown).to.equal(sent);
    await user.deletePod('grown');
    expect((await user.api.list(blockVolumes))[0]!.status!.filesystem).to.equal(undefined);

    // Both ends of it are zeros, and it has no signature.
    await claimAsFilesystem(spec!.volumeName!);
    await user.createPod('mistaken', 'mistaken');
    await user.told('mistaken', 'was made with volumeMode Block and cannot be used with Filesystem');
    await user.deletePod('mistaken');
    // Without its PersistentVolume nobody can detach it.
    await eventually(
      'nothing to be attached',
      async () => (await user.api.list(volumeAttachments)).length === 0,
      LIMIT_MS,
    );
    await user.api.delete(persistentVolumeClaims, { namespace: 'default', name: 'mistaken' });
    await user.api.delete(persistentVolumes, { name: 'again' });
    await user.deleteClaim('raw');
    expect(await user.api.list(blockVolumes)).to.deep.equal([]);
  });

  /** Another PersistentVolume for the volume, with another mode, and claim `mistaken` on it. */
  async function claimAsFilesystem(persistentVolume: string): Promise<void> {
    const { spec } = (await user.api.get(persistentVolumes, { name: persistentVolume }))!;
    const { csi, capacity, accessModes } = spec!;
    const again = { csi: csi!, capacity: capacity!, accessModes: accessModes!, storageClassName: 'none' };
    await user.api.create(persistentVolumes, { metadata: { name: 'again' }, spec: again });
    await user.createClaim('mistaken', 'none', { volumeName: 'again' });
    await user.bound('mistaken');
  }

  it('answers a kubelet that repeats itself, and one that is wrong', async () => {
    const calls = new CsiCalls({ controller: controllerSocket(), node: socketOf('node-1') });
    const use = (mode: string) => ({ block: {}, accessMode: { mode } });
    const shared = use('SINGLE_NODE_MULTI_WRITER');
    const mount = { mount: {}, accessMode: { mode: 'SINGLE_NODE_MULTI_WRITER' } };
    const base = join(dir, 'by-hand');
    const [stagingTargetPath, a, b, c] = ['staging', 'a', 'b', 'c'].map((name) => join(base, name));
    mkdirSync(stagingTargetPath!, { recursive: true });
    const refused = async (method: string, request: object, code: number, message: RegExp) => {
      const error = await calls.send(method, request).then(
        () => undefined,
        (reason) => reason,
      );
      expect(error?.code, `${method}: ${error?.message}`).to.equal(code);
      expect(error.message).to.match(message);
    };
    const creation = {
      name: 'by-hand',
      capacityRange: { requiredBytes: 32 * MEBIBYTE },
      parameters: { replicas: '1' },
    };
    try {
      const { INVALID_ARGUMENT, ALREADY_EXISTS, FAILED_PRECONDITION, NOT_FOUND } = status;
      const both = { ...creation, volumeCapabilities: [shared, mount] };
      await refused('CreateVolume', both, INVALID_ARGUMENT, /either a filesystem or a bare device/);
      const many = { ...creation, volumeCapabilities: [use('MULTI_NODE_MULTI_WRITER')] };
      await refused('CreateVolume', many, INVALID_ARGUMENT, /one writer on one node/);
      const { volume } = await calls.send('CreateVolume', { ...creation, volumeCapabilities: [shared] });
      const { volumeId } = volume as { volumeId: string };
      const otherwise = { ...creation, volumeCapabilities: [mount] };
      await refused('CreateVolume', otherwise, ALREADY_EXISTS, /exists with .*volumeMode Block/);
      const validated = await calls.send('ValidateVolumeCapabilities', { volumeId, volumeCapabilities: [mount] });
      expect(validated.confirmed).to.equal(null);
      expect(validated.message).to.match(/was made with volumeMode Block/);

      const publish = { volumeId, nodeId: 'node-1', volumeCapability: shared };
      const filesystem = { ...publish, volumeCapability: mount };
      await refused('ControllerPublishVolume', filesystem, FAILED_PRECONDITION, /made with volumeMode Block/);
      await calls.send('ControllerPublishVolume', publish);
      const stage = { volumeId, stagingTargetPath, volumeCapability: shared };
      const at = (targetPath: string | undefined, more: object = {}) => ({ ...stage, targetPath, ...more });
      await refused('NodePublishVolume', at(a), FAILED_PRECONDITION, /not staged/);
      await refused('NodeStageVolume', { ...stage, volumeCapability: mount }, FAILED_PRECONDITION, /volumeMode Block/);
      for (let count = 0; count < 2; count++) await calls.send('NodeStageVolume', stage);
      expect(findLeaks(volumeId).loops).to.have.length(1);

      for (let count = 0; count < 2; count++) await calls.send('NodePublishVolume', at(a));
      await refused('NodePublishVolume', at(a, { readonly: true }), ALREADY_EXISTS, /published at .* in another way/);
      await refused('NodePublishVolume', at(b, { volumeCapability: mount }), FAILED_PRECONDITION, /not mounted at the/);
      const alone = { volumeCapability: use('SINGLE_NODE_SINGLE_WRITER') };
      await refused(
        'NodePublishVolume',
        at(b, alone),
        FAILED_PRECONDITION,
        /allows one pod and is published at .*\/a;/,
      );
      writeFileSync(b!, ''); // as a power failure leaves it
      await calls.send('NodePublishVolume', at(b, { readonly: true }));
      writeFileSync(c!, 'somebody’s');
      await refused('NodePublishVolume', at(c), FAILED_PRECONDITION, /it is not an empty file/);
      await refused('NodeUnpublishVolume', { volumeId, targetPath: c }, FAILED_PRECONDITION, /is not ours/);
      expect(readFileSync(c!, 'utf8')).to.equal('somebody’s');

      const bytesAt = async (volumePath: string | undefined) => {
        const { usage } = (await calls.send('NodeGetVolumeStats', { volumeId, volumePath })) as { usage: Answer[] };
        expect(usage).to.have.length(1);
        return usage[0]!.total;
      };
      expect([await bytesAt(a), await bytesAt(b)]).to.deep.equal(Array(2).fill(String(32 * MEBIBYTE)));
      // Kubelet asks at a place to which it has bound what we gave it.
      const map = join(base, 'map');
      writeFileSync(map, '');
      await promisify(execFile)('mount', ['--no-mtab', '--bind', a!, map]);
      expect(await bytesAt(map)).to.equal(String(32 * MEBIBYTE));
      await promisify(execFile)('umount', ['--no-mtab', map]);
      await refused('NodeGetVolumeStats', { volumeId, volumePath: c }, NOT_FOUND, /not mounted at/);
      const capacityRange = { requiredBytes: 64 * MEBIBYTE };
      await calls.send('ControllerExpandVolume', { volumeId, capacityRange, volumeCapability: shared });
      await refused('NodeExpandVolume', { volumeId, volumePath: c }, NOT_FOUND, /not mounted at/);
      const expanded = await calls.send('NodeExpandVolume', { volumeId, volumePath: a, volumeCapability: shared });
      expect(expanded.capacityBytes).to.equal(String(64 * MEBIBYTE));
      expect([await bytesAt(a), await bytesAt(b)]).to.deep.equal(Array(2).fill(String(64 * MEBIBYTE)));

      for (const targetPath of [a, b, a]) await calls.send('NodeUnpublishVolume', { volumeId, targetPath });
      expect([a, b].map((path) => existsSync(path!))).to.deep.equal([false, false]);
      for (let count = 0; count < 2; count++) await calls.send('NodeUnstageVolume', { volumeId, stagingTargetPath });
      expect(findLeaks(volumeId)).to.deep.include({ loops: [], mounts: [] });
      await calls.send('ControllerUnpublishVolume', { volumeId, nodeId: 'node-1' });
      await calls.send('DeleteVolume', { volumeId });
    } finally {
      calls.close();
    }
  });

  it('keeps the device of a filesystem to itself', async () => {
    const calls = new CsiCalls({ controller: controllerSocket(), node: socketOf('node-1') });
    const accessMode = { mode: 'SINGLE_NODE_MULTI_WRITER' };
    const volumeCapability = { mount: {}, accessMode };
    const [stagingTargetPath, targetPath] = ['tree', 'stolen'].map((name) => join(dir, name));
    try {
      const { volume } = await calls.send('CreateVolume', {
        ...{ name: 'tree', parameters: { replicas: '1' }, volumeCapabilities: [volumeCapability] },
        capacityRange: { requiredBytes: 32 * MEBIBYTE },
      });
      const { volumeId } = volume as { volumeId: string };
      await calls.send('ControllerPublishVolume', { volumeId, nodeId: 'node-1', volumeCapability });
      await calls.send('NodeStageVolume', { volumeId, stagingTargetPath, volumeCapability });
      const stolen = { volumeId, stagingTargetPath: dir, targetPath, volumeCapability: { block: {}, accessMode } };
      const error = await calls.send('NodePublishVolume', stolen).then(
        () => undefined,
        (reason) => reason,
      );
      expect(error?.message).to.match(/was made with volumeMode Filesystem and cannot be used with Block/);
      expect(existsSync(targetPath!)).to.equal(false);
      // It stays attached: the end of the cluster is the end of it.
    } finally {
      calls.close();
    }
  });

  it('passes csi-sanity', async function () {
    needs(this, program('csi-sanity'));
    const parameters = join(dir, 'parameters.yaml');
    writeFileSync(parameters, 'replicas: "1"\n');
    const child = spawn('csi-sanity', [
      `-csi.endpoint=unix://${socketOf('node-1')}`,
      `-csi.controllerendpoint=unix://${controllerSocket()}`,
      `-csi.testvolumeparameters=${parameters}`,
      `-csi.mountdir=${join(dir, 'mount')}`,
      `-csi.stagingdir=${join(dir, 'staging')}`,
      ...['-csi.testvolumeaccesstype=block', '-csi.testvolumesize=33554432', '-csi.testvolumeexpandsize=67108864'],
      '-ginkgo.no-color',
    ]);
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    const [code] = await once(child, 'exit');
    expect(code, output).to.equal(0);
    expect(Number(/(\d+) Passed \| 0 Failed/.exec(output)?.[1])).to.be.at.least(53);
  });
});
