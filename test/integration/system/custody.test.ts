/**
 * Server and node plugin of a union are killed with SIGKILL while a pod works on it and checks what it does: none of its
 * operations fails, and nothing is mounted anew.
 */
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { pods, unionAttachments } from '../../../src/embedded/api-server/kinds.ts';
import { latestRun } from '../../../src/embedded/kubelet/container.ts';
import { containerDirectory } from '../../../src/embedded/kubelet/layout.ts';
import { UNION_FS_TYPE } from '../../../src/host/mounter.ts';
import type { Pod } from '../../../src/protocol/objects.ts';
import { ANNOTATION_IMAGE, DRIVER_NAMESPACE } from '../../../src/protocol/resources.ts';
import { ClusterProcess } from '../../support/cluster-process.ts';
import { ClusterUser } from '../../support/cluster-user.ts';
import { descriptorsOf } from '../../support/descriptors.ts';
import { eventually } from '../../support/eventually.ts';
import { fuse, needs } from '../../support/skip.ts';

const LIMIT_MS = 60_000;
/** Every operation ends the pod's script when it fails, or when what it sees is not what it did. */
const WORK = `
  exec 8>>log
  n=0
  while [ ! -e stop ]; do
    n=$((n+1)); d=d$((n%5))
    mkdir $d; echo $n >$d/new; mv $d/new $d/file; ln $d/file $d/link
    read -r a <$d/file; read -r b <$d/link; [ "$a$b" = "$n$n" ]
    echo $n >>log; echo $n >&8
    rm $d/file $d/link; rmdir $d
  done
  exec 8>&-
  [ "$(wc -l <log)" = $((2*n)) ]; sort -nu log | wc -l | grep -qx $n; [ "$(ls | tr '\\n' ' ')" = "log stop " ]; echo worked`;

describe('a union in use', () => {
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
    await eventually('work', progress, LIMIT_MS);
  });

  after(async function () {
    const failed = this.test?.parent?.tests.some(({ state }) => state === 'failed');
    if (failed) process.stdout.write(await cluster.report());
    await (failed ? cluster?.discard() : cluster?.stop());
  });

  const mounted = () => cluster.mounts().filter(({ fsType }) => fsType === UNION_FS_TYPE);
  const published = () => mounted().find(({ mountpoint }) => mountpoint.includes('/pods/'))?.mountpoint ?? '';

  /** How much was done. Of a branch: the union may have no server just now. The worker makes directories and removes them meanwhile. */
  async function progress(): Promise<number> {
    const [log] = globSync(join(cluster.dir, 'lower/directory/*/data/log'));
    return log === undefined ? 0 : readFileSync(log, 'utf8').length;
  }

  /** Some rounds: a line may be written past a server that is not there. */
  async function goesOn(): Promise<void> {
    const before = await progress();
    await eventually('work to go on', async () => (await progress()) > before + 50, LIMIT_MS);
  }

  async function serverPods(): Promise<readonly Pod[]> {
    return (await cluster.api.list(pods)).filter(({ metadata }) => metadata.namespace === DRIVER_NAMESPACE);
  }

  async function serverPid(): Promise<number> {
    return await eventually(
      'the server to run',
      async () => {
        const [server] = await serverPods();
        const run = latestRun(containerDirectory(cluster.kubeletDir, server!.metadata.uid!, 'server'));
        return run?.kind === 'running' && holdsDevice(run.init.pid) && run.init.pid;
      },
      LIMIT_MS,
    );
  }

  async function killServer(): Promise<void> {
    process.kill(await serverPid(), 'SIGKILL');
    await serverPid();
    await goesOn();
  }

  it('lives on when its server is killed', async () => {
    const before = mounted();
    await killServer();
    expect(mounted()).to.deep.equal(before);
    await user.told(
      'data',
      /^Warning ServerDied: no server lives in server pod .*; applications wait for the next one$/,
    );
    await eventually('the attachment to be ready again', async () => {
      const [attachment] = await cluster.api.list(unionAttachments);
      return attachment?.status?.mount?.state === 'Served' && attachment.status.conditions?.[0]?.status === 'True';
    });
  });

  it('lives on when the node plugin is killed, and then the server', async () => {
    const before = mounted();
    const killed = await cluster.pidOf('node');
    process.kill(killed, 'SIGKILL');
    await goesOn();
    await eventually('the node plugin to hold the mount', async () => {
      const pid = await cluster.pidOf('node');
      return pid !== killed && holdsDevice(pid);
    });
    await killServer();
    expect(mounted()).to.deep.equal(before);
  });

  /** Until another server pod is alone. */
  async function replaced({ metadata }: Pod): Promise<Pod> {
    const successor = await eventually('the pod to be followed by another one', async () => {
      const [first, ...others] = await serverPods();
      return others.length === 0 && first?.metadata.uid !== metadata.uid && first;
    });
    await goesOn();
    return successor;
  }

  it('lives on when its server pod is deleted, which makes way for another one', async () => {
    const before = mounted();
    const [pod] = (await serverPods()) as [Pod];
    const [attachment] = await cluster.api.list(unionAttachments);
    // It has two names for its server pods, in turn: which one is due depends on the servers that were killed before.
    const { name } = attachment!.metadata;
    await cluster.api.delete(pods, pod.metadata);
    expect([pod.metadata.name, (await replaced(pod)).metadata.name]).to.have.members([name, `${name}-2`]);
    expect(mounted()).to.deep.equal(before);
  });

  it('lives on when its server pod is deleted while the node plugin is away', async () => {
    const before = mounted();
    const [pod] = (await serverPods()) as [Pod];
    process.kill(await cluster.pidOf('node'), 'SIGKILL');
    // Its attachment tells of the pod that is to follow before the next node plugin can ask for the one that serves.
    await cluster.api.delete(pods, pod.metadata);
    await replaced(pod);
    expect(mounted()).to.deep.equal(before);
  });

  it('lives on when its server is of another version, and is replaced', async () => {
    const before = mounted();
    const [pod] = (await serverPods()) as [Pod];
    await cluster.api.patch(pods, pod.metadata, { metadata: { annotations: { [ANNOTATION_IMAGE]: 'older' } } });
    const { annotations } = (await replaced(pod)).metadata;
    expect(annotations?.[ANNOTATION_IMAGE]).to.equal(pod.metadata.annotations?.[ANNOTATION_IMAGE]);
    expect(mounted()).to.deep.equal(before);
  });

  it('has done everything once in the end', async () => {
    writeFileSync(join(published(), 'stop'), '');
    const log = await eventually('the pod to end its work', async () => {
      const text = await cluster.api.log({ namespace: 'default', name: 'worker' });
      return text.includes('worked') && text;
    });
    expect(log).to.equal('worked\n');
    await user.deletePod('worker');
    await user.deleteClaim('data');
  });
});

function holdsDevice(pid: number): boolean {
  return descriptorsOf(pid).some(({ target }) => target.startsWith('/dev/fuse'));
}
