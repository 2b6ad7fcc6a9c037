/** A union's life on a real cluster: third parties' lower volumes, production sidecars, kubelet; and nothing left after it. */
import { expect } from 'chai';
import type { PersistentVolume, PersistentVolumeClaim } from '../../src/protocol/objects.ts';
import type { UnionVolume } from '../../src/protocol/resources.ts';
import { eventually } from '../support/eventually.ts';
import { apply, get, gone, list } from './support/kubectl.ts';
import { freshDisks } from './support/lowers.ts';
import { NODES, onNode, unionMounts } from './support/nodes.ts';
import { claim, deleted, ended, pod, unionClass } from './support/workloads.ts';

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
