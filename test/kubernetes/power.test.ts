/** A node loses its power. What was on it is not started elsewhere until somebody says that it is really off. */
import { expect } from 'chai';
import type { Pod } from '../../src/protocol/objects.ts';
import type { UnionAttachment } from '../../src/protocol/resources.ts';
import { eventually } from '../support/eventually.ts';
import { nothingIsLeft } from './support/deploy.ts';
import { apply, gone, kubectl, list, run } from './support/kubectl.ts';
import { isReady, type NodeName, pullThePlug } from './support/nodes.ts';
import { claim, deleted, podOf, unionClass, workload } from './support/workloads.ts';

describe('a node without power', () => {
  let lost: NodeName;
  const attachments = () => list<UnionAttachment>('unionattachments');
  const servers = () =>
    list<Pod>('pods', '--namespace', 'union-csi', '--selector', 'app.kubernetes.io/name=union-csi-server');

  /** A pod runs before it has written, a moment later; then it tells how many lines there are, all of them safe. */
  const wrote = async (lines: number) => {
    const told = async () => (await run('kubectl', ['logs', 'deployment/app'])).stdout.trim();
    await eventually(`a pod that has written line ${lines}`, async () => (await told()) !== '', 60_000);
    expect(await told()).to.equal(String(lines));
  };

  before(async () => {
    // A node that is lost tells no more.
    await nothingIsLeft();
    const parameters = { lowerStorageClassName: 'shared', branches: '2' };
    await apply(unionClass({ name: 'survives', parameters }));
    await apply(claim({ name: 'survives', storageClassName: 'survives', size: '64Mi' }));
    const script = 'echo $HOSTNAME >> hosts; sync; wc -l < hosts; exec sleep 100000';
    // In place of five minutes.
    const unreachable = { key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute' };
    const tolerations = [{ ...unreachable, tolerationSeconds: 5 }];
    await apply(workload('Deployment', { name: 'app', claim: 'survives', script, tolerations }));
    await kubectl('rollout', 'status', '--timeout=120s', 'deployment/app');
    await wrote(1);
    lost = (await attachments())[0]!.spec.node as NodeName;
  });

  it('keeps its union while nobody says that it is off', async () => {
    pullThePlug(lost);
    await eventually('a node that is known to be lost', async () => !(await isReady(lost)), 120_000);
    const successor = async () => {
      const found = await podOf('app');
      return found?.spec?.nodeName === lost ? undefined : found;
    };
    await eventually('a pod on another node', successor, 120_000);
    // Attach-detach gives a node that is merely unreachable six minutes; ours must hold whatever it asks for.
    await eventually(
      'a pod that waits',
      async () => {
        const name = (await successor())?.metadata.name ?? '';
        return (await kubectl('describe', 'pod', name)).includes('Multi-Attach error');
      },
      60_000,
    );
    expect((await attachments()).map(({ spec }) => spec.node)).to.deep.equal([lost]);
    expect((await servers()).map(({ spec }) => spec?.nodeName)).to.deep.equal([lost]);
  });

  it('gives it to another when it is declared out of service', async () => {
    await kubectl('taint', 'node', lost, 'node.kubernetes.io/out-of-service=nodeshutdown:NoExecute');
    await kubectl('rollout', 'status', '--timeout=200s', 'deployment/app');
    const [attachment] = await attachments();
    expect(attachment?.spec.node).not.to.equal(lost);
    await wrote(2);
    // So that nothing is scheduled to it: the helper pods of local-path tolerate everything.
    await deleted('node', lost);
    await deleted('deployment', 'app', '--cascade=foreground');
    await deleted('pvc', 'survives');
    await gone(90_000, 'unionvolumes');
  });
});
