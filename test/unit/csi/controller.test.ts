/**
 * The Controller service over the real reconcilers and the embedded API server: what calls answer, that they can be repeated
 * in any order, and that nothing stays half made.
 */
import { expect } from 'chai';
import fc from 'fast-check';
import { UnionError } from '../../../src/base/errors.ts';
import { controllerHandlers } from '../../../src/csi/controller.ts';
import {
  csiStorageCapacities,
  nodes,
  persistentVolumeClaims,
  pods,
  storageClasses,
  unionAttachments,
  unionVolumes,
} from '../../../src/embedded/api-server/kinds.ts';
import type { CreateVolumeRequest__Output } from '../../../src/protocol/generated/csi/v1/CreateVolumeRequest.ts';
import type { VolumeCapability__Output } from '../../../src/protocol/generated/csi/v1/VolumeCapability.ts';
import type { PersistentVolumeClaim } from '../../../src/protocol/objects.ts';
import { UNBOUNDED_BYTES } from '../../../src/union/available.ts';
import { type ControlPlane, startControlPlane } from '../../support/control-plane.ts';
import { calls, census, creation, GIB, mount, refusal } from '../../support/controller-calls.ts';
import { eventually } from '../../support/eventually.ts';
import { type Reconciled, startReconciled } from '../../support/reconciled.ts';

