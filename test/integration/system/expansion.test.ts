/** A claim that asks for more gets it from its branches: at once where they grow in place, else when its pods start anew. */
import { expect } from 'chai';
import { parseQuantity } from '../../../src/base/units.ts';
import { persistentVolumeClaims, unionAttachments } from '../../../src/embedded/api-server/kinds.ts';
import { ClusterProcess } from '../../support/cluster-process.ts';
import { ClusterUser } from '../../support/cluster-user.ts';
import { eventually } from '../../support/eventually.ts';
import { fuse, loop, needs } from '../../support/skip.ts';

const MEBIBYTE = 1024n ** 2n;

describe('a claim that grows', () => {
  let cluster: ClusterProcess;
  let user: ClusterUser;

  before(async function () {
    needs(this, fuse, loop);
    cluster = new ClusterProcess();
    await cluster.start();
    user = new ClusterUser(cluster.api);
    await user.createClass('folder', {}, { provisioner: 'directory.embedded.union.csi.dev' });
    await user.createClass('disk', {}, { provisioner: 'loop.embedded.union.csi.dev' });
    await user.createClass('fixed', {}, { provisioner: 'loop.embedded.union.csi.dev', allowVolumeExpansion: false });
  });

  afterEach(async () => {
    for (const pod of ['writer', 'again']) await user.deletePod(pod);
    await user.deleteClaim('data');
  });

  after(async function () {
    const failed = this.test?.parent?.tests.some(({ state }) => state === 'failed');
    await (failed ? cluster?.discard() : cluster?.stop());
  });

  async function capacity(): Promise<bigint> {
    const size = parseQuantity((await user.claim('data'))?.status?.capacity?.storage ?? '0');
    return size.ok ? size.value : 0n;
  }

  async function lowerSizes(): Promise<readonly string[]> {
    const { union } = await user.volumeOf('data');
    const claims = await user.api.list(persistentVolumeClaims);
    const lowers = claims.filter(({ metadata }) => metadata.name.startsWith(union.metadata.name));
    return lowers.map(({ status }) => status?.capacity?.storage ?? '').sort();
  }

  it('over directories: at once, while a pod uses it', async () => {
    await user.createClass('union-folder', { lowerStorageClassName: 'folder', branches: '2' });
    await user.createClaim('data', 'union-folder');
    await user.createPod('writer', 'data', 'echo before > file');
    await user.running('writer');
    expect(await lowerSizes()).to.deep.equal(['32Mi', '32Mi']);
    await user.resizeClaim('data', '128Mi');
    await eventually('the new size', async () => (await capacity()) >= 128n * MEBIBYTE);
    expect(await lowerSizes()).to.deep.equal(['64Mi', '64Mi']);
    await user.told('data', 'Normal VolumeResizeSuccessful: Resized volume to 128Mi');
  });

  it('over filesystems of their own: at once, or when its pods start anew where they may not grow in use', async () => {
    await user.createClass('union-disk', { lowerStorageClassName: 'disk', branches: '2' });
    await user.createClaim('data', 'union-disk');
    // More than the branches hold, less than they will.
    const fill = 'for n in 1 2; do dd if=/dev/zero of=big$n bs=1M count=40 2>/dev/null || { echo full; break; }; done';
    expect(await user.run('writer', 'data', `${fill}; rm big*; echo before > file`)).to.equal('full\n');
    await user.resizeClaim('data', '160Mi');
    const decided = await eventually('growth, or why it waits', async () => {
      if ((await capacity()) >= 160n * MEBIBYTE) return 'grown';
      const events = await user.api.eventsAbout('data');
      return events.some((event) => event.includes('it grows when its pods are started anew')) && 'waits';
    });
    if (decided === 'waits') expect((await capacity()) < 160n * MEBIBYTE).to.equal(true);
    await user.deletePod('writer');
    // A pod that came sooner would find the union still attached, and its branches mounted.
    await eventually('the union to be detached', async () => (await user.api.list(unionAttachments)).length === 0);
    expect(await user.run('again', 'data', `${fill}; cat file`)).to.equal('before\n');
    await eventually('the new size', async () => (await capacity()) >= 160n * MEBIBYTE);
    expect(await lowerSizes()).to.deep.equal(['80Mi', '80Mi']);
  });

  it('over a class that does not grow: says so, and stays as it is', async () => {
    await user.createClass('union-fixed', { lowerStorageClassName: 'fixed', branches: '2' });
    await user.createClaim('data', 'union-fixed');
    await user.bound('data');
    await user.resizeClaim('data', '128Mi');
    await user.told('data', 'no branch can grow; add a branch, or see that a lower class allows volume expansion');
    expect(await capacity()).to.equal(64n * MEBIBYTE);
    expect(await lowerSizes()).to.deep.equal(['32Mi', '32Mi']);
  });
});
