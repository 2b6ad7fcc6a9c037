/** What goes wrong in clusters: no room, no permission, things deleted by hand, an API server that is away. */
import { expect } from 'chai';
import type { PersistentVolumeClaim, Pod } from '../../src/protocol/objects.ts';
import { ANNOTATION_SELECTED_NODE } from '../../src/union/spec.ts';
import { eventually } from '../support/eventually.ts';
import { apply, get, gone, kubectl, list, output, run, union } from './support/kubectl.ts';
import { deleteDirectories, freshDisks, provideDirectory } from './support/lowers.ts';
import { type NodeName, onNode, unionMounts } from './support/nodes.ts';
import { claim, deleted, ended, pod, readiness, running, unionClass, unionOf } from './support/workloads.ts';

async function described(name: string, wanted: RegExp): Promise<void> {
  const told = async () => wanted.test(await kubectl('describe', 'pvc', name));
  await eventually(`claim ${name} to say ${wanted}`, told, 90_000);
}

describe('a quota of the claim’s namespace', () => {
  it('holds for branches in that namespace, is told, and is met when it is raised', async () => {
    const quota = (storage: string) => ({
      apiVersion: 'v1',
      kind: 'ResourceQuota',
      metadata: { name: 'storage' },
      spec: { hard: { 'requests.storage': storage } },
    });
    await apply(quota('150Mi'));
    // The quota controller has to have looked before it holds.
    await eventually('a quota in force', async () =>
      (await kubectl('get', 'resourcequota', '-o', 'yaml')).includes('used:'),
    );
    const parameters = { lowerStorageClassName: 'local-path', branches: '2', branchNamespace: 'claim' };
    await apply(unionClass({ name: 'in-namespace', parameters }));
    await apply(claim({ name: 'limited', storageClassName: 'in-namespace', size: '100Mi' }));
    await apply(pod({ name: 'limited', claim: 'limited', script: 'echo written > file; cat file' }));
    await eventually(
      'why it waits',
      async () => (await readiness('limited')).includes('exceeded quota: storage'),
      60_000,
    );
    await described('limited', /exceeded quota: storage/);
    await apply(quota('200Mi'));
    expect(await ended('limited')).to.equal('written\n');
    await deleted('pod', 'limited');
    await deleted('pvc', 'limited');
    await deleted('resourcequota', 'storage');
    await gone(60_000, 'unionvolumes');
  });
});

describe('a lower class without space', () => {
  const script = 'echo "on $HOSTNAME" > file; exec sleep 10000';

  it('on one node: the pod is scheduled to another', async () => {
    await apply(unionClass({ name: 'all-disks', parameters: { lowerStorageClassName: 'disks', branches: '4' } }));
    await apply(claim({ name: 'first', storageClassName: 'all-disks', size: '600Mi' }));
    await apply(pod({ name: 'first', claim: 'first', script, node: 'node-1' }));
    await running('first');
    await apply(claim({ name: 'second', storageClassName: 'all-disks', size: '600Mi' }));
    await apply(pod({ name: 'second', claim: 'second', script, preferred: 'node-1' }));
    await running('second', 180_000);
    expect((await get<Pod>('pod', 'second'))?.spec?.nodeName).not.to.equal('node-1');
    await deleted('pod', 'first', 'second');
    await deleted('pvc', 'first', 'second');
    await gone(60_000, 'unionvolumes');
    await freshDisks();
  });

  it('anywhere: says so, and nothing is left half made', async () => {
    await apply(unionClass({ name: 'five-disks', parameters: { lowerStorageClassName: 'disks', branches: '5' } }));
    await apply(claim({ name: 'greedy', storageClassName: 'five-disks', size: '500Mi' }));
    await apply(pod({ name: 'greedy', claim: 'greedy', script }));
    const told = async () => (await kubectl('describe', 'pod', 'greedy')).includes('did not have enough free storage');
    await eventually('a pod that is told why it waits', told, 90_000);
    await deleted('pod', 'greedy');
    await deleted('pvc', 'greedy');
    await gone(60_000, 'unionvolumes');
    await gone(60_000, 'pvc', '--namespace', 'union-csi');
    await freshDisks();
  });
});

