/** What a union says of its branches, as the nodes that have it mounted tell. */
import { expect } from 'chai';
import type { IllBranch, MountStatus } from '../../../src/protocol/resources.ts';
import { BRANCHES_AVAILABLE } from '../../../src/union/branches-available.ts';
import { findCondition } from '../../../src/union/conditions.ts';
import { UnionWorld } from '../../support/union-world.ts';

const served = (...illBranches: readonly IllBranch[]): MountStatus => ({ state: 'Served', message: '', illBranches });
const failing = { id: 'b0', health: 'failing', message: 'its filesystem was shut down' };
const readOnly = { id: 'b1', health: 'read-only', message: 'it takes no changes' };

function step(world: UnionWorld): readonly string[] {
  const actions = world.planVolume();
  for (const action of actions) world.applyVolume(action);
  return actions.flatMap((action) => (action.kind === 'event' ? [`${action.event.type} ${action.event.reason}`] : []));
}

/** A union of two branches on two nodes. */
function attachedUnion(): UnionWorld {
  const world = new UnionWorld();
  world.request('- {storageClassName: fast, count: 2}');
  step(world);
  for (const move of world.moves().values()) move();
  step(world);
  world.attach('node-1');
  world.attach('node-2');
  return world;
}

describe('the condition BranchesAvailable', () => {
  const found = (world: UnionWorld) => findCondition(world.volume?.status?.conditions, BRANCHES_AVAILABLE);

  it('is not there while nothing is wrong', () => {
    const world = attachedUnion();
    world.tellMount('node-1', served());
    expect(step(world)).to.deep.equal([]);
    expect(found(world)).to.equal(undefined);
  });

  it('names branch, node and reason, and leaves the union ready', () => {
    const world = attachedUnion();
    world.tellMount('node-1', served());
    world.tellMount('node-2', served(failing, readOnly));
    expect(step(world)).to.deep.equal(['Warning BranchUnavailable']);
    expect(found(world)).to.include({
      status: 'False',
      reason: 'BranchUnavailable',
      message:
        'node node-2: branch b0 is failing: its filesystem was shut down; node node-2: branch b1 is read-only: it takes no changes',
    });
    expect(world.volume?.status?.phase).to.equal('Ready');
  });

  it('has a reason of its own where files can be read', () => {
    const world = attachedUnion();
    world.tellMount('node-1', served(readOnly));
    expect(step(world)).to.deep.equal(['Warning BranchReadOnly']);
  });

  it('tells of a claim that somebody deletes, before a server is needed that cannot start', () => {
    const world = attachedUnion();
    world.tellMount('node-1', served());
    step(world);
    const [name, claim] = [...world.claims].find(([, { metadata }]) => metadata.name.endsWith('b1'))!;
    const metadata = { ...claim.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' };
    world.claims.set(name, { ...claim, metadata });
    expect(step(world)).to.deep.equal(['Warning ClaimDeleted']);
    expect(found(world)?.message).to.match(/^branch b1: claim ".*b1" is being deleted: .* copy the files to another/);
    expect(world.volume?.status?.phase).to.equal('Ready');
    world.tellMount('node-2', served(failing));
    expect(step(world)).to.deep.equal(['Warning BranchUnavailable']);
    expect(found(world)?.message).to.match(/branch b0 is failing.*; branch b1: claim/);
  });

  it('is true when the branches work again, and gone when nobody sees them', () => {
    const world = attachedUnion();
    world.tellMount('node-1', served(failing));
    step(world);
    world.tellMount('node-1', served());
    expect(step(world)).to.deep.equal(['Normal BranchesAvailable']);
    expect(found(world)?.status).to.equal('True');
    world.attachments.clear();
    step(world);
    expect(found(world)).to.equal(undefined);
  });
});
