import { expect } from 'chai';
import { accessModeOf } from '../../../../src/embedded/sidecars/capability.ts';
import { toNodeAffinity, topologyRequirement } from '../../../../src/embedded/sidecars/topology.ts';

describe('topologyRequirement', () => {
  it('puts the chosen node first and names every node once', () => {
    const all = [{ host: 'a' }, { host: 'b' }, { host: 'c' }];
    const { preferred, requisite } = topologyRequirement(all, { host: 'b' });
    expect(preferred?.map(({ segments }) => segments?.host)).to.deep.equal(['b', 'a', 'c']);
    expect(requisite).to.have.length(3);
  });
});

describe('toNodeAffinity', () => {
  it('makes alternatives of topologies, and a condition of each segment', () => {
    expect(toNodeAffinity([{ segments: { zone: 'z', host: 'a' } }, { segments: { host: 'b' } }])).to.deep.equal({
      required: {
        nodeSelectorTerms: [
          {
            matchExpressions: [
              { key: 'host', operator: 'In', values: ['a'] },
              { key: 'zone', operator: 'In', values: ['z'] },
            ],
          },
          { matchExpressions: [{ key: 'host', operator: 'In', values: ['b'] }] },
        ],
      },
    });
  });

  it('is nothing for a volume that is everywhere', () => {
    expect(toNodeAffinity([])).to.equal(undefined);
  });
});

describe('accessModeOf', () => {
  it('uses the finer single-node modes only for drivers that know them', () => {
    expect(accessModeOf('ReadWriteOnce', new Set())).to.equal('SINGLE_NODE_WRITER');
    expect(accessModeOf('ReadWriteOnce', new Set(['SINGLE_NODE_MULTI_WRITER']))).to.equal('SINGLE_NODE_MULTI_WRITER');
    expect(accessModeOf('ReadWriteOncePod', new Set(['SINGLE_NODE_MULTI_WRITER']))).to.equal(
      'SINGLE_NODE_SINGLE_WRITER',
    );
  });
});
