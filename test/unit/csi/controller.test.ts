/**
 * The Controller service over the real reconcilers and the embedded API server: what calls answer, that they can be repeated
 * in any order, and that nothing stays half made.
 */
import { expect } from 'chai';
import fc from 'fast-check';
import { UnionError } from '../../../src/base/errors.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import { controllerHandlers } from '../../../src/csi/controller.ts';
import type { RpcContext } from '../../../src/csi/interceptors.ts';
import {
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  storageClasses,
  unionAttachments,
  unionVolumes,
} from '../../../src/embedded/api-server/kinds.ts';
import type { CreateVolumeRequest__Output } from '../../../src/protocol/generated/csi/v1/CreateVolumeRequest.ts';
import type { VolumeCapability__Output } from '../../../src/protocol/generated/csi/v1/VolumeCapability.ts';
import { type ControlPlane, startControlPlane } from '../../support/control-plane.ts';
import { eventually } from '../../support/eventually.ts';
import { type Reconciled, startReconciled } from '../../support/reconciled.ts';

const GIB = 1024n ** 3n;

type Mode = NonNullable<VolumeCapability__Output['accessMode']>['mode'];

function mount(mode: Mode = 'SINGLE_NODE_WRITER'): VolumeCapability__Output {
  return { mount: { fsType: '', mountFlags: [], volumeMountGroup: '' }, accessMode: { mode }, accessType: 'mount' };
}

function creation(name: string, changes: Partial<CreateVolumeRequest__Output> = {}): CreateVolumeRequest__Output {
  return {
    name,
    capacityRange: { requiredBytes: String(GIB), limitBytes: '0' },
    volumeCapabilities: [mount()],
    parameters: { lowerStorageClassName: 'plain', branches: '2' },
    secrets: {},
    volumeContentSource: null,
    accessibilityRequirements: null,
    mutableParameters: {},
    ...changes,
  };
}

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

  /** Everything that a volume leads to. */
  function census(): Record<string, number> {
    const { store } = plane;
    return {
      volumes: store.list(unionVolumes).length,
      attachments: store.list(unionAttachments).length,
      claims: store.list(persistentVolumeClaims).length,
      persistentVolumes: store.list(persistentVolumes).length,
      pods: store.list(pods).length,
    };
  }
  const NOTHING = { volumes: 0, attachments: 0, claims: 0, persistentVolumes: 0, pods: 0 };

  it('gives up what was begun for a claim that has gone, and only that', async () => {
    const { store } = plane;
    const parameters = {
      ...{ lowerStorageClassName: 'plain', branches: '2' },
      ...{ 'csi.storage.k8s.io/pvc/name': 'data', 'csi.storage.k8s.io/pvc/namespace': 'default' },
    };
    const claim = () =>
      store.create(persistentVolumeClaims, {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { name: 'data', namespace: 'default' },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
      });
    const first = claim();
    const request = creation(`pvc-${first.metadata.uid}`, { parameters });
    const { volume } = await call.create(request);
    store.delete(persistentVolumeClaims, { namespace: 'default', name: 'data' });
    // It was handed out: the caller is to have it, and to delete it.
    expect((await call.create(request)).volume).to.deep.equal(volume);
    await call.remove(volume!.volumeId!);
    expect((await refusal(call.create(request))).message).to.match(/^claim "default\/data" has gone/);
    // Another of the same name is another.
    claim();
    expect((await refusal(call.create(request))).message).to.match(/^claim "default\/data" has gone/);
    expect(census()).to.include({ volumes: 0, persistentVolumes: 0 });
  });

  it('leaves nothing of a union whose claim goes, with its class, while it is made', async () => {
    const { store } = plane;
    store.create(persistentVolumeClaims, {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'data', namespace: 'default' },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
    });
    const parameters = {
      ...{ lowerStorageClassName: 'never', branches: '2' },
      ...{ 'csi.storage.k8s.io/pvc/name': 'data', 'csi.storage.k8s.io/pvc/namespace': 'default' },
    };
    store.create(storageClasses, {
      metadata: { name: 'never' },
      provisioner: 'never.example.com',
      volumeBindingMode: 'Immediate',
    });
    expect((await refusal(call.create(creation('pvc-1', { parameters }), 1500))).code).to.equal('ABORTED');
    expect(census()).to.include({ volumes: 1, claims: 3 });
    store.delete(persistentVolumeClaims, { namespace: 'default', name: 'data' });
    // The provisioner does not call again: it cannot read the class any more.
    await eventually('nothing to be left', () => Object.values(census()).every((count) => count === 0));
  });

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
    expect(census()).to.deep.equal({ volumes: 1, attachments: 1, claims: 2, persistentVolumes: 2, pods: 1 });
    expect((await call.list()).entries![0]!.status!.publishedNodeIds).to.deep.equal(['node-a']);
    expect(await ten(() => call.expand(id, 3n * GIB))).to.deep.equal({
      capacityBytes: String(3n * GIB),
      nodeExpansionRequired: false,
    });
    await ten(() => call.unpublish(id, 'node-a'));
    await ten(() => call.remove(id));
    expect(census()).to.deep.equal(NOTHING);
  });

  it('ends in the same state whatever came before (any order of calls)', async function () {
    this.timeout(60_000);
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
        const built = census();
        expect([built.volumes, built.attachments, built.claims, built.pods]).to.deep.equal([1, 1, 2, 1]);
        await again(() => call.unpublish(id, 'node-b'));
        await again(() => call.remove(id));
        expect(census()).to.deep.equal(NOTHING);
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
      expect(census()).to.deep.equal(NOTHING);
    });
  }
});

