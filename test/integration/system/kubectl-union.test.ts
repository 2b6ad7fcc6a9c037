/** The kubectl plugin against the embedded cluster: the program as people run it, and what it prints. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { credentials } from '@grpc/grpc-js';
import { expect } from 'chai';
import { parse } from 'yaml';
import { pods } from '../../../src/embedded/api-server/kinds.ts';
import { UNION_FS_TYPE } from '../../../src/host/mounter.ts';
import { loadCsi } from '../../../src/protocol/proto.ts';
import { BRANCHES_AVAILABLE } from '../../../src/union/branches-available.ts';
import { findCondition } from '../../../src/union/conditions.ts';
import { ClusterProcess } from '../../support/cluster-process.ts';
import { ClusterUser } from '../../support/cluster-user.ts';
import { eventually } from '../../support/eventually.ts';
import { shutDown } from '../../support/faults.ts';
import { fuse, loop, needs } from '../../support/skip.ts';

const program = fileURLToPath(new URL('../../../bin/kubectl-union', import.meta.url));

describe('kubectl union', () => {
  let cluster: ClusterProcess;
  let user: ClusterUser;

  before(async function () {
    needs(this, fuse, loop);
    cluster = new ClusterProcess();
    await cluster.start();
    user = new ClusterUser(cluster.api);
    const waiting = { volumeBindingMode: 'WaitForFirstConsumer' };
    await user.createClass('disk', {}, { provisioner: 'loop.embedded.union.csi.dev', ...waiting });
    await user.createClass('union', { lowerStorageClassName: 'disk', branches: '2', createPolicy: 'rand' }, waiting);
    await user.createClaim('data', 'union');
  });

  after(async function () {
    const failed = this.test?.parent?.tests.some(({ state }) => state === 'failed');
    await (failed ? cluster?.discard() : cluster?.stop());
  });

  function run(...args: readonly string[]) {
    const { status, stdout, stderr } = spawnSync(program, args, {
      encoding: 'utf8',
      env: { ...process.env, KUBECONFIG: cluster.kubeconfig },
    });
    return { status, stdout, stderr };
  }

  const json = (...args: readonly string[]) => JSON.parse(run(...args, '--output', 'json').stdout);

  /** What the driver tells kubelet and the health monitor of the union, by ListVolumes and NodeGetVolumeStats. */
  async function csiConditions(): Promise<readonly unknown[]> {
    const { Controller, Node } = loadCsi();
    const controller = new Controller(`unix://${cluster.dir}/run/controller.sock`, credentials.createInsecure());
    const socket = `unix://${cluster.kubeletDir}/plugins/union.csi.dev/csi.sock`;
    const node = new Node(socket, credentials.createInsecure());
    const { union } = await user.volumeOf('data');
    const volumeId = union.metadata.name;
    const { mountpoint: volumePath } = cluster
      .mounts()
      .find(({ fsType, mountpoint }) => fsType === UNION_FS_TYPE && mountpoint.includes('/pods/'))!;
    try {
      const listed = await promisify(controller.listVolumes.bind(controller, {}))();
      const stats = await promisify(node.nodeGetVolumeStats.bind(node, { volumeId, volumePath }))();
      const own = listed?.entries?.find(({ volume }) => volume?.volumeId === volumeId);
      return [own?.status?.volumeCondition, stats?.volumeCondition];
    } finally {
      controller.close();
      node.close();
    }
  }

  it('explains a claim that waits for its first pod', () => {
    const { status, stdout } = run('explain', 'data');
    expect(status).to.equal(1);
    expect(stdout).to.match(/^default\/data: not as it should be\n/);
    expect(stdout).to.include('start a pod that uses the claim');
  });

  it('tells how unions are, and what their branches hold', async () => {
    const write = 'mkdir -p films/old && for n in $(seq 20); do echo "$n" > films/$n; done; ln -s films link';
    await user.run('writer', 'data', write);
    const [row] = json('status');
    expect(row).to.deep.include({
      claim: 'data',
      phase: 'Ready',
      branches: { bound: 2, wanted: 2 },
      nodes: ['node-1'],
    });
    expect(row.usedBytes).to.be.greaterThan(0);
    expect(run('status').stdout).to.match(/^CLAIM {2}PHASE {2}BRANCHES {2}NODES .*\ndata +Ready +2 +node-1 /);
    const [union] = json('df', 'data');
    expect(union.branches.map(({ id, health }: { id: string; health: string }) => [id, health])).to.deep.equal([
      ['b0', 'ok'],
      ['b1', 'ok'],
    ]);
    expect(run('df').stdout.trim().split('\n')).to.have.length(3);
    expect(run('explain', 'data').stdout).to.match(/^default\/data: nothing is wrong\n/);
  });

  it('is told by servers, which tell Prometheus too', async () => {
    const { server } = parse(readFileSync(cluster.kubeconfig, 'utf8')).clusters[0].cluster;
    const [pod] = (await user.api.list(pods)).filter(({ metadata }) => metadata.namespace === 'union-csi');
    const proxy = `${server}/api/v1/namespaces/union-csi/pods/${pod!.metadata.name}:9808/proxy`;
    const ask = async (path: string) => {
      const answer = await fetch(`${proxy}${path}`);
      return { status: answer.status, text: await answer.text() };
    };
    expect(await ask('/readyz')).to.deep.equal({ status: 200, text: 'ok\n' });
    const { text } = await ask('/metrics');
    const volume = pod!.metadata.labels?.['union.csi.dev/volume'];
    expect(text).to.match(
      new RegExp(`^union_csi_operations_total\\{operation="create",volume="${volume}"\\} 20$`, 'm'),
    );
    expect(text).to.match(/^union_csi_branch_used_bytes\{branch="b1",volume="\S+"\} [1-9]/m);
    expect((await ask('/where?path=films&pod=guess')).status).to.equal(403);
    expect((await fetch(`${proxy.replace(':9808', ':9809')}/metrics`)).status).to.equal(503);
  });

  it('tells where files are, and follows no links', async () => {
    const paths = Array.from({ length: 20 }, (_, index) => `films/${index + 1}`);
    const found = json('where', 'data', ...paths, 'films', 'link/1', '/films/../films/1', 'films/none');
    const branchesOf = ({ copies }: { copies: { branch: string }[] }) => copies.map(({ branch }) => branch);
    const files = found.slice(0, 20).map(branchesOf);
    expect(files.every((branches: string[]) => branches.length === 1)).to.equal(true);
    expect(new Set(files.flat())).to.deep.equal(new Set(['b0', 'b1']));
    expect(found.slice(20).map(branchesOf)).to.deep.equal([['b0', 'b1'], [], [], []]);
    const { union } = await user.volumeOf('data');
    expect(found[0].copies[0].claim.name).to.equal(`${union.metadata.name}-${files[0][0]}`);
    expect(run('where', 'data', 'films/none')).to.include({ status: 1, stderr: 'films/none is on no branch\n' });
  });

  it('adds a branch, which the next server of the union has too', async () => {
    expect(run('add-branch', 'data', '--class', 'dist', '--size', '32Mi')).to.include({
      status: 1,
      stderr: 'union-csi kubectl: "dist" is no storage class that a branch can be of; did you mean "disk"?\n',
    });
    expect(run('add-branch', 'data', '--class', 'disk', '--size', '64Mi', '--reserve', '8Mi').status).to.equal(0);
    await eventually('a bound branch', () => json('branches', 'data')[2]?.phase === 'Bound');
    expect(json('branches', 'data')[2]).to.include({ id: 'b2', origin: 'created', storageClassName: 'disk' });
    await user.deletePod('writer');
    await eventually('the union to be let go', () => json('status')[0].nodes.length === 0);
    expect(run('df', 'data').stderr).to.equal('default/data: nobody uses it now, so nobody knows what is on it\n');
    await user.run('writer', 'data', 'for n in $(seq 30); do echo > new$n; done');
    const [{ branches }] = json('df', 'data');
    expect(branches[2]).to.include({ id: 'b2', minFreeSpaceBytes: 8 << 20 });
    const copies = json('where', 'data', ...Array.from({ length: 30 }, (_, index) => `new${index + 1}`));
    expect(copies.some((file: { copies: { branch: string }[] }) => file.copies[0]?.branch === 'b2')).to.equal(true);
    expect(run('branches', 'data').stdout).to.match(/\nb2 +RW +created +disk +union-csi\//);
  });

  it('tells of a branch that fails, until it works again', async () => {
    const { union } = await user.volumeOf('data');
    const lower = union.status?.branches?.find(({ id }) => id === 'b1')?.persistentVolume;
    const { mountpoint } = cluster
      .mounts()
      .find(({ fsType, mountpoint }) => fsType === 'ext4' && mountpoint.includes(`/${lower}/`))!;
    shutDown(mountpoint);
    const condition = async () =>
      findCondition((await user.volumeOf('data')).union.status?.conditions, BRANCHES_AVAILABLE);
    const failing = await eventually(
      'the condition',
      async () => (await condition())?.status === 'False' && (await condition()),
    );
    expect(failing).to.include({ reason: 'BranchUnavailable' });
    expect(failing?.message).to.match(/^node node-1: branch b1 is failing: the filesystem of \S+ was shut down/);
    await user.told('data', 'Warning BranchUnavailable');
    expect(json('status')[0]).to.include({ phase: 'Ready', message: failing!.message });
    expect(run('explain', 'data').stdout).to.include('the branch is taken back when it works again');
    expect(await csiConditions()).to.deep.equal([
      { abnormal: true, message: failing!.message },
      { abnormal: true, message: failing!.message.replace('node node-1: ', '') },
    ]);
    await user.deletePod('writer');
    await eventually('the union to be let go', () => json('status')[0].nodes.length === 0);
    await user.run('writer', 'data', 'echo again > again; cat films/1 films/20');
    await eventually('the end of it', async () => (await condition())?.status !== 'False');
    expect(json('status')[0]).to.include({ message: '' });
  });

  it('says what is no union', async () => {
    await user.createClaim('plain', 'disk');
    expect(run('branches', 'plain').stderr).to.match(/claim "default\/plain" has no union/);
    expect(run('explain', 'plain').stdout).to.match(/is of loop\.embedded\.union\.csi\.dev, not of unions/);
    expect(run('status', '--namespace', 'kube-system').stdout).to.equal('no unions; look in all namespaces with -A\n');
    expect(run('explain', 'nothing').stderr).to.match(/claim "default\/nothing" does not exist/);
    expect(run('statsu')).to.include({
      status: 2,
      stderr: 'union-csi kubectl: unknown command statsu; did you mean status?\n',
    });
    await user.deletePod('writer');
    await user.deleteClaim('plain');
    await user.deleteClaim('data');
  });
});