describe('a lower driver that turns out to have no room on the chosen node', () => {
  /** The claim of its branch once it is given a node, and is another one than that of `uid`. */
  const chosen = (uid?: string) =>
    eventually('a lower claim that is given a node', async () => {
      const [found] = await list<PersistentVolumeClaim>('pvc', '--namespace', 'union-csi');
      const { annotations } = found?.metadata ?? {};
      return annotations?.[ANNOTATION_SELECTED_NODE] !== undefined && found?.metadata.uid !== uid && found;
    });

  it('is asked again when the scheduler has chosen anew', async () => {
    const driver = { provisioner: 'hesitant.example', volumeBindingMode: 'WaitForFirstConsumer' };
    await apply({ apiVersion: 'storage.k8s.io/v1', kind: 'StorageClass', metadata: { name: 'hesitant' }, ...driver });
    const parameters = { lowerStorageClassName: 'hesitant', branches: '1' };
    await apply(unionClass({ name: 'on-hesitant', parameters }));
    await apply(claim({ name: 'hesitant', storageClassName: 'on-hesitant', size: '64Mi' }));
    await apply(pod({ name: 'hesitant', claim: 'hesitant', script: 'echo written > file; cat file' }));
    // Nobody else is this driver: it takes the choice back, as drivers do, and has room the second time.
    const { name, uid } = (await chosen()).metadata;
    await kubectl('--namespace', 'union-csi', 'annotate', 'pvc', name, `${ANNOTATION_SELECTED_NODE}-`);
    await provideDirectory(await chosen(uid));
    expect(await ended('hesitant')).to.equal('written\n');
    await deleted('pod', 'hesitant');
    await deleted('pvc', 'hesitant');
    await gone(60_000, 'unionvolumes');
    await deleteDirectories();
  });
});

describe('a lower claim that somebody deletes', () => {
  it('is held while it is in use, and never made anew, empty', async () => {
    await apply(unionClass({ name: 'two', parameters: { lowerStorageClassName: 'local-path', branches: '2' } }));
    await apply(claim({ name: 'bereft', storageClassName: 'two', size: '100Mi' }));
    await apply(pod({ name: 'bereft', claim: 'bereft', script: 'echo kept > file; exec sleep 10000' }));
    await running('bereft');
    const [lower] = await list<PersistentVolumeClaim>('pvc', '--namespace', 'union-csi');
    await kubectl('--namespace', 'union-csi', 'delete', 'pvc', lower!.metadata.name, '--wait=false');
    expect(await kubectl('exec', 'bereft', '--', 'cat', '/data/file')).to.equal('kept\n');
    await deleted('pod', 'bereft');
    await gone(60_000, 'pvc', '--namespace', 'union-csi', lower!.metadata.name);
    await eventually('a union that knows', async () => (await unionOf('bereft'))?.status?.phase === 'Failed');
    expect(await readiness('bereft')).to.match(/branch b\d: /);
    await apply(pod({ name: 'again', claim: 'bereft', script: 'true' }));
    const told = async () => (await kubectl('describe', 'pod', 'again')).includes('is not ready');
    await eventually('a pod that is told why it waits', told, 90_000);
    expect(await list('pvc', '--namespace', 'union-csi')).to.have.length(1);
    await deleted('pod', 'again');
    await deleted('pvc', 'bereft');
    await gone(60_000, 'unionvolumes');
  });
});

describe('claims for several nodes', () => {
  it('make one tree of what they hold, on every node', async () => {
    const many = (name: string) => {
      const made = claim({ name, storageClassName: 'shared', size: '64Mi' }) as { spec: object };
      return { ...made, spec: { ...made.spec, accessModes: ['ReadWriteMany'] } };
    };
    const parameters = { lowerStorageClassName: 'shared', branches: '2', createPolicy: 'rand' };
    await apply(unionClass({ name: 'everywhere', parameters }));
    await apply({ ...many('joint'), spec: { ...many('joint').spec, storageClassName: 'everywhere' } });
    const script = 'until [ -e stop ]; do sleep 0.2; done; ls | wc -l';
    await apply(pod({ name: 'here', claim: 'joint', script, node: 'node-1' }));
    await apply(pod({ name: 'there', claim: 'joint', script, node: 'node-2' }));
    await running('here');
    await running('there');
    await kubectl('exec', 'here', '--', 'sh', '-c', 'for n in $(seq 50); do echo $n > /data/here-$n; done');
    await kubectl('exec', 'there', '--', 'sh', '-c', 'for n in $(seq 50); do echo $n > /data/there-$n; done');
    const seen = async (name: string) => (await kubectl('exec', name, '--', 'sh', '-c', 'cat /data/*-50')).split('\n');
    for (const name of ['here', 'there']) {
      await eventually(`pod ${name} to see both`, async () => (await seen(name)).join() === '50,50,');
    }
    await kubectl('exec', 'there', '--', 'touch', '/data/stop');
    for (const name of ['here', 'there']) expect((await ended(name)).trim()).to.equal('101');
    await deleted('pod', 'here', 'there');
    await deleted('pvc', 'joint');
    await gone(60_000, 'unionvolumes');
  });
});

