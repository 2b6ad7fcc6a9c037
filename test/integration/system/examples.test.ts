/** Examples that are made of pods alone, applied as they are; the rest needs a real cluster (test/kubernetes/examples.test.ts). */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { persistentVolumeClaims } from '../../../src/embedded/api-server/kinds.ts';
import { ANNOTATION_ADOPTED_BY } from '../../../src/protocol/resources.ts';
import { ClusterProcess } from '../../support/cluster-process.ts';
import { ClusterUser } from '../../support/cluster-user.ts';
import { eventually } from '../../support/eventually.ts';
import { fuse, loop, needs, program } from '../../support/skip.ts';

const examples = fileURLToPath(new URL('../../../examples/', import.meta.url));

describe('the examples', () => {
  let cluster: ClusterProcess;
  let user: ClusterUser;

  before(async function () {
    needs(this, fuse, loop, program('kubectl'));
    cluster = new ClusterProcess();
    await cluster.start();
    user = new ClusterUser(cluster.api);
    const lower = { provisioner: 'loop.embedded.union.csi.dev', volumeBindingMode: 'WaitForFirstConsumer' };
    for (const name of ['local-path', 'fast', 'large']) await user.createClass(name, {}, lower);
  });

  after(async function () {
    const failed = this.test?.parent?.tests.some(({ state }) => state === 'failed');
    await (failed ? cluster?.discard() : cluster?.stop());
  });

  const apply = (file: string) =>
    promisify(execFile)('kubectl', ['--kubeconfig', cluster.kubeconfig, 'apply', '-f', `${examples}${file}`]);
  const logs = (name: string, wanted: RegExp) =>
    eventually(`pod ${name} to print ${wanted}`, async () => {
      const text = await user.api.log({ namespace: 'default', name }).catch(() => '');
      return wanted.test(text) && text;
    });

  it('two-tiers.yaml: the fast branch has the file', async () => {
    await apply('two-tiers.yaml');
    await logs('tiers', /8388608 .*first/);
    const { union } = await user.volumeOf('tiers');
    expect(union.spec.branches.map(({ storageClassName }) => storageClassName)).to.deep.equal(['fast', 'large']);
    await user.deletePod('tiers');
    await user.deleteClaim('tiers');
  });

  it('adoption: both old claims in one tree, and given back', async () => {
    await apply('adoption/1-old.yaml');
    await eventually('the old pod to end', async () => (await user.pod('old'))?.status?.phase === 'Succeeded');
    await user.deletePod('old');
    await apply('adoption/2-union.yaml');
    await logs('everything', /dear\nsmile\n/);
    await user.running('everything');
    await user.deletePod('everything');
    await user.deleteClaim('everything');
    const claims = await user.api.list(persistentVolumeClaims);
    expect(claims.map(({ metadata }) => metadata.name).sort()).to.deep.equal(['letters', 'photos']);
    expect(claims.map(({ metadata }) => metadata.annotations?.[ANNOTATION_ADOPTED_BY])).to.deep.equal([
      undefined,
      undefined,
    ]);
    for (const name of ['letters', 'photos']) await user.deleteClaim(name);
  });
});
