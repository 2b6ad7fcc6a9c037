/** Lower claims: which are ours. What they look like is in test/transcript/plan. */
import { expect } from 'chai';
import type { ObjectMeta } from '../../../src/protocol/objects.ts';
import { isOurClaim, lowerClaim } from '../../../src/union/lower-claims.ts';
import { planVolume, unionVolume } from '../../../src/union/spec.ts';
import { classFacts, storageClass, volumeRequest } from '../../support/union-objects.ts';

const planned = planVolume(volumeRequest({ accessModes: ['ReadWriteMany'], nodes: ['node-1'] }), classFacts());
if (!planned.ok) throw new Error(planned.error.message);
const made = unionVolume(planned.value);
const volume = { ...made, metadata: { ...made.metadata, uid: 'uid-1' } };
const branch = volume.spec.branches[0]!;
const waiting = storageClass('fast', { volumeBindingMode: 'WaitForFirstConsumer' });

describe('lowerClaim', () => {
  it('asks for the access mode that a server on every node needs', () => {
    expect(lowerClaim(volume, branch, undefined).spec?.accessModes).to.deep.equal(['ReadWriteMany']);
  });

  it('names the node only where the class waits for one', () => {
    const nodeOf = (...args: Parameters<typeof lowerClaim>) =>
      lowerClaim(...args).metadata.annotations?.['volume.kubernetes.io/selected-node'];
    expect(nodeOf(volume, branch, waiting)).to.equal('node-1');
    expect(nodeOf(volume, branch, storageClass('fast'))).to.equal(undefined);
  });
});

describe('isOurClaim', () => {
  const claim = lowerClaim(volume, branch, waiting);
  const withMeta = (change: Partial<ObjectMeta>) => ({ ...claim, metadata: { ...claim.metadata, ...change } });

  it('trusts what we made', () => expect(isOurClaim(volume, branch, claim)).to.equal(true));

  it('trusts no claim of an earlier union of the same name', () => {
    const earlier = { ...volume, metadata: { ...volume.metadata, uid: 'uid-0' } };
    expect(isOurClaim(earlier, branch, claim)).to.equal(false);
  });

  it('trusts no claim of another branch, and none without owner or labels', () => {
    expect(isOurClaim(volume, volume.spec.branches[1]!, claim)).to.equal(false);
    expect(isOurClaim(volume, branch, withMeta({ ownerReferences: [] }))).to.equal(false);
    expect(isOurClaim(volume, branch, withMeta({ labels: {} }))).to.equal(false);
  });
});
