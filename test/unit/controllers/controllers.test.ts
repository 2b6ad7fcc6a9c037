/** The reconcilers over a real API server: killed at every write, they still make, attach and clean up a union. */
import { expect } from 'chai';
import { silentLogger } from '../../../src/base/logger.ts';
import { runControllers } from '../../../src/controllers/run.ts';
import {
  events,
  namespaces,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  unionAttachments,
  unionVolumes,
} from '../../../src/embedded/api-server/kinds.ts';
import type { KubeClient } from '../../../src/kubernetes/client.ts';
import {
  ANNOTATION_BRANCHES,
  ANNOTATION_PROVISIONED,
  FINALIZER,
  LABEL_VOLUME,
  type UnionAttachment,
  type UnionVolume,
} from '../../../src/protocol/resources.ts';
import { attachmentNameOf } from '../../../src/union/ids.ts';
import { planVolume, unionVolume } from '../../../src/union/spec.ts';
import { type ControlPlane, startControlPlane } from '../../support/control-plane.ts';
import { claim, classFacts, storageClass, volumeRequest } from '../../support/union-objects.ts';

const DEADLINE_MS = 60_000;

interface Running {
  /** Also of those who took over. */
  stop(): Promise<void>;
}

function start(client: KubeClient): Running {
  const controller = new AbortController();
  const ended = runControllers({ client, log: silentLogger, server: { image: 'union-csi' } }, controller.signal);
  return {
    async stop() {
      controller.abort();
      await ended;
    },
  };
}

/** Controllers that end around their write number `at`, just before or just after it; then others take over. */
function startToBeKilled(plane: ControlPlane, at: number, moment: 'before' | 'after') {
  let writes = 0;
  let next: Promise<Running> | undefined;
  const die = (): never => {
    next ??= first.stop().then(() => start(plane.client));
    throw new Error('killed');
  };
  const dying: KubeClient = {
    ...plane.client,
    async request(request, signal) {
      if (next) die();
      const fatal = request.method !== 'GET' && ++writes === at;
      if (fatal && moment === 'before') die();
      const answer = await plane.client.request(request, signal);
      return fatal ? die() : answer;
    },
  };
  const first = start(dying);
  return {
    wasKilled: () => next !== undefined,
    async stop() {
      await first.stop();
      await (await next)?.stop();
    },
  };
}