/** The handlers as plain calls. */
function calls(handlers: ReturnType<typeof controllerHandlers>) {
  const context = (limitMs = 10_000): RpcContext => ({
    signal: AbortSignal.timeout(limitMs),
    deadline: Date.now() + limitMs,
    log: silentLogger,
  });
  const secrets = {};
  return {
    create: (request: CreateVolumeRequest__Output, limitMs?: number) =>
      handlers.CreateVolume!(request, context(limitMs)),
    remove: (volumeId: string) => handlers.DeleteVolume!({ volumeId, secrets }, context()),
    publish: (volumeId: string, nodeId: string, limitMs?: number, how: { mode?: Mode; readonly?: boolean } = {}) => {
      const { mode, readonly = false } = how;
      const request = { volumeId, nodeId, volumeCapability: mount(mode), readonly, secrets, volumeContext: {} };
      return handlers.ControllerPublishVolume!(request, context(limitMs));
    },
    unpublish: (volumeId: string, nodeId: string, limitMs?: number) =>
      handlers.ControllerUnpublishVolume!({ volumeId, nodeId, secrets }, context(limitMs)),
    expand: (volumeId: string, bytes: bigint) => {
      const capacityRange = { requiredBytes: String(bytes), limitBytes: '0' };
      return handlers.ControllerExpandVolume!({ volumeId, capacityRange, secrets, volumeCapability: null }, context());
    },
    validate: (volumeId: string, volumeCapabilities: VolumeCapability__Output[]) => {
      const rest = { volumeContext: {}, parameters: {}, secrets, mutableParameters: {} };
      return handlers.ValidateVolumeCapabilities!({ volumeId, volumeCapabilities, ...rest }, context());
    },
    list: (request: { maxEntries?: number; startingToken?: string } = {}) =>
      handlers.ListVolumes!({ maxEntries: 0, startingToken: '', ...request }, context()),
  };
}

async function refusal(work: Promise<unknown>): Promise<UnionError> {
  try {
    await work;
  } catch (error) {
    expect(error).to.be.instanceOf(UnionError);
    return error as UnionError;
  }
  throw new Error('expected a refusal');
}

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
