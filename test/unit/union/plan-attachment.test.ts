/** Plans for attachments whose server pod is in trouble; the ordinary ways are in test/transcript/plan. */
import { expect } from 'chai';
import type { Pod } from '../../../src/protocol/objects.ts';
import type { MountStatus } from '../../../src/protocol/resources.ts';
import type { AttachmentAction } from '../../../src/union/plan-attachment.ts';
import { UnionWorld } from '../../support/union-world.ts';

/** A union with its server pod on node-1. */
function attachedUnion(): UnionWorld {
  const world = new UnionWorld();
  world.request('- {storageClassName: fast}');
  for (const action of world.planVolume()) world.applyVolume(action);
  for (const move of world.moves().values()) move();
  for (const action of world.planVolume()) world.applyVolume(action);
  world.attach('node-1');
  step(world);
  return world;
}

function step(world: UnionWorld): readonly AttachmentAction[] {
  const actions = world.planAttachment('node-1');
  for (const action of actions) world.applyAttachment('node-1', action);
  return actions;
}

/** What is next for a union whose server pod is as `change` leaves it. */
function planFor(change: (pod: Pod) => Pod, mount?: MountStatus): readonly AttachmentAction[] {
  const world = attachedUnion();
  const [[name, pod]] = [...world.pods] as [[string, Pod]];
  world.pods.set(name, change(pod));
  if (mount) world.tellMount('node-1', mount);
  return world.planAttachment('node-1');
}

const messageOf = (actions: readonly AttachmentAction[]) =>
  actions.find((action) => action.kind === 'update-status')?.status.conditions?.[0]?.message;

