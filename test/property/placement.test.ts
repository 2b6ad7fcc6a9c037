/** Placement of block replicas: whatever the pools, an answer is a right one, and a refusal is not a mistake. */
import { expect } from 'chai';
import fc from 'fast-check';
import {
  type PlacementWish,
  type PoolFacts,
  placeReplicas,
  SILENT_LIMIT_MS,
} from '../../src/block/driver/placement.ts';

const GIB = 1n << 30n;

const poolFacts = fc.record({
  capacityBytes: fc.bigInt({ min: 0n, max: 20n * GIB }),
  reservedBytes: fc.bigInt({ min: 0n, max: 20n * GIB }),
  volumes: fc.nat(5),
  silentMs: fc.constantFrom(0, 30_000, SILENT_LIMIT_MS, SILENT_LIMIT_MS + 1),
  spreadValue: fc.constantFrom('a', 'b', 'c', undefined),
});

const pools: fc.Arbitrary<readonly PoolFacts[]> = fc
  .array(poolFacts, { maxLength: 6 })
  .map((facts) => facts.map((fact, index) => ({ ...fact, node: `node-${index}` })));

const wishes: fc.Arbitrary<PlacementWish> = fc.record({
  replicas: fc.integer({ min: 1, max: 3 }),
  replicaBytes: fc.bigInt({ min: 1n, max: 10n * GIB }),
  pool: fc.constant('default'),
  spread: fc.constant('zone'),
  preferredNode: fc.constantFrom(undefined, 'node-0', 'node-3'),
});

function suits({ capacityBytes, reservedBytes, silentMs, spreadValue }: PoolFacts, wish: PlacementWish): boolean {
  const fits = capacityBytes - reservedBytes >= wish.replicaBytes;
  return fits && silentMs <= SILENT_LIMIT_MS && spreadValue !== undefined;
}

describe('placement of replicas', () => {
  it('gives as many nodes as asked for, which all suit and share no place', () => {
    fc.assert(
      fc.property(pools, wishes, (facts, wish) => {
        const placed = placeReplicas(facts, wish);
        if (!placed.ok) return;
        const chosen = placed.value.map((node) => facts.find((pool) => pool.node === node)!);
        expect(chosen).to.have.length(wish.replicas);
        expect(chosen.every((pool) => suits(pool, wish))).to.equal(true);
        expect(new Set(chosen.map(({ spreadValue }) => spreadValue)).size).to.equal(wish.replicas);
      }),
    );
  });

  it('refuses only when there are too few places, and then says why of every node that was not found', () => {
    fc.assert(
      fc.property(pools, wishes, (facts, wish) => {
        const placed = placeReplicas(facts, wish);
        const places = new Set(facts.filter((pool) => suits(pool, wish)).map(({ spreadValue }) => spreadValue));
        expect(placed.ok).to.equal(places.size >= wish.replicas);
        if (placed.ok) return;
        for (const { node } of facts) expect(placed.error).to.include(node);
      }),
    );
  });

  it('does not depend on the order in which nodes are told', () => {
    fc.assert(
      fc.property(pools, wishes, (facts, wish) => {
        expect(placeReplicas([...facts].reverse(), wish)).to.deep.equal(placeReplicas(facts, wish));
      }),
    );
  });

  it('puts a replica where the pod will run, and first, when that node suits', () => {
    fc.assert(
      fc.property(pools, wishes, (facts, wish) => {
        const preferred = facts.find(({ node }) => node === wish.preferredNode);
        const placed = placeReplicas(facts, wish);
        if (!placed.ok || preferred === undefined || !suits(preferred, wish)) return;
        expect(placed.value[0]).to.equal(wish.preferredNode);
      }),
    );
  });

  it('names the closest miss first', () => {
    const pool = { reservedBytes: 0n, volumes: 0, silentMs: 0 };
    const facts: PoolFacts[] = [
      { ...pool, node: 'node-1', capacityBytes: 1n * GIB, spreadValue: 'a' },
      { ...pool, node: 'node-2', capacityBytes: 7n * GIB, spreadValue: 'b' },
      { ...pool, node: 'node-3', capacityBytes: 20n * GIB, spreadValue: 'c' },
      { ...pool, node: 'node-4', capacityBytes: 20n * GIB, spreadValue: 'd', silentMs: 120_000 },
    ];
    const wish = { replicas: 2, replicaBytes: 10n * GIB, pool: 'default', spread: 'zone' };
    const placed = placeReplicas(facts, wish);
    expect(!placed.ok && placed.error).to.equal(
      'no place for 2 replicas of 10.0 GiB in pool "default": found node-3; node-2: 3.00 GiB short; ' +
        'node-1: 9.00 GiB short; node-4: not heard of for 120 s; add nodes or space, or ask for less',
    );
  });
});