describe('a claim that grows by a branch', () => {
  it('has the room at once', async () => {
    const parameters = { lowerStorageClassName: 'disks', branches: '1', expandStrategy: 'add-branch' };
    await apply({ ...unionClass({ name: 'growing', parameters }), allowVolumeExpansion: true });
    await apply(claim({ name: 'growing', storageClassName: 'growing', size: '150Mi' }));
    const script = `
      echo kept > file; until [ -e go ]; do sleep 0.2; done; cat file
      for n in 1 2; do dd if=/dev/zero of=large-$n bs=1M count=120 2>/dev/null || echo full; done`;
    await apply(pod({ name: 'grows', claim: 'growing', script, node: 'node-3' }));
    await running('grows');
    await kubectl('patch', 'pvc', 'growing', '--patch', '{"spec":{"resources":{"requests":{"storage":"300Mi"}}}}');
    const size = async () => (await get<PersistentVolumeClaim>('pvc', 'growing'))?.status?.capacity?.storage;
    await eventually('the new size', async () => (await size()) !== '150Mi' && (await size()) !== '192Mi', 90_000);
    const served = async () => (await union<{ branches: object[] }[]>('df', 'growing'))[0]?.branches.length;
    await eventually('a second branch in use', async () => (await served()) === 2, 60_000);
    await kubectl('exec', 'grows', '--', 'touch', '/data/go');
    expect(await ended('grows')).to.equal('kept\n');
    await deleted('pod', 'grows');
    await deleted('pvc', 'growing');
    await gone(60_000, 'unionvolumes');
    await freshDisks();
  });
});

describe('an API server that does not answer for a minute', () => {
  const OUTAGE_MS = 60_000;

  it('is not noticed by who writes, and what was begun is completed', async () => {
    const load = 'n=0; until [ -e stop ]; do n=$((n + 1)); echo $n > round.new; mv round.new round; done; cat round';
    await apply(unionClass({ name: 'plain', parameters: { lowerStorageClassName: 'local-path', branches: '2' } }));
    await apply(claim({ name: 'busy', storageClassName: 'plain', size: '64Mi' }));
    await apply(pod({ name: 'busy', claim: 'busy', script: load, node: 'node-1' }));
    await running('busy');
    const node: NodeName = 'node-1';
    const [mount] = await unionMounts(node);
    const round = async () => Number(await onNode(node, `cat ${mount}/round`));
    // One is being made, another being attached.
    await apply(claim({ name: 'attaching', storageClassName: 'plain', size: '64Mi' }));
    await apply(pod({ name: 'attaching', claim: 'attaching', script: 'echo attached' }));
    await eventually('an attachment', async () => (await list('unionattachments')).length === 2, 60_000);
    await apply(claim({ name: 'made', storageClassName: 'plain', size: '64Mi' }));
    await apply(pod({ name: 'made', claim: 'made', script: 'echo made' }));
    await eventually('a second union being made', async () => (await list('unionvolumes')).length === 3, 60_000);
    // The tests are in the cluster's own PID namespace.
    const server = (await output('pgrep', ['-x', 'kube-apiserver'])).trim();
    process.kill(Number(server), 'SIGSTOP');
    let before = 0;
    let after = 0;
    try {
      before = await round();
      await new Promise((resolve) => setTimeout(resolve, OUTAGE_MS));
      after = await round();
    } finally {
      process.kill(Number(server), 'SIGCONT');
    }
    expect(after - before, 'rounds during the outage').to.be.greaterThan(100);
    await eventually(
      'an API server that answers',
      async () => (await run('kubectl', ['get', 'nodes'])).code === 0,
      60_000,
    );
    expect((await ended('made', 200_000)).trim()).to.equal('made');
    expect((await ended('attaching', 200_000)).trim()).to.equal('attached');
    await eventually(
      'the pod to stop',
      async () => (await run('kubectl', ['exec', 'busy', '--', 'touch', '/data/stop'])).code === 0,
      60_000,
    );
    expect(Number(await ended('busy'))).to.be.greaterThan(after);
    await deleted('pod', 'busy', 'attaching', 'made');
    await deleted('pvc', 'busy', 'attaching', 'made');
    await gone(120_000, 'unionvolumes');
  });
});
