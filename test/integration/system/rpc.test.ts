/**
 * Every CSI call of the running driver, repeated and in any order, as external sidecars and kubelet may send them: through the
 * sockets of the production processes, beside the embedded cluster's own sidecars, which know nothing of these volumes.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ServiceError, status } from '@grpc/grpc-js';
import { expect } from 'chai';
import fc from 'fast-check';
import { unionAttachments } from '../../../src/embedded/api-server/kinds.ts';
import { ClusterProcess } from '../../support/cluster-process.ts';
import { ClusterUser } from '../../support/cluster-user.ts';
import { type Answer, CsiCalls } from '../../support/csi-calls.ts';
import { eventually } from '../../support/eventually.ts';
import { fuse, needs } from '../../support/skip.ts';

const nodeId = 'node-1';
const capability = { mount: {}, accessMode: { mode: 'SINGLE_NODE_MULTI_WRITER' } };
const MEBIBYTE = 1024 ** 2;

describe('the calls of the running driver', () => {
  let cluster: ClusterProcess;
  let calls: CsiCalls;
  let atRest: readonly string[];
  let volumeId: string;
  let staging: string;
  let targets: readonly string[];

  before(async function () {
    needs(this, fuse);
    cluster = new ClusterProcess();
    await cluster.start();
    await new ClusterUser(cluster.api).createClass('folder', {}, { provisioner: 'directory.embedded.union.csi.dev' });
    atRest = await cluster.state();
    const node = `${cluster.kubeletDir}/plugins/union.csi.dev/csi.sock`;
    calls = new CsiCalls({ controller: `${cluster.dir}/run/controller.sock`, node });
    staging = join(cluster.kubeletDir, 'rpc', 'staging');
    targets = ['a', 'b'].map((name) => join(cluster.kubeletDir, 'rpc', name));
  });

  after(async function () {
    calls?.close();
    const failed = this.test?.parent?.tests.some(({ state }) => state === 'failed');
    await (failed ? cluster?.discard() : cluster?.stop());
  });

  const send = (method: string, request: object, limitMs?: number) => calls.send(method, request, limitMs);

  /** As sidecars do: again while the answer is that it is not so yet. */
  async function repeat(method: string, request: object): Promise<Answer> {
    let last: ServiceError | undefined;
    return await eventually(
      `${method} to succeed`,
      () =>
        send(method, request).catch((error: ServiceError) => {
          last = error;
          if (error.code === status.ABORTED || error.code === status.UNAVAILABLE) return undefined;
          throw error;
        }),
      60_000,
    ).catch((error) => {
      throw new Error(`${method}: ${last?.message ?? error.message}`);
    });
  }

  const requests = () => {
    const published = { volumeId, stagingTargetPath: staging, volumeCapability: capability };
    return {
      create: {
        name: 'pvc-by-hand',
        capacityRange: { requiredBytes: 64 * MEBIBYTE },
        volumeCapabilities: [capability],
        parameters: { lowerStorageClassName: 'folder', branches: '2' },
      },
      publish: { volumeId, nodeId, volumeCapability: capability },
      stage: { volumeId, stagingTargetPath: staging, volumeCapability: capability },
      bindA: { ...published, targetPath: targets[0] },
      bindB: { ...published, targetPath: targets[1] },
      unbindA: { volumeId, targetPath: targets[0] },
      unbindB: { volumeId, targetPath: targets[1] },
      unstage: { volumeId, stagingTargetPath: staging },
      unpublish: { volumeId, nodeId },
      expand: { volumeId, capacityRange: { requiredBytes: 96 * MEBIBYTE } },
      remove: { volumeId },
    };
  };

  async function create(): Promise<void> {
    const { volume } = (await repeat('CreateVolume', requests().create)) as { volume: { volumeId: string } };
    volumeId = volume.volumeId;
  }

  async function takeAway(): Promise<void> {
    const { unbindA, unbindB, unstage, unpublish, remove } = requests();
    for (const request of [unbindA, unbindB]) await repeat('NodeUnpublishVolume', request);
    await repeat('NodeUnstageVolume', unstage);
    await repeat('ControllerUnpublishVolume', unpublish);
    await repeat('DeleteVolume', remove);
    rmSync(join(cluster.kubeletDir, 'rpc'), { recursive: true, force: true });
    await cluster.expectState(atRest, volumeId);
  }

  it('answers each ten times over the same, one after the other and all at once', async () => {
    /** Ten calls lead where one leads. */
    const ten = async (method: string, request: object): Promise<Answer> => {
      const first = await repeat(method, request);
      await eventually('servers to have started', async () => {
        const sockets = cluster.remains(volumeId).filter((line) => line.endsWith('/run/server.sock'));
        const attachments = await cluster.api.list(unionAttachments);
        const running = attachments.every((attachment) => attachment.status?.phase === 'Running');
        return running && sockets.length === attachments.length;
      });
      const state = await cluster.state(volumeId);
      for (let count = 1; count < 10; count++) expect(await send(method, request), method).to.deep.equal(first);
      const together = await Promise.allSettled(Array.from({ length: 10 }, () => send(method, request)));
      for (const outcome of together) {
        if (outcome.status === 'fulfilled') expect(outcome.value, method).to.deep.equal(first);
        else expect(outcome.reason.code, `${method}: ${outcome.reason.message}`).to.equal(status.ABORTED);
      }
      await cluster.expectState(state, volumeId);
      return first;
    };
    await create();
    const all = requests();
    await ten('GetPluginInfo', {});
    await ten('GetPluginCapabilities', {});
    await ten('Probe', {});
    await ten('ControllerGetCapabilities', {});
    await ten('NodeGetCapabilities', {});
    await ten('NodeGetInfo', {});
    await ten('CreateVolume', all.create);
    await ten('ValidateVolumeCapabilities', { volumeId, volumeCapabilities: [capability] });
    await ten('ControllerPublishVolume', all.publish);
    await ten('ListVolumes', {});
    await ten('ControllerGetVolume', { volumeId });
    await ten('NodeStageVolume', all.stage);
    await ten('NodePublishVolume', all.bindA);
    await ten('NodePublishVolume', all.bindB);
    writeFileSync(join(targets[0]!, 'file'), 'seen through both');
    expect(readFileSync(join(targets[1]!, 'file'), 'utf8')).to.equal('seen through both');
    await repeat('NodeGetVolumeStats', { volumeId, volumePath: targets[0] });
    expect(await ten('ControllerExpandVolume', all.expand)).to.deep.equal({
      capacityBytes: String(96 * MEBIBYTE),
      nodeExpansionRequired: false,
    });
    await ten('NodeUnpublishVolume', all.unbindA);
    await ten('NodeUnpublishVolume', all.unbindB);
    await ten('NodeUnstageVolume', all.unstage);
    await ten('ControllerUnpublishVolume', all.unpublish);
    await ten('DeleteVolume', all.remove);
    await takeAway();
  });

  const METHODS = {
    create: 'CreateVolume',
    publish: 'ControllerPublishVolume',
    stage: 'NodeStageVolume',
    bindA: 'NodePublishVolume',
    bindB: 'NodePublishVolume',
    unbindA: 'NodeUnpublishVolume',
    unbindB: 'NodeUnpublishVolume',
    unstage: 'NodeUnstageVolume',
    unpublish: 'ControllerUnpublishVolume',
    expand: 'ControllerExpandVolume',
    remove: 'DeleteVolume',
  } as const;

  it('ends in the same state whatever came before', async () => {
    await create();
    const step = fc.constantFrom(...(Object.keys(METHODS) as (keyof typeof METHODS)[]));
    const steps = fc.array(step, { minLength: 4, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(steps, fc.boolean(), async (names, atOnce) => {
        const pending: Promise<void>[] = [];
        for (const name of names) {
          // A caller as impatient as this gives up on calls under way, too.
          const outcome = send(METHODS[name], requests()[name], 1_000).then(
            () => {},
            // Whatever is refused is refused for a reason that the specification knows, never by a bug.
            (error: ServiceError) => expect(EXPECTED, `${name}: ${error.message}`).to.include(status[error.code]),
          );
          if (atOnce) pending.push(outcome as Promise<void>);
          else await outcome;
        }
        await Promise.all(pending);
        await takeAway();
        await create();
        const { publish, stage, bindA, bindB } = requests();
        await repeat('ControllerPublishVolume', publish);
        await repeat('NodeStageVolume', stage);
        for (const request of [bindA, bindB]) await repeat('NodePublishVolume', request);
        writeFileSync(join(targets[0]!, 'file'), 'again');
        expect(readFileSync(join(targets[1]!, 'file'), 'utf8')).to.equal('again');
      }),
      { numRuns: 4, endOnFailure: true },
    );
    await takeAway();
  });

  describe('refuse', () => {
    const refusal = async (method: string, request: object): Promise<ServiceError> => {
      return await send(method, request).then(
        () => expect.fail(`${method} was not refused`),
        (error: ServiceError) => error,
      );
    };

    before(async () => {
      await create();
      const { publish, stage } = requests();
      await repeat('ControllerPublishVolume', publish);
      await repeat('NodeStageVolume', stage);
    });
    after(takeAway);

    it('a staging path that is not ours', async () => {
      const elsewhere = join(cluster.dir, 'lower');
      const error = await refusal('NodePublishVolume', { ...requests().bindA, stagingTargetPath: elsewhere });
      expect(status[error.code]).to.equal('FAILED_PRECONDITION');
      expect(error.details).to.equal(
        `volume ${volumeId} is not mounted at the staging path ${elsewhere}; stage it first`,
      );
      await repeat('NodePublishVolume', requests().bindA);
      await repeat('NodeUnpublishVolume', requests().unbindA);
    });

    it('a target that is a file, which stays as it is', async () => {
      const target = targets[0]!;
      writeFileSync(target, 'precious');
      const error = await refusal('NodePublishVolume', requests().bindA);
      expect(status[error.code]).to.equal('FAILED_PRECONDITION');
      expect(error.details).to.equal(`target path ${target} cannot be mounted on: it is not a directory; remove it`);
      expect(readFileSync(target, 'utf8')).to.equal('precious');
      rmSync(target);
      await repeat('NodePublishVolume', requests().bindA);
    });
  });
});

const EXPECTED: readonly string[] = [
  ...['ABORTED', 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'FAILED_PRECONDITION', 'OUT_OF_RANGE'],
];