async function until(plane: ControlPlane, what: string, holds: () => boolean): Promise<void> {
  const signal = AbortSignal.timeout(DEADLINE_MS);
  while (!holds()) {
    if (signal.aborted)
      throw new Error(`not in time: ${what}: ${JSON.stringify(plane.store.list(unionVolumes)[0]?.status)}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function makeClaim(plane: ControlPlane, name: string, annotations: Record<string, string> = {}) {
  const { apiVersion, kind, spec = {} } = claim(name, { storageClassName: 'plain' });
  return plane.store.create(persistentVolumeClaims, {
    apiVersion,
    kind,
    spec,
    metadata: { name, namespace: 'shop', annotations },
  });
}

/** A union of two new branches and the claim `data`. */
function makeUnion(
  plane: ControlPlane,
  name: string,
  list = '- {storageClassName: plain, count: 2}\n- {claim: data}',
): UnionVolume {
  const upperClaim = claim('files', { annotations: { [ANNOTATION_BRANCHES]: list } });
  const claims = plane.store.list(persistentVolumeClaims);
  const planned = planVolume(
    volumeRequest({ name }),
    classFacts({ storageClasses: [storageClass('plain')], upperClaim, claims }),
  );
  if (!planned.ok) throw new Error(planned.error.message);
  // As CreateVolume marks it when it answers: from then on it is there without its claim too.
  const made = unionVolume(planned.value);
  const metadata = { ...made.metadata, annotations: { [ANNOTATION_PROVISIONED]: 'true' } };
  return plane.store.create(unionVolumes, { ...made, metadata });
}

function attachmentOf(volume: string, node: string): UnionAttachment {
  return {
    apiVersion: 'union.csi.dev/v1alpha1',
    kind: 'UnionAttachment',
    metadata: { name: attachmentNameOf(volume, node), finalizers: [FINALIZER] },
    spec: { volume, node, readOnly: false },
  };
}

describe('the controllers', () => {
  let plane: ControlPlane;

  beforeEach(async () => {
    plane = await startControlPlane();
    plane.store.create(namespaces, { metadata: { name: 'shop' } });
    makeClaim(plane, 'data');
  });

  afterEach(() => plane.close());

  /** From the first claim to the last trace. */
  async function live(name: string): Promise<void> {
    const { store } = plane;
    const before = store.get(persistentVolumeClaims, { namespace: 'shop', name: 'data' })!;
    const volume = makeUnion(plane, name);
    const ref = { name: volume.metadata.name };
    await until(plane, 'ready', () => store.get(unionVolumes, ref)?.status?.phase === 'Ready');
    const attachment = store.create(unionAttachments, attachmentOf(ref.name, 'node-a'));
    const place = { name: attachment.metadata.name };
    await until(plane, 'attached', () => store.get(unionAttachments, place)?.status?.phase === 'Running');
    expect(store.list(pods)).to.have.length(1);

    store.delete(unionAttachments, place);
    store.delete(unionVolumes, ref);
    await until(plane, 'gone', () => store.list(unionVolumes).length + store.list(unionAttachments).length === 0);
    await until(plane, 'no pods', () => store.list(pods).length === 0);
    expect(store.list(persistentVolumeClaims, { labelSelector: LABEL_VOLUME })).to.deep.equal([]);
    expect(store.list(persistentVolumes)).to.have.length(1);
    const after = store.get(persistentVolumeClaims, { namespace: 'shop', name: 'data' });
    expect(after?.metadata.uid).to.equal(before.metadata.uid);
    expect(after?.metadata.finalizers).to.deep.equal(before.metadata.finalizers);
    expect(after?.metadata.annotations ?? {}).to.deep.equal({});
  }

  for (const moment of ['before', 'after'] as const) {
    it(`complete what others began, killed ${moment} each write`, async () => {
      for (let at = 1, killed = true; killed; at++) {
        const controllers = startToBeKilled(plane, at, moment);
        try {
          await live(`pvc-${at}`);
        } finally {
          await controllers.stop();
        }
        killed = controllers.wasKilled();
        if (!killed) expect(at).to.be.greaterThan(10);
      }
    });
  }

  it('tell the union and its claim what happens', async () => {
    const controllers = start(plane.client);
    try {
      const files = makeClaim(plane, 'files');
      const volume = makeUnion(plane, 'pvc-1');
      const told = (uid: string | undefined) =>
        plane.store
          .list(events, { fieldSelector: `involvedObject.uid=${uid},reason=Ready` })
          .map(({ message }) => message);
      await until(plane, 'events', () => told(files.metadata.uid).length + told(volume.metadata.uid).length === 2);
      expect(told(files.metadata.uid)).to.deep.equal(['3 branches are bound']);
    } finally {
      await controllers.stop();
    }
  });

  it('say why a lower claim cannot be made', async () => {
    const controllers = start(plane.client);
    try {
      const made = makeUnion(plane, 'pvc-1');
      const branches = made.spec.branches
        .slice(0, 1)
        .map((branch) => ({ ...branch, claim: { ...branch.claim, namespace: 'nowhere' } }));
      const volume = plane.store.create(unionVolumes, {
        ...made,
        metadata: { name: 'uv-elsewhere', finalizers: [FINALIZER], annotations: made.metadata.annotations ?? {} },
        spec: { ...made.spec, branches },
      });
      const message = () => plane.store.get(unionVolumes, volume.metadata)?.status?.conditions?.[0]?.message ?? '';
      await until(plane, 'the reason', () => message().includes('nowhere" not found'));
      expect(message()).to.match(/^branch b0: /);
    } finally {
      await controllers.stop();
    }
  });

  it('pass on what the lower driver says', async () => {
    plane.holdClaims = true;
    const controllers = start(plane.client);
    try {
      const volume = makeUnion(plane, 'pvc-1', '- {storageClassName: plain}');
      const lower = () => plane.store.list(persistentVolumeClaims, { labelSelector: LABEL_VOLUME })[0];
      await until(plane, 'the lower claim', () => lower() !== undefined);
      const { name, namespace, uid } = lower()!.metadata as { name: string; namespace: string; uid: string };
      plane.store.create(events, {
        metadata: { name: 'full', namespace },
        involvedObject: { kind: 'PersistentVolumeClaim', name, namespace, uid },
        type: 'Warning',
        reason: 'ProvisioningFailed',
        message: 'the disk\n is full\n',
      });
      const message = () => plane.store.get(unionVolumes, volume.metadata)?.status?.conditions?.[0]?.message;
      await until(plane, 'its words', () => message() === 'branch b0: the disk is full');
    } finally {
      await controllers.stop();
    }
  });

  it('make a server pod anew that somebody deleted', async () => {
    const controllers = start(plane.client);
    const { store } = plane;
    try {
      const { metadata } = makeUnion(plane, 'pvc-1');
      const { metadata: place } = store.create(unionAttachments, attachmentOf(metadata.name, 'node-a'));
      const podUid = () => store.get(unionAttachments, place)?.status?.pod?.uid;
      const runs = () => store.get(unionAttachments, place)?.status?.phase === 'Running';
      await until(plane, 'running', runs);
      const first = podUid();
      store.delete(pods, { namespace: 'shop', name: place.name });
      await until(plane, 'running again', () => runs() && podUid() !== first);
    } finally {
      await controllers.stop();
    }
  });
});
