import { expect } from 'chai';
import type { PersistentVolume, PersistentVolumeClaim } from '../../../src/protocol/objects.ts';
import { FINALIZER } from '../../../src/protocol/resources.ts';
import { type ObservedBranch, type ObservedVolume, planUnionVolume } from '../../../src/union/plan-volume.ts';
import { planVolume, unionVolume } from '../../../src/union/spec.ts';
import { classFacts, GIB, storageClass, volumeOn, volumeRequest } from '../../support/union-objects.ts';

const HOSTNAME = 'kubernetes.io/hostname';
const disks = storageClass('disks', {
  provisioner: 'kubernetes.io/no-provisioner',
  volumeBindingMode: 'WaitForFirstConsumer',
});

/** A union of two branches of 2 GiB each, of static volumes on node-1. */
function union() {
  const request = volumeRequest({
    capacity: { requiredBytes: 4n * GIB, limitBytes: 0n },
    parameters: { lowerStorageClassName: 'disks', branches: '2' },
    nodes: ['node-1'],
  });
  const planned = planVolume(request, classFacts({ storageClasses: [disks] }));
  if (!planned.ok) throw new Error(planned.error.message);
  const made = unionVolume(planned.value);
  return { ...made, metadata: { ...made.metadata, uid: 'uid-union', finalizers: [FINALIZER] } };
}

function disk(name: string, storage: string, fields: Partial<PersistentVolume['spec']> = {}, node = 'node-1') {
  const volume = volumeOn(name, HOSTNAME, [node]);
  const spec = { ...volume.spec, storageClassName: 'disks', capacity: { storage }, accessModes: ['ReadWriteOnce'] };
  return { ...volume, spec: { ...spec, ...fields }, status: { phase: 'Available' } };
}

function observed(unclaimed: readonly PersistentVolume[], branches: [string, ObservedBranch][] = []): ObservedVolume {
  return {
    volume: union(),
    branches: new Map(branches),
    pods: [],
    storageClasses: [disks],
    unclaimed,
    selectedNode: { apiVersion: 'v1', kind: 'Node', metadata: { name: 'node-1', labels: { [HOSTNAME]: 'node-1' } } },
    attachments: [],
    unwanted: false,
    server: { image: 'union-csi' },
    now: '2026-01-01T00:00:00Z',
  };
}

function claimed(facts: ObservedVolume): string[] {
  return planUnionVolume(facts).flatMap((action) =>
    action.kind === 'create-claim' ? (action.claim.spec?.volumeName ?? 'any') : [],
  );
}

function readiness(facts: ObservedVolume) {
  const status = planUnionVolume(facts).find((action) => action.kind === 'update-status')?.status;
  return status?.conditions?.find(({ type }) => type === 'Ready');
}

describe('branches of static volumes that wait for their first consumer', () => {
  it('claim the smallest that fit, each another', () => {
    const free = [disk('small', '1Gi'), disk('huge', '9Gi'), disk('fits', '2Gi'), disk('larger', '3Gi')];
    expect(claimed(observed(free)).sort()).to.deep.equal(['fits', 'larger']);
  });

  it('claim none of another node, mode, access, or that is not free', () => {
    const unfit = [
      disk('elsewhere', '2Gi', {}, 'node-2'),
      disk('raw', '2Gi', { volumeMode: 'Block' }),
      disk('shared', '2Gi', { accessModes: ['ReadOnlyMany'] }),
      { ...disk('released', '2Gi'), status: { phase: 'Released' } },
      disk('other', '2Gi', { storageClassName: 'tapes' }),
    ];
    expect(claimed(observed(unfit))).to.deep.equal([]);
    expect(readiness(observed(unfit))?.reason).to.equal('OutOfSpace');
    expect(readiness(observed(unfit))?.message).to.contain(
      'storage class "disks" has no free volume of 2Gi on node "node-1"',
    );
  });

  it('begin anew when another was faster, and not while it is merely slow', () => {
    const wants = claimOf(observed([disk('fits', '2Gi'), disk('second', '2Gi')]));
    const name = wants.spec!.volumeName!;
    const actions = (volume: PersistentVolume) =>
      planUnionVolume(observed([], [['b0', { claim: wants, volumes: [volume] }]])).map(({ kind }) => kind);
    expect(actions(disk(name, '2Gi'))).not.to.contain('delete-claim');
    const ours = { namespace: wants.metadata.namespace!, name: wants.metadata.name, uid: 'uid-b0' };
    expect(actions(disk(name, '2Gi', { claimRef: ours }))).not.to.contain('delete-claim');
    expect(actions(disk(name, '2Gi', { claimRef: { ...ours, uid: 'uid-earlier' } }))).to.contain('delete-claim');
    expect(actions(disk('unrelated', '2Gi'))).to.contain('delete-claim');
  });
});

/** The claim of b0 as it would be in the cluster. */
function claimOf(facts: ObservedVolume): PersistentVolumeClaim {
  const action = planUnionVolume(facts).find((candidate) => candidate.kind === 'create-claim');
  if (!action) throw new Error('no claim is made');
  return { ...action.claim, metadata: { ...action.claim.metadata, uid: 'uid-b0' } };
}
