/** A union's life on a real cluster: third parties' lower volumes, production sidecars, kubelet; and nothing left after it. */
import { expect } from 'chai';
import type { PersistentVolume, PersistentVolumeClaim, Pod } from '../../src/protocol/objects.ts';
import type { UnionVolume } from '../../src/protocol/resources.ts';
import { eventually } from '../support/eventually.ts';
import { apply, get, gone, kubectl, list, run } from './support/kubectl.ts';
import { addDirectories, deleteDirectories, freshDisks, growDirectory } from './support/lowers.ts';
import { NODES, onNode, unionMounts } from './support/nodes.ts';
import { claim, deleted, ended, pod, podOf, unionClass, workload } from './support/workloads.ts';

const branchTemplates = `
- {storageClassName: disks, count: 2, size: 150Mi}
- {storageClassName: local-path, count: 1}
`;

describe('a union of static disks and a third-party class', () => {
  before(async () => {
    await apply(unionClass({ name: 'mixed', parameters: { branchTemplates, createPolicy: 'rand' } }));
    await apply(claim({ name: 'files', storageClassName: 'mixed', size: '400Mi' }));
  });

  it('is made where the scheduler wants the pod, and takes its files', async () => {
    const script = `
      mkdir -p a/b && ln -s b a/link
      for n in $(seq 300); do echo "file $n" > a/b/$n; done
      dd if=/dev/urandom of=large bs=1M count=40
      find . -type f ! -name sums | sort | xargs sha256sum > sums
      wc -l < sums`;
    await apply(pod({ name: 'writer', claim: 'files', script, node: 'node-2' }));
    expect((await ended('writer')).trim()).to.match(/301$/);
    const volume = await get<UnionVolume>('unionvolumes');
    expect(volume?.status?.phase).to.equal('Ready');
    expect(volume?.status?.branches?.map(({ phase }) => phase)).to.deep.equal(['Bound', 'Bound', 'Bound']);
    expect(volume?.status?.accessibleTopology).to.deep.equal([{ 'kubernetes.io/hostname': 'node-2' }]);
    expect(volume?.spec.claim).to.deep.equal({ namespace: 'default', name: 'files' });
  });

  it('spreads them over the branches', async () => {
    const counts = await onNode('node-2', 'for d in /mnt/disk-*; do find $d -path "*/a/b/*" | wc -l; done');
    const used = counts
      .trim()
      .split('\n')
      .map(Number)
      .filter((count) => count > 0);
    expect(used).to.have.length(2);
    expect(used[0]! + used[1]!).to.be.lessThan(300);
  });

  it('shows another pod what the first one wrote', async () => {
    await deleted('pod', 'writer');
    await gone(60_000, 'volumeattachments');
    await apply(pod({ name: 'reader', claim: 'files', script: 'sha256sum -c sums | grep -c OK; readlink a/link' }));
    expect((await ended('reader')).trim().split('\n')).to.deep.equal(['301', 'b']);
    await deleted('pod', 'reader');
  });

  it('lets a user write whom only the group of the volume allows to', async () => {
    await gone(60_000, 'volumeattachments');
    const script =
      'id; mkdir own && echo mine > own/file && ln own/file own/link && mv own/file moved && stat -c "%u %g" moved';
    const made = pod({ name: 'user', claim: 'files', script }) as Pod;
    const securityContext = { runAsUser: 1234, runAsGroup: 1234, fsGroup: 4321 };
    await apply({ ...made, spec: { ...made.spec, securityContext } });
    expect((await ended('user')).trim().split('\n').at(-1)).to.equal('1234 4321');
    await deleted('pod', 'user');
  });

  it('leaves nothing when it is deleted', async () => {
    await deleted('pvc', 'files');
    await gone(60_000, 'unionvolumes');
    await gone(10_000, 'unionattachments');
    await gone(10_000, 'pvc,pods', '--namespace', 'union-csi', '--selector', 'union.csi.dev/volume');
    const dynamic = async () =>
      (await list<PersistentVolume>('pv')).every(({ spec }) => spec?.storageClassName === 'disks');
    await eventually('dynamic volumes are gone', dynamic, 60_000);
    for (const node of NODES) expect(await unionMounts(node)).to.deep.equal([]);
    const held = (await list<PersistentVolumeClaim>('pvc', '--all-namespaces')).map(({ metadata }) => metadata.name);
    expect(held).to.deep.equal([]);
    await freshDisks();
  });
});