describe('planUnionAttachment', () => {
  it('makes room for a new server when one has ended for good', () => {
    const actions = planFor((pod) => ({ ...pod, status: { phase: 'Failed', reason: 'Evicted' } }));
    expect(actions[0]?.kind).to.equal('delete-pod');
    expect(messageOf(actions)).to.match(/has ended \(Evicted\), and is started anew$/);
  });

  const ending = (pod: Pod): Pod => ({
    ...pod,
    metadata: { ...pod.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
  });
  const podOf = (actions: readonly AttachmentAction[]) =>
    actions.find((action) => action.kind === 'update-status')?.status.pod?.name;

  it('makes a successor beside a pod that is being deleted, which goes on serving', () => {
    const world = attachedUnion();
    const [name] = [...world.pods.keys()];
    world.changePod(name!, ending);
    const actions = world.planAttachment('node-1');
    const [created] = actions.filter((action) => action.kind === 'create-pod');
    expect(created?.pod.metadata.name).to.equal(`${name}-2`);
    expect(messageOf(actions)).to.match(/ is ending; server pod ".*-2" is to follow it$/);
    expect(podOf(actions)).to.equal(name);
    for (const action of actions) world.applyAttachment('node-1', action);
    expect(world.planAttachment('node-1').map(({ kind }) => kind)).to.deep.equal(['update-status']);
    world.changePod(`${name}-2`, (pod) => ({ ...pod, status: { phase: 'Running' } }));
    expect(podOf(world.planAttachment('node-1')), 'from now on the node plugin has the two change over').to.equal(
      `${name}-2`,
    );
    world.pods.delete(name!);
    expect(podOf(world.planAttachment('node-1'))).to.equal(`${name}-2`);
    world.changePod(`${name}-2`, ending);
    const [next] = world.planAttachment('node-1').filter((action) => action.kind === 'create-pod');
    expect(next?.pod.metadata.name).to.equal(name);
  });

  it('makes no third pod when the successor is being deleted too', () => {
    const world = attachedUnion();
    const [name] = [...world.pods.keys()];
    world.changePod(name!, ending);
    step(world);
    world.changePod(`${name}-2`, ending);
    expect(world.planAttachment('node-1').map(({ kind }) => kind)).to.deep.equal(['update-status']);
  });

  it('waits for a pod that is being deleted and does not serve, as on a node that is cut off', () => {
    const actions = planFor((pod) => ({ ...ending(pod), status: { phase: 'Running' } }));
    expect(actions.map(({ kind }) => kind)).to.deep.equal(['update-status']);
    expect(messageOf(actions)).to.match(/is ending; it is then started anew$/);
  });

  it('deletes both pods at a detach, and waits for both', () => {
    const world = attachedUnion();
    const [name] = [...world.pods.keys()];
    world.changePod(name!, ending);
    step(world);
    world.detach('node-1');
    const actions = world.planAttachment('node-1');
    expect(actions.flatMap((action) => (action.kind === 'delete-pod' ? action.pod.name : []))).to.deep.equal([
      `${name}-2`,
    ]);
    world.pods.delete(name!);
    expect(world.planAttachment('node-1').map(({ kind }) => kind)).not.to.include('remove-finalizer');
    world.pods.delete(`${name}-2`);
    expect(world.planAttachment('node-1').map(({ kind }) => kind)).to.deep.equal(['remove-finalizer']);
  });

  it('makes a successor beside a pod that has stopped and is being deleted', () => {
    const state = { waiting: { reason: 'CrashLoopBackOff' } };
    const containerStatuses = [{ name: 'server', state, image: '', imageID: '', ready: false, restartCount: 9 }];
    const actions = planFor((pod) => ({ ...ending(pod), status: { phase: 'Running', containerStatuses } }));
    expect(actions.map(({ kind }) => kind)).to.include('create-pod');
  });

  describe('whose server is of another version', () => {
    const ready = (pod: Pod): Pod => ({ ...ending(pod), metadata: pod.metadata });
    const upgraded = () => {
      const world = attachedUnion();
      const [name] = [...world.pods.keys()] as [string];
      world.changePod(name, ready);
      step(world);
      world.image = 'union-csi:next';
      return { world, name };
    };
    const kinds = (world: UnionWorld) => world.planAttachment('node-1').map(({ kind }) => kind);

    it('gets another one, which the old one makes way for once it is ready', () => {
      const { world, name } = upgraded();
      const [created] = world.planAttachment('node-1').filter((action) => action.kind === 'create-pod');
      expect(created?.pod.spec?.containers[0]?.image).to.equal('union-csi:next');
      step(world);
      expect(kinds(world)).to.deep.equal([]);
      world.changePod(`${name}-2`, (pod) => ({ ...pod, status: { phase: 'Running' } }));
      expect(kinds(world), 'it may be one that never starts').to.deep.equal([]);
      world.changePod(`${name}-2`, ready);
      const [deleted] = world.planAttachment('node-1').filter((action) => action.kind === 'delete-pod');
      expect(deleted?.pod.name).to.equal(name);
      step(world);
      expect(podOf(world.planAttachment('node-1'))).to.equal(`${name}-2`);
      step(world);
      world.pods.delete(name);
      expect(kinds(world)).to.deep.equal([]);
    });

    it('keeps it while another one is replaced on the node', () => {
      const { world } = upgraded();
      world.mayReplace = false;
      expect(kinds(world)).to.deep.equal([]);
    });

    it('gets another one when the first successor has ended', () => {
      const { world, name } = upgraded();
      step(world);
      world.changePod(`${name}-2`, (pod) => ({ ...pod, status: { phase: 'Failed' } }));
      const [deleted] = world.planAttachment('node-1').filter((action) => action.kind === 'delete-pod');
      expect(deleted?.pod.name).to.equal(`${name}-2`);
    });

    it('takes the old one back when the controller is rolled back', () => {
      const { world, name } = upgraded();
      step(world);
      world.image = 'union-csi';
      const [deleted] = world.planAttachment('node-1').filter((action) => action.kind === 'delete-pod');
      expect(deleted?.pod.name).to.equal(`${name}-2`);
    });
  });

  it('says what the scheduler says', () => {
    const conditions = [{ type: 'PodScheduled', status: 'False', message: '0/1 nodes are available' }];
    const actions = planFor((pod) => ({ ...pod, status: { phase: 'Pending', conditions } }));
    expect(messageOf(actions)).to.match(/waits for the scheduler: 0\/1 nodes are available$/);
  });

  it('says what kubelet says', () => {
    const state = { waiting: { reason: 'ImagePullBackOff', message: 'no such image' } };
    const containerStatuses = [{ name: 'server', state, image: '', imageID: '', ready: false, restartCount: 0 }];
    const actions = planFor((pod) => ({ ...pod, status: { phase: 'Pending', containerStatuses } }));
    expect(messageOf(actions)).to.match(/: ImagePullBackOff, no such image$/);
  });

  const runs = (pod: Pod) => ({ ...pod, status: { phase: 'Running' } });

  it('tells that applications wait while no server lives, and who made it known keeps saying it', () => {
    const mount = { state: 'Held', message: '' } as const;
    const actions = planFor(runs, mount);
    const [update] = actions.filter((action) => action.kind === 'update-status');
    expect(update?.status).to.deep.include({ phase: 'Running', mount });
    expect(update?.status.conditions?.[0]).to.include({ status: 'False', reason: 'ServerDied' });
    const [told] = actions.filter((action) => action.kind === 'event');
    expect(told?.event).to.include({ type: 'Warning', reason: 'ServerDied' });
  });

  describe('whose server died and waits for kubelet to start it again', () => {
    const waits = (lived: number, restartCount: number) => (pod: Pod) => {
      const startedAt = '2026-01-01T00:00:00Z';
      const finishedAt = new Date(Date.parse(startedAt) + lived * 1000).toISOString();
      const state = { waiting: { reason: 'CrashLoopBackOff' } };
      const lastState = { terminated: { exitCode: 137, startedAt, finishedAt } };
      const container = { name: 'server', image: '', imageID: '', ready: false };
      return {
        ...pod,
        status: { phase: 'Running', containerStatuses: [{ ...container, restartCount, state, lastState }] },
      };
    };
    const kinds = (actions: readonly AttachmentAction[]) => actions.map(({ kind }) => kind);
    const held = { state: 'Held', message: '' } as const;

    it('gets another pod when it had served well', () => {
      const world = attachedUnion();
      const [name] = [...world.pods.keys()] as [string];
      world.tellMount('node-1', held);
      world.changePod(name, waits(20, 1));
      expect(kinds(step(world))).to.deep.equal(['delete-pod', 'event', 'update-status']);
      world.changePod(name, (pod) => ({ ...pod, metadata: ending(pod).metadata }));
      const [created] = world.planAttachment('node-1').filter((action) => action.kind === 'create-pod');
      expect(created?.pod.metadata.name).to.equal(`${name}-2`);
    });

    it('waits when it died early, and when it is started at once', () => {
      expect(kinds(planFor(waits(5, 1), held))).not.to.include('delete-pod');
      expect(kinds(planFor(waits(20, 0), held))).not.to.include('delete-pod');
    });

    it('waits while something serves', () => {
      expect(kinds(planFor(waits(20, 1), { ...held, state: 'Served' }))).not.to.include('delete-pod');
    });
  });

  it('tells why a mount answers errors', () => {
    const actions = planFor(runs, { state: 'Failed', message: 'its server died 5 times in 4 s' });
    expect(messageOf(actions)).to.match(/does not serve, and applications get errors: its server died 5 times in 4 s$/);
  });

  it('is ready when a server serves', () => {
    const actions = planFor(runs, { state: 'Served', message: '' });
    expect(messageOf(actions)).to.match(/^server pod .* runs/);
  });

  it('takes no pod for its server that only has its labels', () => {
    const actions = planFor((pod) => ({ ...pod, metadata: { ...pod.metadata, ownerReferences: [] } }));
    expect(actions[0]?.kind).to.equal('create-pod');
  });
});

describe('a branch that is added while a server runs', () => {
  const run = (world: UnionWorld) => {
    for (const [name, pod] of world.pods) world.pods.set(name, { ...pod, status: { phase: 'Running' } });
  };
  const add = (world: UnionWorld) => {
    const volume = world.volume!;
    const [first] = volume.spec.branches;
    const branch = { ...first!, id: 'b1', claim: { ...first!.claim, name: 'added' }, minFreeSpaceBytes: '4096' };
    world.volume = { ...volume, spec: { ...volume.spec, branches: [first!, branch] } };
    return () => {
      const status = {
        ...volume.status,
        branches: [...volume.status!.branches!, { id: 'b1', phase: 'Bound' as const }],
      };
      world.volume = { ...world.volume!, status };
    };
  };
  const detach = (world: UnionWorld) => {
    const attachment = world.attachments.get('node-1')!;
    const metadata = { ...attachment.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' };
    world.attachments.set('node-1', { ...attachment, metadata });
  };
  const fed = () => {
    const world = attachedUnion();
    run(world);
    add(world)();
    step(world);
    run(world);
    step(world);
    return world;
  };

  it('gets a pod of its own once it has a volume, and only one', () => {
    const world = attachedUnion();
    run(world);
    const bind = add(world);
    expect(step(world).filter(({ kind }) => kind === 'create-pod')).to.deep.equal([]);
    bind();
    const [made] = step(world).filter((action) => action.kind === 'create-pod');
    expect(made?.pod.spec?.volumes?.map(({ name }) => name)).to.deep.equal(['run', 'b1']);
    expect(step(world).filter(({ kind }) => kind === 'create-pod')).to.deep.equal([]);
  });

  it('is told to the node plugin when its pod runs', () => {
    const world = fed();
    const [feeder] = world.attachments.get('node-1')!.status?.feeders ?? [];
    expect(feeder).to.include({ branch: 'b1', mode: 'RW', minFreeSpaceBytes: '4096' });
    expect(feeder?.pod.uid).to.equal(world.pods.get(feeder!.pod.name)?.metadata.uid);
    expect(world.attachments.get('node-1')!.status?.pod?.name).not.to.equal(feeder?.pod.name);
  });

  it('stays mounted until the server is gone, and holds the attachment as long', () => {
    const world = fed();
    detach(world);
    const feeder = world.attachments.get('node-1')!.status!.feeders![0]!.pod.name;
    const server = world.attachments.get('node-1')!.status!.pod!.name;
    const deleted = () => step(world).flatMap((action) => (action.kind === 'delete-pod' ? [action.pod.name] : []));
    expect(deleted()).to.deep.equal([server]);
    expect(deleted()).to.deep.equal([]);
    world.pods.delete(server);
    expect(deleted()).to.deep.equal([feeder]);
    expect(world.attachments.has('node-1')).to.equal(true);
    world.pods.delete(feeder);
    step(world);
    expect(world.attachments.has('node-1')).to.equal(false);
  });

  it('is mounted by the next server itself', () => {
    const world = fed();
    const server = world.attachments.get('node-1')!.status!.pod!.name;
    world.pods.delete(server);
    const [made] = step(world).filter((action) => action.kind === 'create-pod');
    expect(made?.pod.metadata.name).to.equal(server);
    expect(made?.pod.spec?.volumes?.map(({ name }) => name)).to.deep.equal(['run', 'b0', 'b1']);
  });
});
