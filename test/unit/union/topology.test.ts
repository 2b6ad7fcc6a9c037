/** Where a union can be used; the law is in test/property/topology.test.ts. */
import { expect } from 'chai';
import { intersectTopology } from '../../../src/union/topology.ts';
import { persistentVolume, volumeOn } from '../../support/union-objects.ts';

const HOST = 'kubernetes.io/hostname';
const ZONE = 'topology.kubernetes.io/zone';

function intersection(...volumes: Parameters<typeof volumeOn>[]) {
  const result = intersectTopology(
    volumes.map((args, index) => ({ branchId: `b${index}`, volume: volumeOn(...args) })),
  );
  return result.ok ? result.value : result.error;
}

describe('intersectTopology', () => {
  it('is anywhere for volumes that any node reaches', () => {
    const volume = persistentVolume('pv');
    expect(intersectTopology([{ branchId: 'b0', volume }])).to.deep.equal({ ok: true, value: [] });
    expect(intersectTopology([])).to.deep.equal({ ok: true, value: [] });
  });

  it('is the places that all have', () => {
    expect(intersection(['a', HOST, ['n1', 'n2']], ['b', HOST, ['n2', 'n3']])).to.deep.equal([{ [HOST]: 'n2' }]);
  });

  it('demands every key', () => {
    expect(intersection(['a', HOST, ['n1']], ['b', ZONE, ['z1', 'z2']])).to.deep.equal([
      { [HOST]: 'n1', [ZONE]: 'z1' },
      { [HOST]: 'n1', [ZONE]: 'z2' },
    ]);
  });

  it('names the branches that have no place in common', () => {
    expect(intersection(['a', HOST, ['n1']], ['b', HOST, ['n2']])).to.deep.equal({
      code: 'FAILED_PRECONDITION',
      message: `no node can reach all branches: b0 (${HOST} n1), b1 (${HOST} n2); make them in one place`,
    });
  });

  it('takes any of several terms', () => {
    const nodeSelectorTerms = ['n1', 'n2'].map((node) => ({
      matchFields: [{ key: 'metadata.name', operator: 'In', values: [node] }],
    }));
    const volume = persistentVolume('a', { nodeAffinity: { required: { nodeSelectorTerms } } });
    const result = intersectTopology([
      { branchId: 'b0', volume },
      { branchId: 'b1', volume: volumeOn('b', HOST, ['n2']) },
    ]);
    expect(result).to.deep.equal({ ok: true, value: [{ [HOST]: 'n2' }] });
  });

  it('refuses an affinity that a topology cannot say', () => {
    const nodeSelectorTerms = [{ matchExpressions: [{ key: ZONE, operator: 'NotIn', values: ['z1'] }] }];
    const volume = persistentVolume('a', { nodeAffinity: { required: { nodeSelectorTerms } } });
    const result = intersectTopology([{ branchId: 'b0', volume }]);
    expect(result.ok ? '' : result.error.message).to.match(
      /^volume "a" has a node affinity with operator NotIn on topology/,
    );
  });
});
