/**
 * Plans converge: whatever order our actions and the cluster's steps come in, and wherever our process ends between two
 * actions, the end is the same.
 */
import { expect } from 'chai';
import fc from 'fast-check';
import { UnionWorld } from '../support/union-world.ts';

const LISTS = [
  '- {storageClassName: fast, count: 3}',
  '- {storageClassName: waiting, count: 2}',
  '- {storageClassName: fast}\n- {claim: data}',
  '- {claim: data, mode: RO}\n- {claim: late, grow: true}\n- {storageClassName: waiting, count: 2}',
];

/** One step: of ours, with how many actions of the plan are done before we are killed, or of others. */
type Step =
  | { readonly who: 'volume' | 'node-1' | 'node-2'; readonly actions: number }
  | { readonly who: 'others'; readonly pick: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    who: fc.constantFrom('volume' as const, 'node-1' as const, 'node-2' as const),
    actions: fc.nat({ max: 6 }),
  }),
  fc.record({ who: fc.constant('others' as const), pick: fc.nat({ max: 20 }) }),
);
const steps = fc.array(step, { maxLength: 40 });

function newWorld(list: string): UnionWorld {
  const world = new UnionWorld();
  world.addClaim('data', 'pv-data');
  world.addClaim('late', undefined);
  world.request(list);
  return world;
}

function run(world: UnionWorld, taken: readonly Step[]): void {
  for (const { who, ...how } of taken) {
    if ('pick' in how) {
      const moves = [...world.moves().values()];
      moves[how.pick % Math.max(moves.length, 1)]?.();
    } else if (who === 'volume') {
      for (const action of world.planVolume().slice(0, how.actions)) world.applyVolume(action);
    } else {
      for (const action of world.planAttachment(who).slice(0, how.actions)) world.applyAttachment(who, action);
    }
  }
}

/** Everything goes on until nobody has anything to do. */
function settle(world: UnionWorld): void {
  for (let round = 0; round < 100; round++) {
    const plans = [world.planVolume(), world.planAttachment('node-1'), world.planAttachment('node-2')] as const;
    const moves = world.moves();
    if (moves.size === 0 && plans.every((plan) => plan.length === 0)) return;
    run(world, [
      ...(['volume', 'node-1', 'node-2'] as const).map((who) => ({ who, actions: 100 })),
      ...[...moves].map((_, pick) => ({ who: 'others' as const, pick })),
    ]);
  }
  throw new Error('does not come to rest');
}

/** What is there, without the marks of the way there. */
function picture(world: UnionWorld) {
  const { volume } = world;
  return {
    phase: volume?.status?.phase,
    branches: volume?.status?.branches?.map(({ id, phase, capacityBytes, message }) => [
      id,
      phase,
      capacityBytes,
      message,
    ]),
    conditions: volume?.status?.conditions?.map(({ type, status, reason, message }) => [type, status, reason, message]),
    topology: volume?.status?.accessibleTopology,
    claims: [...world.claims.values()]
      .map(({ metadata, spec, status }) => [
        metadata.name,
        metadata.annotations,
        metadata.finalizers,
        spec?.resources,
        status?.phase,
      ])
      .sort(),
    volumes: world.volumes.size,
    pods: [...world.pods.values()].map(({ metadata, status }) => [metadata.name, status?.phase]),
    attachments: [...world.attachments].map(([node, { status }]) => [
      node,
      status?.phase,
      status?.conditions?.[0]?.reason,
    ]),
  };
}

describe('plans of a union', () => {
  for (const [index, list] of LISTS.entries()) {
    it(`make list ${index} ready by any way, cut off anywhere`, () => {
      const straight = newWorld(list);
      settle(straight);
      expect(straight.volume?.status?.phase).to.equal('Ready');
      fc.assert(
        fc.property(steps, (taken) => {
          const world = newWorld(list);
          run(world, taken);
          settle(world);
          expect(picture(world)).to.deep.equal(picture(straight));
        }),
        { numRuns: 150 },
      );
    });

    it(`leave nothing of list ${index} behind but what was adopted, as it was`, () => {
      const before = newWorld('- {storageClassName: fast}');
      before.volume = undefined;
      fc.assert(
        fc.property(steps, steps, fc.boolean(), (taken, during, attached) => {
          const world = newWorld(list);
          run(world, taken);
          if (attached) world.attach('node-1');
          run(world, during);
          world.detach('node-1');
          world.deleteVolume();
          run(world, during);
          settle(world);
          expect(world.volume).to.equal(undefined);
          expect([...world.claims.keys()]).to.deep.equal(['data', 'late']);
          for (const { metadata } of world.claims.values()) {
            expect(metadata.deletionTimestamp).to.equal(undefined);
            expect(metadata.annotations).to.deep.equal({});
            expect(metadata.finalizers ?? []).to.deep.equal([]);
          }
          expect([...world.pods.keys()]).to.deep.equal([]);
          const owners = [...world.volumes.values()].map(({ spec }) => spec?.claimRef?.name ?? '');
          expect(owners).to.include('data');
          expect(owners.filter((name) => name !== 'data' && name !== 'late')).to.deep.equal([]);
        }),
        { numRuns: 150 },
      );
    });
  }

  it('never give a union for one node two servers', () => {
    fc.assert(
      fc.property(steps, fc.boolean(), (taken, second) => {
        const world = newWorld(LISTS[0]!);
        settle(world);
        world.attach(second ? 'node-2' : 'node-1');
        for (const each of taken) {
          run(world, [each]);
          if (!world.attachments.has('node-1')) world.attach('node-1');
          if (!world.attachments.has('node-2')) world.attach('node-2');
          expect(world.pods.size).to.be.at.most(1);
        }
        settle(world);
        const phases = [...world.attachments.values()].map(({ status }) => status?.phase).sort();
        if (phases.length === 2) expect(phases).to.deep.equal(['Failed', 'Running']);
        world.detach('node-1');
        settle(world);
        world.detach('node-2');
        settle(world);
        expect(world.pods.size + world.attachments.size).to.equal(0);
      }),
    );
  });
});
