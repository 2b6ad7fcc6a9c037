/** The server pod: what it mounts, what it may, where it runs. */
import { expect } from 'chai';
import type { UnionAttachment, UnionVolume } from '../../../src/protocol/resources.ts';
import { attachmentNameOf } from '../../../src/union/ids.ts';
import { serverPod } from '../../../src/union/server-pod.ts';
import { planVolume, unionVolume } from '../../../src/union/spec.ts';
import { classFacts, volumeRequest } from '../../support/union-objects.ts';

const bound = (id: string) => ({ id, phase: 'Bound' as const });

function volume(parameters: Record<string, string> = {}): UnionVolume {
  const request = volumeRequest();
  const planned = planVolume({ ...request, parameters: { ...request.parameters, ...parameters } }, classFacts());
  if (!planned.ok) throw new Error(planned.error.message);
  return { ...unionVolume(planned.value), status: { branches: ['b0', 'b1', 'b2', 'b3'].map(bound) } };
}

function podOf(of: UnionVolume) {
  const attachment: UnionAttachment = {
    apiVersion: 'union.csi.dev/v1alpha1',
    kind: 'UnionAttachment',
    metadata: { name: attachmentNameOf(of.metadata.name, 'node-1'), uid: 'uid-1' },
    spec: { volume: of.metadata.name, node: 'node-1', readOnly: false },
  };
  const pod = serverPod(of, attachment, { image: 'union-csi@sha256:0' });
  return { pod, container: pod.spec!.containers[0]!, config: JSON.parse(pod.spec!.containers[0]!.args![3]!) };
}

describe('serverPod', () => {
  it('is bound to its node by affinity, so that the scheduler counts it', () => {
    const { spec } = podOf(volume()).pod;
    expect(spec?.nodeName).to.equal(undefined);
    expect(
      spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms,
    ).to.deep.equal([{ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['node-1'] }] }]);
  });

  it('belongs to its attachment', () => {
    const { metadata } = podOf(volume()).pod;
    expect(metadata.name).to.match(/^ua-[0-9a-f]{32}$/);
    expect(metadata.ownerReferences?.[0]).to.include({ kind: 'UnionAttachment', uid: 'uid-1', controller: true });
  });

  it('mounts every branch where its configuration says', () => {
    const { pod, container, config } = podOf(volume());
    expect(config.branches.map((branch: { path: string }) => branch.path)).to.deep.equal(
      container.volumeMounts?.slice(1).map(({ mountPath }) => mountPath),
    );
    expect(pod.spec?.volumes?.[1]).to.deep.equal({
      name: 'b0',
      persistentVolumeClaim: { claimName: `${volume().metadata.name}-b0` },
    });
    expect(container.volumeMounts?.[0]).to.deep.equal({ name: 'run', mountPath: '/run/union' });
  });

  it('leaves out a branch that is not there yet', () => {
    const growing = { ...volume(), status: { branches: [bound('b0'), { id: 'b1', phase: 'Pending' as const }] } };
    expect(podOf(growing).config.branches).to.have.length(1);
  });

  it('has SYS_ADMIN and passthrough in our own namespace only', () => {
    const own = podOf(volume());
    expect(own.container.securityContext?.capabilities?.add).to.include('SYS_ADMIN');
    expect(own.config.passthrough).to.equal(true);
    const foreign = podOf(volume({ branchNamespace: 'claim' }));
    expect(foreign.pod.metadata.namespace).to.equal('shop');
    expect(foreign.container.securityContext?.capabilities?.add).to.not.include.members([
      'SYS_ADMIN',
      'DAC_READ_SEARCH',
    ]);
    expect(foreign.config.passthrough).to.equal(false);
  });

  it('shares its cache with nobody unless others write too', () => {
    const one = volume();
    expect(podOf(one).config.cache).to.equal('exclusive');
    expect(podOf({ ...one, spec: { ...one.spec, accessModes: ['ReadWriteMany'] } }).config.cache).to.equal('shared');
  });

  it('passes the reserve of each branch on as a number', () => {
    expect(podOf(volume({ minFreeSpace: '1Gi' })).config.branches[0].minFreeSpaceBytes).to.equal(1024 ** 3);
  });
});