describe('a Deployment and a StatefulSet whose branches every node reaches', () => {
  const script = `
    if [ -e sums ]; then sha256sum -c sums | grep -c OK; else
      for n in $(seq 200); do mkdir -p d$((n % 10)); head -c $((n * 200)) /dev/urandom > d$((n % 10))/$n; done
      find d* -type f | xargs sha256sum > new && mv new sums && sync && wc -l < sums
    fi
    exec sleep 100000`;
  const workloads = [
    { kind: 'Deployment', name: 'stateless' },
    { kind: 'StatefulSet', name: 'stateful' },
  ] as const;

  it('take their files along to other nodes', async () => {
    const parameters = { lowerStorageClassName: 'shared', branches: '3', createPolicy: 'rand' };
    await apply(unionClass({ name: 'movable', parameters }));
    await Promise.all(
      workloads.map(async ({ kind, name }) => {
        await apply(claim({ name, storageClassName: 'movable', size: '96Mi' }));
        await apply(workload(kind, { name, claim: name, script }));
      }),
    );
    const began = await Promise.all(workloads.map(({ name }) => counted(name)));
    const left = began.map(({ node }) => node);
    await kubectl('cordon', ...new Set(left));
    await deleted('pods', '--selector', 'app in (stateless,stateful)');
    const moved = await Promise.all(workloads.map(({ name }) => counted(name)));
    await kubectl('uncordon', ...new Set(left));
    for (const { node, files } of moved) {
      expect(left).not.to.include(node);
      expect(files).to.equal('200');
    }
    await deleted('deployment/stateless', 'statefulset/stateful', '--cascade=foreground');
    await deleted('pvc', 'stateless', 'stateful');
    await gone(60_000, 'unionvolumes');
  });

  /** Where the workload's pod is, and how many files it says there are, whole, once it does. */
  const counted = (name: string) =>
    eventually(`${name} to have counted its files`, async () => {
      const found = await podOf(name);
      const log = await run('kubectl', ['logs', found?.metadata.name ?? '']);
      return log.code === 0 && log.stdout !== '' && { node: found?.spec?.nodeName ?? '', files: log.stdout.trim() };
    });
});

describe('a claim that grows over a lower class that grows', () => {
  it('has its new size when all branches have theirs', async () => {
    await addDirectories(2, '32Mi');
    const parameters = { lowerStorageClassName: 'directories', branches: '2' };
    const immediate = { volumeBindingMode: 'Immediate', allowVolumeExpansion: true };
    await apply({ ...unionClass({ name: 'elastic', parameters }), ...immediate });
    await apply(claim({ name: 'elastic', storageClassName: 'elastic', size: '64Mi' }));
    const size = async () => (await get<PersistentVolumeClaim>('pvc', 'elastic'))?.status?.capacity?.storage;
    await eventually('a bound claim', async () => (await size()) === '64Mi', 60_000);
    const lowers = () => list<PersistentVolumeClaim>('pvc', '--namespace', 'union-csi');
    const grows = async (whole: string, part: string) => {
      const before = await size();
      await kubectl('patch', 'pvc', 'elastic', '--patch', `{"spec":{"resources":{"requests":{"storage":"${whole}"}}}}`);
      const asked = async () => (await lowers()).every(({ spec }) => spec?.resources?.requests?.storage === part);
      await eventually('branches that are asked to grow', asked, 60_000);
      const [first, second] = await lowers();
      await growDirectory('union-csi', first!.metadata.name);
      expect(await size()).to.equal(before);
      await growDirectory('union-csi', second!.metadata.name);
      await eventually('the new size', async () => (await size()) === whole, 60_000);
    };
    await grows('128Mi', '64Mi');
    await grows('192Mi', '96Mi');
    await deleted('pvc', 'elastic');
    await gone(60_000, 'unionvolumes');
    await deleteDirectories();
  });
});