describe('csi controller', () => {
  let plane: ControlPlane;
  let reconciled: Reconciled;
  let call: ReturnType<typeof calls>;

  beforeEach(async () => {
    plane = await startControlPlane();
    reconciled = startReconciled(plane);
    call = calls(controllerHandlers(reconciled.dependencies));
  });

  afterEach(async () => {
    await reconciled.stop();
    await plane.close();
  });

  const NOTHING = { volumes: 0, attachments: 0, claims: 0, persistentVolumes: 0, pods: 0 };

  it('answers each call the same ten times over, from create to delete, and leaves nothing', async () => {
    const ten = async <T>(work: () => Promise<T>): Promise<T> => {
      const answers = [];
      for (let i = 0; i < 10; i++) answers.push(await work());
      for (const answer of answers) expect(answer).to.deep.equal(answers[0]);
      return answers[0]!;
    };
    const { volume } = await ten(() => call.create(creation('pvc-1')));
    const id = volume!.volumeId!;
    expect(id).to.match(/^uv-[0-9a-f]{32}$/);
    expect(volume!.capacityBytes).to.equal(String(GIB));
    await ten(() => call.publish(id, 'node-a'));
    expect(census(plane)).to.deep.equal({ volumes: 1, attachments: 1, claims: 2, persistentVolumes: 2, pods: 1 });
    expect((await call.list()).entries![0]!.status!.publishedNodeIds).to.deep.equal(['node-a']);
    expect(await ten(() => call.expand(id, 3n * GIB))).to.deep.equal({
      capacityBytes: String(3n * GIB),
      nodeExpansionRequired: false,
    });
    await ten(() => call.unpublish(id, 'node-a'));
    await ten(() => call.remove(id));
    expect(census(plane)).to.deep.equal(NOTHING);
  });

  it('tells how much room its lower class has told of, for a node and at all', async () => {
    const nodeTopology = { matchLabels: { 'kubernetes.io/hostname': 'node-a' } };
    const fields = { storageClassName: 'plain', capacity: '6Gi', maximumVolumeSize: '2Gi', nodeTopology };
    plane.store.create(csiStorageCapacities, { metadata: { name: 'room', namespace: 'default' }, ...fields });
    const { parameters } = creation('pvc-1');
    expect(await call.capacity(parameters, 'node-a')).to.deep.equal({ availableCapacity: String(4n * GIB) });
    expect(await call.capacity(parameters)).to.deep.equal({ availableCapacity: String(4n * GIB) });
    // What is wrong with a class is CreateVolume's to say, and no scheduler may keep it from that.
    const wrong = { ...parameters, branhces: '2' };
    expect(await call.capacity(wrong, 'node-a')).to.deep.equal({ availableCapacity: String(UNBOUNDED_BYTES) });
  });

  it('ends in the same state whatever came before (any order of calls)', async () => {
    const { volume } = await call.create(creation('pvc-known'));
    const id = volume!.volumeId!;
    const step = fc.constantFrom(
      'create',
      'remove',
      'publish-a',
      'publish-b',
      'unpublish-a',
      'unpublish-all',
      'expand',
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 8 }), fc.boolean(), async (steps, atOnce) => {
        const pending: Promise<unknown>[] = [];
        for (const name of steps) {
          const work = {
            create: () => call.create(creation('pvc-known')),
            remove: () => call.remove(id),
            'publish-a': () => call.publish(id, 'node-a'),
            'publish-b': () => call.publish(id, 'node-b'),
            'unpublish-a': () => call.unpublish(id, 'node-a'),
            'unpublish-all': () => call.unpublish(id, ''),
            expand: () => call.expand(id, 2n * GIB),
          }[name]();
          const outcome = work.catch((error: unknown) => {
            // Whatever is refused is refused in the words of the specification, never by a bug.
            expect(error).to.be.instanceOf(UnionError);
            expect((error as UnionError).code).not.to.equal('INTERNAL');
          });
          if (atOnce) pending.push(outcome);
          else await outcome;
        }
        await Promise.all(pending);
        // What a sidecar does in the end: calls again until it is so.
        await again(() => call.unpublish(id, ''));
        await again(() => call.create(creation('pvc-known')));
        await again(() => call.publish(id, 'node-b'));
        const built = census(plane);
        expect([built.volumes, built.attachments, built.claims, built.pods]).to.deep.equal([1, 1, 2, 1]);
        await again(() => call.unpublish(id, 'node-b'));
        await again(() => call.remove(id));
        expect(census(plane)).to.deep.equal(NOTHING);
      }),
      { numRuns: 15 },
    );
  });

  it('answers ABORTED with what is pending, and succeeds when asked again', async () => {
    plane.holdClaims = true;
    const error = await refusal(call.create(creation('slow'), 900));
    expect(error.code).to.equal('ABORTED');
    expect(error.message).to.match(/^volume "slow" is pending: .*branch b0: .*waits for plain\.example\.com/);
    plane.holdClaims = false;
    plane.kick();
    const { volume } = await call.create(creation('slow'));

    plane.holdPods = true;
    const waiting = await refusal(call.publish(volume!.volumeId!, 'node-a', 900));
    expect([waiting.code, waiting.message]).to.satisfy(
      ([code, message]: string[]) => code === 'ABORTED' && /on node "node-a": server pod .* waits/.test(message!),
    );
    plane.holdPods = false;
    plane.kick();
    await call.publish(volume!.volumeId!, 'node-a');

    plane.holdPodDeletion = true;
    const ending = await refusal(call.unpublish(volume!.volumeId!, 'node-a', 900));
    expect(ending.code).to.equal('ABORTED');
    expect(ending.message).to.match(/is being detached from node "node-a": waits for server pod/);
    plane.holdPodDeletion = false;
    plane.kick();
    await call.unpublish(volume!.volumeId!, 'node-a');
  });

  it('refuses another size, other modes or parameters under the same name', async () => {
    await call.create(creation('taken'));
    const larger = creation('taken', { capacityRange: { requiredBytes: String(9n * GIB), limitBytes: '0' } });
    const other = creation('taken', { parameters: { lowerStorageClassName: 'plain', branches: '3' } });
    for (const request of [larger, other]) {
      const error = await refusal(call.create(request));
      expect([error.code, error.message]).to.satisfy(
        ([code, message]: string[]) => code === 'ALREADY_EXISTS' && /volume "taken" exists with another/.test(message!),
      );
    }
  });

  it('starts over when a request is corrected before the volume was handed out', async () => {
    plane.holdClaims = true;
    await refusal(call.create(creation('typo'), 700));
    const corrected = creation('typo', { parameters: { lowerStorageClassName: 'plain', branches: '3' } });
    plane.holdClaims = false;
    await again(() => call.create(corrected));
    expect(plane.store.list(unionVolumes)[0]!.spec.branches).to.have.length(3);
  });

  it('keeps a volume that was handed out, even when the class is gone and the call can only fail', async () => {
    await call.create(creation('kept'));
    plane.store.delete(storageClasses, { name: 'plain' });
    await refusal(call.create(creation('kept')));
    expect(plane.store.list(unionVolumes)[0]!.metadata.deletionTimestamp).to.equal(undefined);
  });

  it('lets one node have a volume for one node, and says which has it', async () => {
    const { volume } = await call.create(creation('single'));
    const id = volume!.volumeId!;
    await call.publish(id, 'node-a');
    const error = await refusal(call.publish(id, 'node-b'));
    expect(error.code).to.equal('FAILED_PRECONDITION');
    expect(error.message).to.contain('is attached to node "node-a" and cannot be on "node-b" as well');
    expect(plane.store.list(unionAttachments)).to.have.length(1);
    const inUse = await refusal(call.remove(id));
    expect([inUse.code, inUse.message]).to.deep.equal([
      'FAILED_PRECONDITION',
      `volume "${id}" is attached to node-a; detach it first`,
    ]);
  });

  it('attaches a volume for many nodes to each of them, and read-only where told', async () => {
    const { volume } = await call.create(creation('many', { volumeCapabilities: [mount('MULTI_NODE_MULTI_WRITER')] }));
    const id = volume!.volumeId!;
    await call.publish(id, 'node-a', undefined, { mode: 'MULTI_NODE_MULTI_WRITER' });
    await call.publish(id, 'node-b', undefined, { mode: 'MULTI_NODE_MULTI_WRITER', readonly: true });
    expect((await call.list()).entries![0]!.status!.publishedNodeIds).to.deep.equal(['node-a', 'node-b']);
    const error = await refusal(call.publish(id, 'node-b', undefined, { mode: 'MULTI_NODE_MULTI_WRITER' }));
    expect([error.code, error.message]).to.deep.equal([
      'ALREADY_EXISTS',
      `volume "${id}" is attached to node "node-b" read-only; detach it first`,
    ]);
    await call.unpublish(id, '');
    expect(plane.store.list(pods)).to.deep.equal([]);
  });

  it('attaches no volume that is being deleted', async () => {
    const { volume } = await call.create(creation('going'));
    const id = volume!.volumeId!;
    plane.store.modify(unionVolumes, { name: id }, (object) => {
      object.metadata.finalizers!.push('example.com/test');
    });
    plane.store.delete(unionVolumes, { name: id });
    const error = await refusal(call.publish(id, 'node-a'));
    expect([error.code, error.message]).to.deep.equal([
      'FAILED_PRECONDITION',
      `volume "${id}" is being deleted and cannot be attached`,
    ]);
    expect(plane.store.list(unionAttachments)).to.deep.equal([]);
  });

  it('says at once why a volume that has failed cannot be attached, and attaches it when it is put right', async () => {
    const { volume } = await call.create(creation('bereft'));
    const id = volume!.volumeId!;
    const lower = plane.store.list(persistentVolumeClaims)[0]!;
    plane.holdClaims = true;
    const lose = (claim: PersistentVolumeClaim): undefined => {
      claim.status = { phase: 'Lost' };
    };
    plane.store.modify(persistentVolumeClaims, lower.metadata, lose, { subresource: 'status' });
    const phase = () => plane.store.get(unionVolumes, { name: id })?.status?.phase;
    await eventually('a volume that has failed', () => phase() === 'Failed');
    const error = await refusal(call.publish(id, 'node-a'));
    // What is merely pending is ABORTED, after a wait.
    expect(error.code).to.equal('FAILED_PRECONDITION');
    expect(error.message).to.include(
      `claim "union-csi/${lower.metadata.name}" is gone, and with it a part of the files`,
    );
    plane.holdClaims = false;
    plane.kick();
    await eventually('a volume that is ready again', () => phase() === 'Ready');
    const attached = () => call.publish(id, 'node-a').catch(() => undefined);
    await eventually('an attachment that has heard of it', attached);
  });

  it('attaches to at most one of two nodes that ask at once', async () => {
    const { volume } = await call.create(creation('raced'));
    const id = volume!.volumeId!;
    const answers = await Promise.allSettled([call.publish(id, 'node-a'), call.publish(id, 'node-b')]);
    expect(answers.filter(({ status }) => status === 'fulfilled').length).to.be.at.most(1);
    await again(() => call.unpublish(id, ''));
    await call.publish(id, 'node-b');
    expect(plane.store.list(unionAttachments).map(({ spec }) => spec.node)).to.deep.equal(['node-b']);
  });

  it('reports published nodes only while a server pod is there', async () => {
    const { volume } = await call.create(creation('lost'));
    await call.publish(volume!.volumeId!, 'node-a');
    const published = async () => (await call.list()).entries![0]!.status!.publishedNodeIds;
    expect(await published()).to.deep.equal(['node-a']);
    plane.holdPods = true;
    plane.store.delete(pods, plane.store.list(pods)[0]!.metadata);
    await again(async () => {
      if ((await published())!.length > 0) throw new UnionError('ABORTED', 'still there');
    });
  });

  it('lists no volume before it was handed out', async () => {
    plane.holdClaims = true;
    await refusal(call.create(creation('unfinished'), 700));
    expect((await call.list()).entries).to.deep.equal([]);
  });

  it('lists in pages that survive deletion of the last entry, and knows its tokens', async () => {
    for (const name of ['one', 'two', 'three']) await call.create(creation(name));
    const first = await call.list({ maxEntries: 1 });
    await again(() => call.remove(first.entries![0]!.volume!.volumeId!));
    const rest = await call.list({ startingToken: first.nextToken! });
    expect([first.entries!.length, rest.entries!.length, rest.nextToken]).to.deep.equal([1, 2, '']);
    expect((await refusal(call.list({ startingToken: 'nonsense' }))).code).to.equal('ABORTED');
    expect((await refusal(call.list({ maxEntries: -1 }))).code).to.equal('INVALID_ARGUMENT');
  });

  it('knows nothing of unknown volumes and nodes', async () => {
    const unknown = '../../etc/passwd';
    expect((await refusal(call.publish(unknown, 'node-a'))).code).to.equal('NOT_FOUND');
    expect((await refusal(call.expand(unknown, GIB))).code).to.equal('NOT_FOUND');
    expect((await refusal(call.validate(unknown, [mount()]))).code).to.equal('NOT_FOUND');
    expect(await call.remove(unknown)).to.deep.equal({});
    expect(await call.unpublish(unknown, 'node-x')).to.deep.equal({});
    const { volume } = await call.create(creation('known'));
    const error = await refusal(call.publish(volume!.volumeId!, 'node-x'));
    expect([error.code, error.message]).to.deep.equal(['NOT_FOUND', 'node "node-x" does not exist']);
    plane.store.delete(nodes, { name: 'node-b' });
    expect(await call.unpublish(volume!.volumeId!, 'node-b')).to.deep.equal({});
  });

  it('confirms what a volume can, and says why not otherwise', async () => {
    const { volume } = await call.create(creation('rwo'));
    const id = volume!.volumeId!;
    expect((await call.validate(id, [mount(), mount('SINGLE_NODE_READER_ONLY')])).confirmed).to.not.equal(undefined);
    const many = await call.validate(id, [mount('MULTI_NODE_MULTI_WRITER')]);
    expect(many).to.deep.equal({ message: 'volume "rwo" has access modes ReadWriteOnce, not ReadWriteMany' });
  });

  const block: VolumeCapability__Output = {
    block: {},
    accessMode: { mode: 'SINGLE_NODE_WRITER' },
    accessType: 'block',
  };
  const bad: readonly [string, Partial<CreateVolumeRequest__Output>, RegExp][] = [
    ['no name', { name: '' }, /^name is missing$/],
    ['control characters in the name', { name: 'a\u0007b' }, /^name has control characters/],
    ['no capabilities', { volumeCapabilities: [] }, /^volume_capabilities is missing/],
    ['block mode', { volumeCapabilities: [block] }, /cannot be a block device; set volumeMode: Filesystem$/],
    ['a misspelt parameter', { parameters: { lowerStorageClass: 'plain' } }, /did you mean "lowerStorageClassName"/],
    ['a missing lower class', { parameters: { lowerStorageClassName: 'gone', branches: '2' } }, /"gone"/],
    ['no branches', { parameters: { lowerStorageClassName: 'plain', branches: '0' } }, /branches/],
    ['mutable parameters', { mutableParameters: { fast: 'yes' } }, /^mutable parameters are not supported: fast/],
    ['a source', { volumeContentSource: { type: 'volume', volume: { volumeId: 'x' } } }, /snapshot or a clone/],
    ['a negative size', { capacityRange: { requiredBytes: '-1', limitBytes: '0' } }, /negative/],
    ['a limit below the size', { capacityRange: { requiredBytes: '9', limitBytes: '1' } }, /limit/],
  ];
  for (const [what, changes, message] of bad) {
    it(`refuses ${what} and leaves nothing behind`, async () => {
      const error = await refusal(call.create(creation('bad', changes)));
      expect(error.message).to.match(message);
      expect(error.code).to.be.oneOf(['INVALID_ARGUMENT', 'NOT_FOUND', 'FAILED_PRECONDITION', 'OUT_OF_RANGE']);
      expect(census(plane)).to.deep.equal(NOTHING);
    });
  }
});

/** As sidecars: calls again while the answer is that it is not so yet. */
async function again<T>(work: () => Promise<T>): Promise<T> {
  for (const end = Date.now() + 10_000; ; ) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof UnionError) || error.code !== 'ABORTED' || Date.now() > end) throw error;
    }
  }
}
