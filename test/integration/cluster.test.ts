/** The embedded cluster from claim to pod and back, through a CSI driver of the test's own; real mounts and processes. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { expect } from 'chai';
import { silentLogger } from '../../src/base/logger.ts';
import {
  events,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  storageClasses,
  volumeAttachments,
} from '../../src/embedded/api-server/kinds.ts';
import { type Cluster, startCluster } from '../../src/embedded/cluster.ts';
import { removeCluster } from '../../src/embedded/remove-cluster.ts';
import type { Pod } from '../../src/protocol/objects.ts';
import { eventually } from '../support/eventually.ts';
import { FakeCsiDriver, Refusal } from '../support/fake-csi-driver.ts';
import { expectNoLeaks } from '../support/leaks.ts';
import { fuse, loop, needs } from '../support/skip.ts';

const namespace = 'default';

function claim(cluster: Cluster, name: string, storageClassName: string, storage = '16Mi'): void {
  cluster.store.create(persistentVolumeClaims, {
    metadata: { namespace, name },
    spec: { storageClassName, accessModes: ['ReadWriteOnce'], resources: { requests: { storage } } },
  });
}

function pod(cluster: Cluster, name: string, script: string, claimName: string, more: object = {}): void {
  cluster.store.create(pods, {
    metadata: { namespace, name },
    spec: {
      containers: [
        {
          name: 'main',
          image: 'host',
          command: ['sh', '-c', script],
          volumeMounts: [{ name: 'data', mountPath: '/data' }],
        },
      ],
      volumes: [{ name: 'data', persistentVolumeClaim: { claimName } }],
      ...more,
    },
  });
}

function get(cluster: Cluster, name: string): Pod | undefined {
  return cluster.store.get(pods, { namespace, name });
}

const untilTold = 'trap "exit 0" TERM; while :; do sleep 1000 & wait; done';

async function phase(cluster: Cluster, name: string, wanted: string): Promise<Pod> {
  return await eventually(`pod ${name} to be ${wanted}`, () => {
    const found = get(cluster, name);
    return found?.status?.phase === wanted && found;
  });
}

function createClass(cluster: Cluster, name: string, provisioner: string, more: object = {}): void {
  cluster.store.create(storageClasses, {
    metadata: { name },
    provisioner,
    volumeBindingMode: 'WaitForFirstConsumer',
    allowVolumeExpansion: true,
    ...more,
  });
}

describe('embedded cluster', () => {
  let dir: string;
  let driver: FakeCsiDriver;
  let cluster: Cluster;

  async function start(): Promise<void> {
    cluster = await startCluster({
      ...{ dir, nodes: 2, port: 0, log: silentLogger },
      drivers: ({ clusterDir }) => [
        {
          ...{ name: 'fake.example.com', attachRequired: true, commands: [] },
          controllerSocket: join(clusterDir, 'run', 'fake.sock'),
        },
      ],
    });
    await driver.startController(join(dir, 'run', 'fake.sock'));
    for (const node of ['node-1', 'node-2']) {
      const kubelet = join(dir, 'nodes', node, 'kubelet');
      await eventually('the registry', () => readdirSync(kubelet).includes('plugins_registry'));
      await driver.startNode(join(kubelet, 'fake.sock'), join(kubelet, 'plugins_registry', 'fake-reg.sock'), node);
    }
  }

  before(function () {
    needs(this, fuse, loop);
  });

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'uc-'));
    driver = new FakeCsiDriver(join(dir, 'fake'));
    await start();
  });

  afterEach(async () => {
    const problems = await cluster.close();
    await driver.close();
    await removeCluster(dir);
    rmSync(dir, { recursive: true, force: true });
    expect(problems).to.deep.equal([]);
    await expectNoLeaks(dir);
  });

  it('brings a claim to a writing pod through a CSI driver, and takes everything away again', async () => {
    createClass(cluster, 'fake', driver.name, { parameters: { colour: 'red', 'csi.storage.k8s.io/fstype': 'ext4' } });
    claim(cluster, 'data', 'fake');
    pod(cluster, 'writer', `echo "$POD on $NODE" > /data/file; ${untilTold}`, 'data', {
      containers: [
        {
          ...{ name: 'main', image: 'host' },
          command: ['sh', '-c', `echo "$POD on $NODE" > /data/file; echo said; ${untilTold}`],
          env: [
            { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
            { name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
          ],
          volumeMounts: [{ name: 'data', mountPath: '/data' }],
        },
      ],
    });
    const running = await phase(cluster, 'writer', 'Running');
    const bound = cluster.store.get(persistentVolumeClaims, { namespace, name: 'data' })!;
    const volume = cluster.store.get(persistentVolumes, { name: bound.spec!.volumeName! })!;
    const file = join(dir, 'fake', volume.spec!.csi!.volumeHandle, 'file');
    const node = running.spec!.nodeName!;
    await eventually('the file', () => {
      try {
        return readFileSync(file, 'utf8') === `writer on ${node}\n`;
      } catch {
        return false;
      }
    });
    expect(bound.status?.phase).to.equal('Bound');
    expect(volume.spec?.nodeAffinity?.required?.nodeSelectorTerms[0]?.matchExpressions).to.deep.equal([
      { key: 'kubernetes.io/hostname', operator: 'In', values: [node] },
    ]);
    const [create] = driver.calls;
    expect(create?.method).to.equal('createVolume');
    expect(create?.request.name).to.equal(`pvc-${bound.metadata.uid}`);
    expect(create?.request.parameters).to.deep.equal({
      colour: 'red',
      'csi.storage.k8s.io/pvc/name': 'data',
      'csi.storage.k8s.io/pvc/namespace': 'default',
      'csi.storage.k8s.io/pv/name': `pvc-${bound.metadata.uid}`,
    });
    const stage = driver.calls.find(({ method }) => method === 'nodeStageVolume');
    expect(stage?.request.publishContext).to.deep.equal({ lane: '7' });
    expect(stage?.request.volumeContext).to.deep.equal({ made: 'here' });

    cluster.store.delete(pods, { namespace, name: 'writer' });
    cluster.store.delete(persistentVolumeClaims, { namespace, name: 'data' });
    await eventually('the volume to go', () => driver.volumes.size === 0 && driver.directories().length === 0);
    await eventually('its objects to go', () => cluster.store.list(persistentVolumes).length === 0);
    expect(get(cluster, 'writer')).to.equal(undefined);
    expect(cluster.store.list(volumeAttachments)).to.deep.equal([]);
    expect(driver.methods()).to.deep.equal([
      ...['createVolume', 'controllerPublishVolume', 'nodeStageVolume', 'nodePublishVolume'],
      ...['nodeUnpublishVolume', 'nodeUnstageVolume', 'controllerUnpublishVolume', 'deleteVolume'],
    ]);
  });

  it('tries again what a driver refuses for now, and says why', async () => {
    const refused = new Map<string, number>();
    driver.interfere = (method) => {
      const times = (refused.get(method) ?? 0) + 1;
      refused.set(method, times);
      const code = method === 'createVolume' ? status.RESOURCE_EXHAUSTED : status.ABORTED;
      if (times === 1 && method.endsWith('Volume')) throw new Refusal(code, `not now: ${method}`);
    };
    createClass(cluster, 'fake', driver.name);
    claim(cluster, 'data', 'fake');
    pod(cluster, 'writer', untilTold, 'data');
    const running = await phase(cluster, 'writer', 'Running');
    expect(running.spec?.nodeName).to.equal('node-2', 'node-1 had no space');
    const messages = cluster.store.list(events).map(({ reason, message }) => `${reason}: ${message}`);
    expect(messages.join('\n'))
      .to.include('ProvisioningFailed: failed to provision volume with StorageClass "fake"')
      .and.include('not now: createVolume')
      .and.include('FailedMount: not now: nodeStageVolume');
    cluster.store.delete(pods, { namespace, name: 'writer' });
    cluster.store.delete(persistentVolumeClaims, { namespace, name: 'data' });
    await eventually(
      'everything to go',
      () => driver.volumes.size === 0 && cluster.store.list(persistentVolumes).length === 0,
    );
  });

  it('deletes the volume of a claim that was deleted while it was being made', async () => {
    let fail = true;
    driver.interfere = (method) => {
      if (fail && method === 'createVolume') throw new Refusal(status.ABORTED, 'being made');
    };
    createClass(cluster, 'fake', driver.name, { volumeBindingMode: 'Immediate' });
    claim(cluster, 'data', 'fake');
    await eventually('a first call', () => driver.methods().includes('createVolume'));
    cluster.store.delete(persistentVolumeClaims, { namespace, name: 'data' });
    fail = false;
    await eventually('the claim to go', () => !cluster.store.get(persistentVolumeClaims, { namespace, name: 'data' }));
    expect(driver.methods()).to.include('deleteVolume');
    expect(driver.directories()).to.deep.equal([]);
  });

  it('grows a volume in the controller and on the node', async () => {
    createClass(cluster, 'fake', driver.name);
    claim(cluster, 'data', 'fake');
    pod(cluster, 'writer', untilTold, 'data');
    await phase(cluster, 'writer', 'Running');
    cluster.store.modify(persistentVolumeClaims, { namespace, name: 'data' }, (fresh) => {
      fresh.spec!.resources!.requests = { storage: '32Mi' };
      return fresh;
    });
    await eventually('the new size', () => {
      const found = cluster.store.get(persistentVolumeClaims, { namespace, name: 'data' });
      return found?.status?.capacity?.storage === '32Mi' && !found.status.conditions?.length;
    });
    expect(driver.methods()).to.include.members(['controllerExpandVolume', 'nodeExpandVolume']);
  });

  it('goes on where it was when it was stopped with its pods running', async () => {
    createClass(cluster, 'fake', driver.name);
    claim(cluster, 'data', 'fake');
    pod(cluster, 'writer', `echo begun >> /data/log; ${untilTold}`, 'data');
    const before = await phase(cluster, 'writer', 'Running');
    const container = before.status?.containerStatuses?.[0]?.containerID;
    expect(await cluster.close({ keep: true })).to.deep.equal([]);
    await driver.close();
    await start();
    cluster.store.delete(pods, { namespace, name: 'writer' });
    const last = await eventually('the pod to end', () => {
      const found = get(cluster, 'writer');
      expect(found?.status?.containerStatuses?.[0]?.containerID ?? container).to.equal(container);
      return found === undefined && 'gone';
    });
    expect(last).to.equal('gone');
    const [volume] = driver.directories();
    expect(readFileSync(join(dir, 'fake', volume!, 'log'), 'utf8')).to.equal('begun\n');
  });

  it('runs containers to their end: exit codes, restarts, logs', async () => {
    createClass(cluster, 'plain', 'directory.embedded.union.csi.dev');
    claim(cluster, 'data', 'plain');
    const script = 'echo run >> /data/log; test "$(wc -l < /data/log)" -ge 3 || exit 7';
    pod(cluster, 'third-time', script, 'data', { restartPolicy: 'OnFailure' });
    const done = await phase(cluster, 'third-time', 'Succeeded');
    expect(done.status?.containerStatuses?.[0]).to.include({ restartCount: 2 });
    pod(cluster, 'once', 'echo to stdout; echo to stderr >&2; exit 7', 'data', { restartPolicy: 'Never' });
    const failed = await phase(cluster, 'once', 'Failed');
    expect(failed.status?.containerStatuses?.[0]?.state?.terminated?.exitCode).to.equal(7);
    const log = await fetch(`${cluster.url}/api/v1/namespaces/default/pods/once/log`);
    expect(await log.text()).to.equal('to stdout\nto stderr\n');
  });

  it('says what is wrong with a pod that it cannot run', async () => {
    createClass(cluster, 'plain', 'directory.embedded.union.csi.dev');
    claim(cluster, 'data', 'plain');
    pod(cluster, 'empty', '', 'data', { containers: [{ name: 'main', image: 'nginx' }] });
    await eventually('the reason', () => {
      const waiting = get(cluster, 'empty')?.status?.containerStatuses?.[0]?.state?.waiting;
      return waiting?.message?.includes('neither command nor args');
    });
  });

  it('has real sizes on loop volumes: ENOSPC in a pod, and growth', async () => {
    createClass(cluster, 'loop', 'loop.embedded.union.csi.dev');
    claim(cluster, 'data', 'loop', '8Mi');
    const fill = 'dd if=/dev/zero of=/data/big bs=1M count=12 2>&1 || exit 28; exit 0';
    pod(cluster, 'first', fill, 'data', { restartPolicy: 'Never' });
    const full = await phase(cluster, 'first', 'Failed');
    expect(full.status?.containerStatuses?.[0]?.state?.terminated?.exitCode).to.equal(28);
    cluster.store.modify(persistentVolumeClaims, { namespace, name: 'data' }, (fresh) => {
      fresh.spec!.resources!.requests = { storage: '64Mi' };
      return fresh;
    });
    await eventually('the image to grow', () => {
      const found = cluster.store.get(persistentVolumeClaims, { namespace, name: 'data' })!;
      const pending = found.status?.conditions?.some(({ type }) => type === 'FileSystemResizePending');
      return pending || found.status?.capacity?.storage === '64Mi';
    });
    cluster.store.delete(pods, { namespace, name: 'first' });
    pod(cluster, 'second', fill, 'data', { restartPolicy: 'Never' });
    await phase(cluster, 'second', 'Succeeded');
    await eventually('the claim to know', () => {
      return (
        cluster.store.get(persistentVolumeClaims, { namespace, name: 'data' })?.status?.capacity?.storage === '64Mi'
      );
    });
  });

  it('refuses a second cluster in its directory, and names the first', async () => {
    const second = startCluster({ dir, nodes: 1, port: 0, log: silentLogger });
    const error = await second.then(
      () => undefined,
      (thrown: Error) => thrown,
    );
    expect(error?.message).to.include(`a cluster runs in ${dir} already, as process ${process.pid}`);
  });
});
