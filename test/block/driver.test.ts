/**
 * The block engine as a driver of the embedded cluster, with three simulated nodes that speak TLS alone: from claims to pods that write,
 * while what serves them is killed. Real processes, FUSE files, loop devices and filesystems.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { messageOf } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { blockPools, blockVolumes, nodes } from '../../src/embedded/api-server/kinds.ts';
import { recordedChildren } from '../../src/embedded/children.ts';
import { type Cluster, startCluster } from '../../src/embedded/cluster.ts';
import { removeCluster } from '../../src/embedded/remove-cluster.ts';
import { blockDriver, type DriverPlaces, type ExternalDriver, unionDriver } from '../../src/embedded/union-driver.ts';
import { LEAVE_SIGNAL } from '../../src/host/block/attach-processes.ts';
import { errnoCode } from '../../src/host/syscalls.ts';
import { makeCertificates } from '../../src/main/block-ca.ts';
import type { BlockVolume } from '../../src/protocol/block-resources.ts';
import { ApiClient } from '../support/api-client.ts';
import { ClusterUser } from '../support/cluster-user.ts';
import { eventually } from '../support/eventually.ts';
import { expectNoLeaks, findLeaks, processesWith } from '../support/leaks.ts';
import { fuse, loop, type Need, needs, program } from '../support/skip.ts';

const LIMIT_MS = 60_000;
/** Writes numbers one after the other, each durable before it is named. */
const COUNT = 'i=0; while :; do i=$((i+1)); echo $i > new; sync new; mv new n; sync .; done & echo counting';

/** The same, and says what the file of each number is to contain. */
const CHECKED_LOAD =
  'i=0; while :; do i=$((i+1)); head -c 20000 /dev/urandom > f$i; sha256sum f$i >> sums; sync f$i sums; echo $i > n; done & echo writing';

