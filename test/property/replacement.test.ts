/** Replacement of lost members: whatever the cluster looks like, nobody is replaced who may be needed, and nobody for whom there is no reason. */
import { expect } from 'chai';
import fc from 'fast-check';
import { type PoolFacts, SILENT_LIMIT_MS } from '../../src/block/driver/placement.ts';
import { decideReplacement, type ReplacementFacts } from '../../src/block/driver/replacement.ts';
import { toEpoch } from '../../src/block/units.ts';
import { withReplacement } from '../../src/block/volume-config.ts';
import type { BlockVolume } from '../../src/protocol/block-resources.ts';

const GIB = 1n << 30n;
const NAMES = ['node-0', 'node-1', 'node-2', 'node-3', 'node-4', 'node-5'];

const pool = fc.record({
  capacityBytes: fc.constantFrom(0n, 20n * GIB, 20n * GIB, 20n * GIB),
  reservedBytes: fc.constant(0n),
  volumes: fc.nat(5),
  silentMs: fc.constantFrom(0, 0, 0, SILENT_LIMIT_MS, SILENT_LIMIT_MS + 1),
  spreadValue: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', undefined),
});

const facts: fc.Arbitrary<ReplacementFacts> = fc
  .record({
    pools: fc.array(pool, { minLength: 3, maxLength: NAMES.length }),
    gone: fc.subarray(NAMES, { minLength: 1, maxLength: 3 }),
    silent: fc.subarray(NAMES, { maxLength: 2 }),
  })
  .map(({ pools, gone, silent }) => ({
    pools: pools.map((each, index): PoolFacts => ({ ...each, node: NAMES[index]! })),
    gone: new Map(gone.map((node) => [node, 'is gone'])),
    silent: new Set(silent),
    delay: '10 min',
  }));

const volumes: fc.Arbitrary<BlockVolume> = fc
  .record({
    members: fc.shuffledSubarray(NAMES, { minLength: 2, maxLength: 3 }),
    synced: fc.integer({ min: 1, max: 2 }),
    failed: fc.subarray(NAMES),
    former: fc.subarray(NAMES, { maxLength: 1 }),
  })
  .map(({ members, synced, failed, former }) => {
    const phaseOf = (node: string) => (failed.includes(node) ? 'Failed' : 'Ready');
    return {
      apiVersion: 'union.csi.dev/v1alpha1',
      kind: 'BlockVolume',
      metadata: { name: 'bv-1' },
      spec: { volumeName: 'v', capacityBytes: String(GIB), pool: 'default', minInSync: 1, members, spread: 'zone' },
      status: {
        config: { version: 7, epoch: '3', primary: members[0]!, inSync: members.slice(0, synced), members },
        replicas: Object.fromEntries([...members, ...former].map((node) => [node, { phase: phaseOf(node) }])),
      },
    };
  });

const present = ({ pools, gone, silent }: ReplacementFacts) =>
  pools.filter(({ node, silentMs }) => silentMs <= SILENT_LIMIT_MS && !gone.has(node) && !silent.has(node));

describe('replacement of lost members', () => {
  it('takes the place of one that is lost and not in sync, and of no other', () => {
    let replaced = 0;
    fc.assert(
      fc.property(volumes, facts, (volume, known) => {
        const verdict = decideReplacement(volume, known);
        if (verdict.kind !== 'replace') return;
        replaced++;
        const { lost } = verdict;
        const { members, inSync } = volume.status!.config!;
        expect(members).to.include(lost);
        expect(inSync).not.to.include(lost);
        expect(known.gone.has(lost) || known.silent.has(lost)).to.equal(true);
        expect(present(known).some(({ node }) => inSync.includes(node))).to.equal(true);
        const config = { ...volume.status!.config!, epoch: toEpoch(3) };
        const successor = withReplacement(config, lost, verdict.next);
        expect(successor).to.deep.include({ version: 8, inSync, primary: config.primary, epoch: config.epoch });
        expect(new Set(successor!.members).size).to.equal(members.length);
      }),
      { numRuns: 2000 },
    );
    expect(replaced).to.be.above(20);
  });

  it('gives it to a node that is there, has room, and shares no place with the members that stay', () => {
    fc.assert(
      fc.property(volumes, facts, (volume, known) => {
        const verdict = decideReplacement(volume, known);
        if (verdict.kind !== 'replace') return;
        const next = present(known).find(({ node }) => node === verdict.next)!;
        const { members, inSync } = volume.status!.config!;
        expect(next.spreadValue).not.to.equal(undefined);
        const former = volume.status?.replicas?.[verdict.next];
        if (former === undefined) expect(next.capacityBytes > 0n).to.equal(true);
        else {
          // It has room for the files that it has.
          expect(former.phase).to.equal('Ready');
          const others = { ...known, pools: known.pools.filter((pool) => pool !== next) };
          expect(decideReplacement(volume, others)).not.to.include({ kind: 'replace' });
        }
        const staying = members.filter(
          (node) => inSync.includes(node) || present(known).some((each) => each.node === node),
        );
        const places = known.pools.filter(({ node }) => staying.includes(node)).map(({ spreadValue }) => spreadValue);
        expect(places).not.to.include(next.spreadValue);
      }),
      { numRuns: 2000 },
    );
  });

  it('replaces nothing while more than one and more than a third of the nodes are silent', () => {
    fc.assert(
      fc.property(volumes, facts, (volume, known) => {
        const nodes = known.pools.filter(({ node }) => !known.gone.has(node)).length;
        const silent = nodes - present(known).length;
        if (silent > 1 && silent * 3 > nodes) expect(decideReplacement(volume, known).kind).not.to.equal('replace');
      }),
    );
  });
});
