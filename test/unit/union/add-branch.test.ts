import { expect } from 'chai';
import type { UnionVolume } from '../../../src/protocol/resources.ts';
import { type AddBranchFacts, branchToAdd, type WantedBranch } from '../../../src/union/add-branch.ts';
import { claim, GIB, MIB, podUsing, storageClass } from '../../support/union-objects.ts';

const facts: AddBranchFacts = {
  storageClasses: [
    storageClass('fast'),
    storageClass('disks', { provisioner: 'kubernetes.io/no-provisioner' }),
    storageClass('union', { provisioner: 'union.csi.dev' }),
  ],
  claims: [claim('old', { volumeName: 'pv-old', size: '2Gi' }), claim('files', { storageClassName: 'union' })],
  pods: [],
};

function volume(namespace: string, accessModes: UnionVolume['spec']['accessModes'] = ['ReadWriteOnce']): UnionVolume {
  const branch = (id: string) => ({
    ...({
      id,
      mode: 'RW',
      origin: 'created',
      storageClassName: 'fast',
      sizeBytes: String(GIB),
      desired: 'active',
    } as const),
    claim: { namespace, name: `uv-1-${id}` },
  });
  return {
    apiVersion: 'union.csi.dev/v1alpha1',
    kind: 'UnionVolume',
    metadata: { name: 'uv-1' },
    spec: {
      claim: { namespace: 'shop', name: 'files' },
      volumeName: 'pvc-1',
      capacityBytes: String(2n * GIB),
      accessModes,
      branches: [branch('b0'), branch('b4')],
      policies: { create: 'mfs', action: 'epall', search: 'ff' },
      expandStrategy: 'grow',
      mountOptions: [],
    },
  };
}

const created: WantedBranch = { mode: 'RW', minFreeSpaceBytes: MIB, storageClassName: 'fast', sizeBytes: GIB };
const adopted: WantedBranch = { mode: 'RO', minFreeSpaceBytes: undefined, claim: 'old' };

function refusal(made: ReturnType<typeof branchToAdd>): string {
  return made.ok ? expect.fail('it was not refused') : made.error.message;
}

describe('branchToAdd', () => {
  it('puts a new volume behind the others, under an id that was never used', () => {
    const made = branchToAdd(volume('union-csi'), created, facts);
    if (!made.ok) return expect.fail(made.error.message);
    const { spec, added } = made.value;
    expect(added).to.deep.equal({
      ...{ id: 'b5', mode: 'RW', origin: 'created', storageClassName: 'fast', desired: 'active' },
      ...{ sizeBytes: String(GIB), minFreeSpaceBytes: String(MIB) },
      claim: { namespace: 'union-csi', name: 'uv-1-b5' },
    });
    expect(spec.branches.map(({ id }) => id)).to.deep.equal(['b0', 'b4', 'b5']);
    expect(spec.capacityBytes).to.equal(String(3n * GIB));
  });

  it('adopts a claim of the namespace that the branches are in', () => {
    const made = branchToAdd(volume('shop'), adopted, facts);
    if (!made.ok) return expect.fail(made.error.message);
    expect(made.value.added).to.deep.equal({
      ...{ id: 'b5', mode: 'RO', origin: 'adopted', desired: 'active' },
      claim: { namespace: 'shop', name: 'old' },
    });
    expect(made.value.spec.capacityBytes).to.equal(String(4n * GIB));
    expect(refusal(branchToAdd(volume('union-csi'), adopted, facts))).to.include('in namespace "union-csi"');
  });

  it('refuses what could not be, and says why', () => {
    const pods = [podUsing('old', { name: 'web' })];
    expect(refusal(branchToAdd(volume('shop'), adopted, { ...facts, pods }))).to.include('in use by pod "web"');
    expect(refusal(branchToAdd(volume('shop'), { ...adopted, claim: 'files' }, facts))).to.include('branch of itself');
    const nested = { ...created, storageClassName: 'union' };
    expect(refusal(branchToAdd(volume('union-csi'), nested, facts))).to.include(
      'no storage class that a branch can be of',
    );
    const tiny = { ...created, sizeBytes: MIB };
    expect(refusal(branchToAdd(volume('union-csi'), tiny, facts))).to.include('at least 16Mi');
    const many = volume('union-csi', ['ReadWriteMany']);
    const local = { ...created, storageClassName: 'disks' };
    expect(refusal(branchToAdd(many, local, facts))).to.include('access mode ReadWriteMany needs it of every branch');
    const going = { ...many, metadata: { name: 'uv-1', deletionTimestamp: '2026-01-01T00:00:00Z' } };
    expect(refusal(branchToAdd(going, created, facts))).to.include('is being deleted');
  });
});