describe('block.union.csi.dev in the embedded cluster', function () {
  this.timeout(180_000);
  let dir: string;
  let cluster: Cluster;
  let user: ClusterUser;

  before(async function () {
    needs(this, fuse, loop);
    dir = mkdtempSync(join(tmpdir(), 'uc-'));
    const authority = join(dir, 'tls');
    await makeCertificates(authority, ['node-1', 'node-2', 'node-3']);
    const drivers = (places: DriverPlaces) => [
      unionDriver(places),
      withKeepers(withTls(blockDriver(places), authority), places),
    ];
    cluster = await startCluster({ dir, nodes: 3, port: 0, log: silentLogger, drivers });
    user = new ClusterUser(new ApiClient(() => cluster.url));
    const provisioner = 'block.union.csi.dev';
    await user.createClass('one', { replicas: '1' }, { provisioner });
    await user.createClass('xfs', { replicas: '2', 'csi.storage.k8s.io/fstype': 'xfs' }, { provisioner });
    await user.createClass('two', { replicas: '2' }, { provisioner });
    await user.createClass('union', { lowerStorageClassName: 'two', branches: '2' });
  });

  after(async () => {
    if (cluster === undefined) return;
    const problems = await cluster.close();
    await removeCluster(dir);
    rmSync(dir, { recursive: true, force: true });
    expect(problems).to.deep.equal([]);
    await expectNoLeaks(dir);
  });

  async function volumes(): Promise<readonly BlockVolume[]> {
    return await user.api.list(blockVolumes);
  }

  /** Others may be there, that are still going. */
  async function volumeOf(claim: string): Promise<BlockVolume> {
    const { spec } = await user.persistentVolumeOf(claim);
    return (await user.api.get(blockVolumes, { name: spec?.csi?.volumeHandle ?? '' }))!;
  }

  /** Where the pod's volume is mounted on its node. */
  async function mountOf(pod: string): Promise<string> {
    const { metadata, spec } = (await user.pod(pod))!;
    const root = join(dir, 'nodes', spec!.nodeName!, 'kubelet', 'pods', metadata.uid!, 'volumes', 'kubernetes.io~csi');
    return join(root, readdirSync(root)[0]!, 'mount');
  }

  async function moved(path: string, what: string): Promise<void> {
    const from = await numberIn(path);
    await eventually(`the numbers to go on after ${what}`, async () => (await numberIn(path)) > from + 3, LIMIT_MS);
  }

  function pidOf(name: string): number {
    return recordedChildren(dir).find((child) => child.name === name)!.pid;
  }

  /** The processes that serve the attached volume, by whether they were started to wait, and by whom. */
  function serving(volume: string) {
    return processesWith(`/volumes/${volume}`)
      .filter((line) => line.includes('block-attach'))
      .map((line) => ({
        pid: Number(line.split(' ')[0]),
        waits: line.includes('--standby'),
        container: line.includes('keeper.sock') ? 'block' : 'keeper',
      }));
  }

  it('makes, mounts, grows and removes a volume, and its data outlive the pod', async () => {
    await user.createClaim('data', 'one');
    await user.bound('data');
    expect(await user.run('first', 'data', 'echo kept > file; sync; cat file')).to.equal('kept\n');
    await user.deletePod('first');
    await eventually('the device to go', () => findLeaks(dir).loops.length === 0, LIMIT_MS);
    await user.resizeClaim('data', '128Mi');
    const isGrown = async () => (await volumeOf('data')).status?.capacityBytes === String(128 * 1024 ** 2);
    await eventually('the volume to grow', isGrown, LIMIT_MS);
    const [, mebibytes] = (await user.run('second', 'data', 'cat file; df -BM --output=size . | tail -n 1')).split(
      '\n',
    );
    expect(Number.parseInt(mebibytes!, 10)).to.be.within(100, 128);
    await user.deletePod('second');
    const { spec, metadata } = await volumeOf('data');
    const directory = join(dir, 'nodes', spec.members[0]!, 'block', metadata.name);
    expect(existsSync(directory)).to.equal(true);
    await user.deleteClaim('data');
    expect(existsSync(directory)).to.equal(false);
    expect(await volumes()).to.deep.equal([]);
  });

  it('grows xfs under a pod that goes on writing', async function () {
    needs(this, program('mkfs.xfs'), xfs);
    await user.createClaim('online', 'xfs', { resources: { requests: { storage: '320Mi' } } });
    await user.createPod('writer', 'online', COUNT);
    await user.running('writer');
    const mount = await mountOf('writer');
    const size = async () => (await promisify(execFile)('stat', ['-f', '-c', '%T %b %S', mount])).stdout.trim();
    const [type, blocks, blockSize] = (await size()).split(' ');
    expect(type).to.equal('xfs');
    await eventually('a number', async () => (await numberIn(join(mount, 'n'))) > 0, LIMIT_MS);
    await user.resizeClaim('online', '640Mi');
    const isGrown = async () => Number((await size()).split(' ')[1]) > 1.8 * Number(blocks);
    await eventually(`xfs to have more than ${blocks} blocks of ${blockSize}`, isGrown, LIMIT_MS);
    await moved(join(mount, 'n'), 'the volume has grown');
    await user.deletePod('writer');
    await user.deleteClaim('online');
  });

  it('tells nothing to whoever speaks no TLS', async function () {
    needs(this, program('nbdinfo'));
    const [pool] = await user.api.list(blockPools);
    const listed = promisify(execFile)('nbdinfo', ['--list', `nbd://${pool!.status!.exportAddress}`]);
    expect(await listed.then(() => 'listed', String)).to.include('server replied with error');
  });

  it('passes csi-sanity', async function () {
    needs(this, program('csi-sanity'));
    const parameters = join(dir, 'parameters.yaml');
    writeFileSync(parameters, 'replicas: "1"\n');
    const child = spawn('csi-sanity', [
      `-csi.endpoint=unix://${join(dir, 'nodes/node-1/kubelet/plugins/block.union.csi.dev/csi.sock')}`,
      `-csi.controllerendpoint=unix://${join(dir, 'run/block.sock')}`,
      `-csi.testvolumeparameters=${parameters}`,
      `-csi.mountdir=${join(dir, 'mount')}`,
      `-csi.stagingdir=${join(dir, 'staging')}`,
      ...['-csi.testvolumesize=33554432', '-csi.testvolumeexpandsize=67108864', '-ginkgo.no-color'],
    ]);
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    const [code] = await once(child, 'exit');
    expect(code, output).to.equal(0);
    expect(Number(/(\d+) Passed \| 0 Failed/.exec(output)?.[1])).to.be.at.least(53);
  });

  it('goes on when whatever serves a volume is killed: the process of the file, the one that waits, the node', async () => {
    await user.createClaim('kept', 'one');
    await user.createPod('counter', 'kept', COUNT);
    await user.running('counter');
    const path = join(await mountOf('counter'), 'n');
    await eventually('a number', async () => (await numberIn(path)) > 0, LIMIT_MS);
    const volume = await volumeOf('kept');
    const { name } = volume.metadata;
    const both = () => eventually('both processes', () => serving(name).length === 2 && serving(name), LIMIT_MS);
    for (const waits of [false, true]) {
      const victim = (await both()).find((process) => process.waits === waits) ?? (await both())[0]!;
      process.kill(victim.pid, 'SIGKILL');
      await moved(path, `the process that ${waits ? 'waits' : 'serves'} was killed`);
    }
    process.kill(pidOf(`block-${volume.spec.members[0]}`), 'SIGKILL');
    await moved(path, 'the node was killed');
    await user.deletePod('counter');
    await user.deleteClaim('kept');
  });

  it('goes on when a container with one of the two processes ends, whichever it is and whatever it does', async () => {
    await user.createClaim('kept', 'two');
    await user.createPod('writer', 'kept', CHECKED_LOAD);
    await user.running('writer');
    const path = join(await mountOf('writer'), 'n');
    const { name } = (await volumeOf('kept')).metadata;
    const node = (await user.pod('writer'))!.spec!.nodeName!;
    const of = (container: string) => serving(name).filter((process) => process.container === container);
    const isKept = () => of('block').length === 1 && of('keeper').length === 1;
    // It waits, it serves, it waits in the place of the one before, and serves again.
    for (const container of ['keeper', 'block', 'block', 'keeper']) {
      await eventually('a process in each container', isKept, LIMIT_MS);
      await moved(path, `a process waits in the container of ${container}`);
      const processes = [pidOf(`${container}-${node}`), ...of(container).map(({ pid }) => pid)];
      for (const pid of processes) process.kill(pid, 'SIGKILL');
      await moved(path, `the container of ${container} ended`);
    }
    // Both containers are told to end, at once: one of the processes goes when the other one serves, that one when another can.
    await eventually('a process in each container', isKept, LIMIT_MS);
    const told = serving(name).map(({ pid }) => pid);
    const haveGone = () => {
      const left = serving(name).filter(({ pid }) => told.includes(pid));
      for (const { pid } of left) signalled(pid, LEAVE_SIGNAL);
      return left.length === 0 && isKept();
    };
    await eventually('others in their place', haveGone, LIMIT_MS);
    await moved(path, 'both were told to go');
    const last = await numberIn(path);
    await user.deletePod('writer');
    expect(Number(await user.run('reader', 'kept', 'sha256sum -c --quiet sums && wc -l < sums'))).to.be.at.least(last);
    await user.deletePod('reader');
    await user.deleteClaim('kept');
  });

  it('carries a union, which loses nothing when a node dies in the middle of a write', async () => {
    await user.createClaim('joined', 'union', { resources: { requests: { storage: '128Mi' } } });
    await user.createPod('writer', 'joined', `mkdir sums; ${COUNT}`);
    await user.running('writer');
    const path = join(await mountOf('writer'), 'n');
    await eventually('a number', async () => (await numberIn(path)) > 0, LIMIT_MS);
    const primary = (await volumes()).map(({ status }) => status?.config?.primary)[0]!;
    // Not killed: it would be started again at once. Stopped it is as dead to the others, and comes back with old ideas.
    const stopped = pidOf(`block-${primary}`);
    process.kill(stopped, 'SIGSTOP');
    try {
      await moved(path, `node ${primary} died`);
      const isLedElsewhere = ({ status }: BlockVolume) => status?.config?.primary !== primary;
      await eventually('others to lead', async () => (await volumes()).every(isLedElsewhere), LIMIT_MS);
    } finally {
      process.kill(stopped, 'SIGKILL');
    }
    await moved(path, `node ${primary} came back`);
    await eventually(
      'all replicas to be in sync again',
      async () => (await volumes()).every(({ spec, status }) => status?.config?.inSync.length === spec.members.length),
      LIMIT_MS,
    );
    const last = await numberIn(path);
    await user.deletePod('writer');
    expect(Number(await user.run('reader', 'joined', 'cat n'))).to.be.at.least(last);
    await user.deletePod('reader');
    await user.deleteClaim('joined');
  });

  it('makes the replica of a node that has left the cluster on another one, and clears it up when it comes back', async () => {
    await user.createClaim('moved', 'two');
    await user.createPod('mover', 'moved', COUNT);
    const { spec } = await user.running('mover');
    const path = join(await mountOf('mover'), 'n');
    await moved(path, 'it has begun');
    const volume = () => volumeOf('moved');
    const { name } = (await volume()).metadata;
    const filesOn = (node: string) => join(dir, 'nodes', node, 'block', name);
    const before = (await volume()).spec.members;
    // Any but that of the pod, which has more to do than to keep a replica.
    const lost = before.find((node) => node !== spec!.nodeName)!;
    const kept = before.find((node) => node !== lost)!;
    const stopped = pidOf(`block-${lost}`);
    process.kill(stopped, 'SIGSTOP');
    try {
      await user.api.delete(nodes, { name: lost });
      await becomesWhole(volume, lost);
      expect(await user.told(name, 'ReplicaReplaced')).to.include(`${lost} is not in the cluster any more`);
    } finally {
      process.kill(stopped, 'SIGKILL');
    }
    const { config } = (await volume()).status!;
    await eventually('its files to go', () => !existsSync(filesOn(lost)), LIMIT_MS);
    // What the new one has got is all that there is now.
    const other = pidOf(`block-${kept}`);
    process.kill(other, 'SIGSTOP');
    try {
      await moved(path, `${kept}, too, was lost`);
      expect((await volume()).status?.config).to.deep.include({
        members: config!.members,
        inSync: config!.members.filter((node) => node !== kept),
      });
    } finally {
      process.kill(other, 'SIGKILL');
    }
    await becomesWhole(volume, lost);
    const last = await numberIn(path);
    await user.deletePod('mover');
    expect(Number(await user.run('last', 'moved', 'cat n'))).to.be.at.least(last);
    await user.deletePod('last');
    await user.deleteClaim('moved');
  });
});

