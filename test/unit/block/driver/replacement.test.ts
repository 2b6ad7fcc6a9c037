import { expect } from 'chai';
import type { PoolFacts } from '../../../../src/block/driver/placement.ts';
import { decideReplacement, type ReplacementFacts } from '../../../../src/block/driver/replacement.ts';
import type { BlockVolume, BlockVolumeStatus } from '../../../../src/protocol/block-resources.ts';

function pool(node: string, more: Partial<PoolFacts> = {}): PoolFacts {
  return { node, capacityBytes: 1n << 40n, reservedBytes: 0n, volumes: 0, silentMs: 0, spreadValue: node, ...more };
}

const silentPool = (node: string) => pool(node, { silentMs: 700_000 });

function facts(pools: readonly PoolFacts[], more: Partial<ReplacementFacts> = {}): ReplacementFacts {
  return { pools, gone: new Map(), silent: new Set(), delay: '10 min', ...more };
}

/** Members a, b, …, of which the first ones are in sync. */
function volume(members: readonly string[], inSync: number, status: BlockVolumeStatus = {}): BlockVolume {
  const config = { version: 3, epoch: '2', primary: members[0]!, inSync: members.slice(0, inSync), members };
  return {
    apiVersion: 'union.csi.dev/v1alpha1',
    kind: 'BlockVolume',
    metadata: { name: 'bv-1' },
    spec: { volumeName: 'v', capacityBytes: String(1 << 30), pool: 'default', minInSync: 1, members },
    status: { config, ...status },
  };
}

describe('decideReplacement', () => {
  it('waits for a silent node, and says for how long', () => {
    const verdict = decideReplacement(volume(['a', 'b'], 1), facts([pool('a'), silentPool('b'), pool('c')]));
    expect(verdict).to.deep.equal({
      kind: 'wait',
      why: 'delay',
      message: 'the replica on b is made elsewhere once nothing has been heard of there for 10 min',
    });
  });

  it('replaces after that, and says why', () => {
    const known = facts([pool('a'), silentPool('b'), pool('c')], { silent: new Set(['b']) });
    expect(decideReplacement(volume(['a', 'b'], 1), known)).to.deep.equal({
      ...{ kind: 'replace', lost: 'b', next: 'c' },
      message: 'the replica on b is replaced by one on c: b has not been heard of for 10 min',
    });
  });

  it('does not wait for a node that was declared to be gone', () => {
    const known = facts([pool('a'), pool('c')], { gone: new Map([['b', 'is not in the cluster any more']]) });
    expect(decideReplacement(volume(['a', 'b'], 1), known)).to.include({ kind: 'replace', lost: 'b', next: 'c' });
  });

  it('leaves alone who is in sync, also when it is lost, and whoever is there', () => {
    const known = facts([pool('a'), silentPool('b'), pool('c')], { silent: new Set(['b']) });
    expect(decideReplacement(volume(['a', 'b'], 2), known).kind).to.equal('nothing');
    expect(decideReplacement(volume(['a', 'c'], 1), known).kind).to.equal('nothing');
  });

  it('replaces nothing when more than one and more than a third of the nodes are silent, and says which', () => {
    const known = (...others: readonly PoolFacts[]) =>
      facts([pool('a'), silentPool('b'), silentPool('c'), pool('d'), ...others], { silent: new Set(['b']) });
    const verdict = decideReplacement(volume(['a', 'b'], 1), known(pool('e')));
    expect(verdict).to.include({ kind: 'wait', why: 'many-silent' });
    expect(verdict.kind === 'wait' && verdict.message).to.equal(
      'b has not been heard of for 10 min; its replica is not made elsewhere: 2 of 5 nodes of pool "default" are silent (b, c), as when ' +
        'a network is cut or power fails; bring them back, or take those that are gone for good out of the cluster',
    );
    expect(decideReplacement(volume(['a', 'b'], 1), known(pool('e'), pool('f'))).kind).to.equal('replace');
    const declared = { ...known(), gone: new Map([['c', 'is not in the cluster any more']]) };
    expect(decideReplacement(volume(['a', 'b'], 1), declared).kind).to.equal('replace');
  });

  it('waits until somebody in sync is there', () => {
    const known = facts([silentPool('a'), pool('c'), pool('d')], { gone: new Map([['b', 'is gone']]) });
    expect(decideReplacement(volume(['a', 'b'], 1), known)).to.include({ kind: 'wait', why: 'nobody-in-sync' });
  });

  it('replaces one after the other, unless the other has failed', () => {
    const known = facts([pool('a'), pool('b'), pool('d')], { gone: new Map([['c', 'is gone']]) });
    expect(decideReplacement(volume(['a', 'b', 'c'], 1), known)).to.include({ kind: 'wait', why: 'another-first' });
    const replicas = { b: { phase: 'Failed' } } as const;
    expect(decideReplacement(volume(['a', 'b', 'c'], 1, { replicas }), known)).to.include({
      kind: 'replace',
      next: 'd',
    });
  });

  it('says what is missing when there is no place', () => {
    const known = facts([pool('a'), pool('c', { spreadValue: 'a' })], { gone: new Map([['b', 'is gone']]) });
    const verdict = decideReplacement(volume(['a', 'b'], 1), known);
    expect(verdict).to.include({ kind: 'wait', why: 'no-place' });
    expect(verdict.kind === 'wait' && verdict.message).to.include('c: shares kubernetes.io/hostname=a with a');
  });

  it('takes a former member only when there is nobody else, in the room of its files, and not one that has failed', () => {
    const gone = new Map([['b', 'is gone']]);
    const full = pool('d', { capacityBytes: 2n << 30n, reservedBytes: 2n << 30n });
    const known = (...others: readonly PoolFacts[]) => facts([pool('a'), full, ...others], { gone });
    const former = (phase: 'Ready' | 'Failed') => volume(['a', 'b'], 1, { replicas: { d: { phase } } });
    expect(decideReplacement(former('Ready'), known(pool('c')))).to.include({ kind: 'replace', next: 'c' });
    expect(decideReplacement(former('Ready'), known())).to.include({ kind: 'replace', next: 'd' });
    expect(decideReplacement(former('Failed'), known())).to.include({ kind: 'wait', why: 'no-place' });
    expect(decideReplacement(volume(['a', 'b'], 1), known())).to.include({ kind: 'wait', why: 'no-place' });
  });
});
