/**
 * A branch is added to a union that a pod works on: it is used at once, also by the servers after the one that was killed, of which one is
 * another pod; and when nobody uses the union any more, nothing of it is left.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { pods, unionAttachments } from '../../../src/embedded/api-server/kinds.ts';
import { latestRun } from '../../../src/embedded/kubelet/container.ts';
import { containerDirectory } from '../../../src/embedded/kubelet/layout.ts';
import { UNION_FS_TYPE } from '../../../src/host/mounter.ts';
import { DRIVER_NAMESPACE } from '../../../src/protocol/resources.ts';
import { ClusterProcess } from '../../support/cluster-process.ts';
import { ClusterUser } from '../../support/cluster-user.ts';
import { eventually } from '../../support/eventually.ts';
import { fuse, needs } from '../../support/skip.ts';

const program = fileURLToPath(new URL('../../../bin/kubectl-union', import.meta.url));
const LIMIT_MS = 60_000;
/** Keeps what it wrote, each file checked against all of the others' number. */
const WORK = `
  n=0
  while [ ! -e stop ]; do n=$((n+1)); echo $n >f$n; read -r a <f$n; [ "$a" = $n ]; echo $n >round; done
  [ "$(ls | wc -l)" = $((n+2)) ]; for i in $(seq $n); do read -r a <f$i; [ "$a" = $i ]; done; echo worked`;

describe('a branch that is added to a union in use', function () {
  this.timeout(120_000);
  let cluster: ClusterProcess;
  let user: ClusterUser;

  before(async function () {
    needs(this, fuse);
    cluster = new ClusterProcess();
    await cluster.start();
    user = new ClusterUser(cluster.api);
    await user.createClass('folder', {}, { provisioner: 'directory.embedded.union.csi.dev' });
    await user.createClass('union', { lowerStorageClassName: 'folder', branches: '2', createPolicy: 'rand' });
    await user.createClaim('data', 'union');
    await user.createPod('worker', 'data', WORK);
    await user.running('worker');
  });

  after(async function () {
    const failed = this.test?.parent?.tests.some(({ state }) => state === 'failed');
    if (failed) process.stdout.write(await cluster.report());
    await (failed ? cluster?.discard() : cluster?.stop());
  });

  const kubectlUnion = (...args: readonly string[]) =>
    spawnSync(program, args, { encoding: 'utf8', env: { ...process.env, KUBECONFIG: cluster.kubeconfig } });
  const mountpoint = () =>
    cluster.mounts().find(({ fsType, mountpoint }) => fsType === UNION_FS_TYPE && mountpoint.includes('/pods/'))!
      .mountpoint;
  const podsOf = async (name: string) =>
    (await cluster.api.list(pods)).filter(({ metadata }) => metadata.labels?.['app.kubernetes.io/name'] === name);
  const server = async () => (await podsOf('union-csi-server'))[0];

  /** Files that are on the added branch: the directories of lower volumes are this machine's. */
  async function filesOn(branch: string): Promise<number> {
    const { union } = await user.volumeOf('data');
    const volume = union.status?.branches?.find(({ id }) => id === branch)?.persistentVolume;
    const folders = readdirSync(join(cluster.dir, 'lower'), { recursive: true, encoding: 'utf8' });
    return volume === undefined ? 0 : folders.filter((path) => path.includes(volume) && /\/f\d+$/.test(path)).length;
  }

  const isUsed = (more: number) => async () => (await filesOn('b2')) > more;

  async function killServer(): Promise<void> {
    const { uid } = (await server())!.metadata;
    const pid = await eventually('a server that runs', () => {
      const run = latestRun(containerDirectory(cluster.kubeletDir, uid!, 'server'));
      return run?.kind === 'running' && run.init.pid;
    });
    process.kill(pid, 'SIGKILL');
  }

  it('is used at once', async () => {
    expect(kubectlUnion('add-branch', 'data', '--class', 'folder', '--size', '32Mi').status).to.equal(0);
    await eventually('files on the added branch', isUsed(0), LIMIT_MS);
    expect(await podsOf('union-csi-feeder')).to.have.length(1);
  });

  it('is used by the next server', async () => {
    const before = await filesOn('b2');
    await killServer();
    await eventually('more files on it', isUsed(before), LIMIT_MS);
  });

  it('is used by the server of another pod, which has it mounted itself', async () => {
    const old = (await server())!;
    await cluster.api.delete(pods, old.metadata);
    await eventually(
      'another pod',
      async () => {
        const now = await server();
        return now !== undefined && now.metadata.uid !== old.metadata.uid && now.status?.phase === 'Running';
      },
      LIMIT_MS,
    );
    await eventually('more files on it', isUsed(await filesOn('b2')), LIMIT_MS);
  });

  it('has lost nothing in the end, and leaves nothing', async () => {
    writeFileSync(join(mountpoint(), 'stop'), '');
    const log = await eventually(
      'the pod to end its work',
      async () => {
        const text = await cluster.api.log({ namespace: 'default', name: 'worker' });
        return text.includes('worked') && text;
      },
      LIMIT_MS,
    );
    expect(log).to.equal('worked\n');
    await user.deletePod('worker');
    const left = async () => [...(await cluster.api.list(unionAttachments)), ...(await cluster.api.list(pods))];
    await eventually('nothing that was attached', async () => (await left()).length === 0, LIMIT_MS);
    await user.deleteClaim('data');
    expect(
      (await cluster.api.list(pods)).filter(({ metadata }) => metadata.namespace === DRIVER_NAMESPACE),
    ).to.deep.equal([]);
  });
});
