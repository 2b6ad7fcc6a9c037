/** The law of topology: a node can use the union exactly if it can reach every branch. */
import { expect } from 'chai';
import fc from 'fast-check';
import type { PersistentVolume } from '../../src/protocol/objects.ts';
import { intersectTopology, type Topology } from '../../src/union/topology.ts';
import { persistentVolume } from '../support/union-objects.ts';

const KEYS = ['host', 'zone', 'rack'];
const VALUES = ['1', '2', '3'];

const expression = fc.record({
  key: fc.constantFrom(...KEYS),
  operator: fc.constant('In'),
  values: fc.subarray(VALUES, { minLength: 1 }),
});
const term = fc.record({ matchExpressions: fc.array(expression, { minLength: 1, maxLength: 3 }) });
const volume = fc
  .array(term, { maxLength: 3 })
  .map((nodeSelectorTerms) =>
    persistentVolume('pv', nodeSelectorTerms.length > 0 ? { nodeAffinity: { required: { nodeSelectorTerms } } } : {}),
  );

const everyNode: readonly Topology[] = VALUES.flatMap((host) =>
  VALUES.flatMap((zone) => VALUES.map((rack) => ({ host, zone, rack }))),
);

function reaches(node: Topology, { spec }: PersistentVolume): boolean {
  const terms = spec?.nodeAffinity?.required?.nodeSelectorTerms;
  return (
    !terms ||
    terms.some(({ matchExpressions = [] }) => matchExpressions.every(({ key, values }) => values?.includes(node[key]!)))
  );
}

function matches(node: Topology, topologies: readonly Topology[]): boolean {
  return (
    topologies.length === 0 ||
    topologies.some((topology) => Object.entries(topology).every(([key, value]) => node[key] === value))
  );
}

describe('intersectTopology', () => {
  it('matches exactly the nodes that reach every branch', () => {
    fc.assert(
      fc.property(fc.array(volume, { minLength: 1, maxLength: 4 }), (volumes) => {
        const result = intersectTopology(volumes.map((each, index) => ({ branchId: `b${index}`, volume: each })));
        for (const node of everyNode) {
          const wanted = volumes.every((each) => reaches(node, each));
          expect(result.ok && matches(node, result.value)).to.equal(wanted);
        }
      }),
    );
  });
});