/** A failure tells how far it came. */
async function becomesWhole(look: () => Promise<BlockVolume>, without: string): Promise<void> {
  let last: BlockVolume | undefined;
  const isThere = async () => {
    last = await look();
    return isWhole(last, without);
  };
  await eventually(`a whole volume without ${without}`, isThere, LIMIT_MS).catch((error: unknown) => {
    throw new Error(`${messageOf(error)}; it is ${JSON.stringify(last)}`);
  });
}

/** Whether all of its replicas are in sync, the node has none of them, and nobody else has one. */
function isWhole({ spec, status }: BlockVolume, without: string): boolean {
  const { phase, config, replicas = {} } = status ?? {};
  const counts = [config?.inSync.length, Object.keys(replicas).length];
  return phase === 'Ready' && counts.every((count) => count === spec.members.length) && !spec.members.includes(without);
}

/** The driver with certificates for its nodes. */
function withTls(driver: ExternalDriver, authority: string): ExternalDriver {
  const commands = driver.commands.map(({ name, command }) => {
    const node = /^block-(node-\d+)$/.exec(name)?.[1];
    return { name, command: node === undefined ? command : [...command, '--tls', join(authority, node)] };
  });
  return { ...driver, commands };
}

/** The driver with what keeps attached volumes while a node's part ends. */
function withKeepers(driver: ExternalDriver, { kubeletDirs }: DriverPlaces): ExternalDriver {
  const program = driver.commands[0]!.command[0]!;
  const keepers = [...kubeletDirs].map(([node, kubeletDir]) => {
    return { name: `keeper-${node}`, command: [program, 'block-keeper', '--kubelet-dir', kubeletDir] };
  });
  return { ...driver, commands: [...driver.commands, ...keepers] };
}

const xfs: Need = () =>
  readFileSync('/proc/filesystems', 'utf8').includes('\txfs\n') ? undefined : 'needs xfs in the kernel';

/** It may end by itself meanwhile. */
function signalled(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (errnoCode(error) !== 'ESRCH') throw error;
  }
}

/** Read by another process: the cluster runs in this one, and must not wait for its own volumes. 0 while there is none. */
async function numberIn(path: string): Promise<number> {
  return await promisify(execFile)('cat', [path]).then(
    ({ stdout }) => Number(stdout),
    () => 0,
  );
}
