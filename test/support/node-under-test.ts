/**
 * The CSI Node service over real mounts in a kubelet directory of its own, with null unions in the place of the filesystem: in this
 * process, or in one that can be killed.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { Custodian } from '../../src/csi/custodian.ts';
import { createNodeService } from '../../src/csi/node.ts';
import { ServerRecords } from '../../src/csi/server-records.ts';
import { UnionLink } from '../../src/csi/union-link.ts';
import { unmountOnce } from '../../src/host/mounter.ts';
import { readMountInfo } from '../../src/host/mountinfo.ts';
import { startRefuser } from '../../src/main/server-refuse.ts';
import type { NodePublishVolumeRequest__Output } from '../../src/protocol/generated/csi/v1/NodePublishVolumeRequest.ts';
import type { VolumeCapability__Output } from '../../src/protocol/generated/csi/v1/VolumeCapability.ts';
import type { UnionAttachment } from '../../src/protocol/resources.ts';
import { attachmentNameOf, volumeIdOf } from '../../src/union/ids.ts';
import { endCopies, removeFolderWithMounts } from './loop-branches.ts';
import { killed } from './processes.ts';
import { type Inability, type InProcessServer, spawnServer, startServer } from './union-servers.ts';

export const volumeId = volumeIdOf('pvc-1');
export const nodeName = 'node-1';

const program = fileURLToPath(new URL('../../bin/union-csi', import.meta.url));
const rest = { publishContext: {}, secrets: {}, volumeContext: {} };

/** Branches are not added in these tests. */
const NO_FEEDERS = { feed: async () => {}, stop: async () => {} };

export class NodeUnderTest {
  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), 'node-service-')));
  readonly kubeletDir = join(this.folder, 'kubelet');
  readonly stagingTargetPath = join(this.kubeletDir, 'staging', 'globalmount');
  readonly targetPath = join(this.kubeletDir, 'pods', 'app', 'mount');
  readonly custodian: Custodian;
  readonly service: Required<ReturnType<typeof createNodeService>>;
  attachment: UnionAttachment | undefined = attachmentTo('pod-1');
  /** What its answers wait for. */
  api: Promise<void> = Promise.resolve();
  server: InProcessServer | undefined;
  /** What the attachment was told of the mount. */
  readonly said: string[] = [];
  readonly started: ChildProcess[] = [];

  /** `speed`: how many times as fast time passes for it. */
  constructor(speed = 20) {
    mkdirSync(join(this.kubeletDir, 'staging'), { recursive: true });
    const attachments = {
      get: async ({ name }: { name: string }) => {
        await this.api;
        return name === this.attachment?.metadata.name ? this.attachment : undefined;
      },
    };
    const clock = impatientClock(speed);
    const link = new UnionLink({ nodeName, kubeletDir: this.kubeletDir, attachments, feeding: NO_FEEDERS, clock });
    this.custodian = new Custodian({
      ...{ link, clock, log: silentLogger },
      records: new ServerRecords(this.kubeletDir, silentLogger),
      refuse: (descriptors) => startRefuser(descriptors, [program]),
      tell: (_, { state, message }) => this.said.push(`${state} ${message}`.trim()),
    });
    const service = createNodeService({ nodeName, link, custodian: this.custodian, clock });
    this.service = service as typeof this.service;
  }

  context() {
    return { signal: AbortSignal.timeout(60_000), deadline: Infinity, log: silentLogger };
  }

  async stage(stagingTargetPath = this.stagingTargetPath): Promise<void> {
    const request = { volumeId, stagingTargetPath, volumeCapability: capability(), ...rest };
    await this.service.NodeStageVolume(request, this.context());
  }

  async unstage(): Promise<void> {
    await this.service.NodeUnstageVolume({ volumeId, stagingTargetPath: this.stagingTargetPath }, this.context());
  }

  async publish(change: Partial<NodePublishVolumeRequest__Output> = {}): Promise<void> {
    const { stagingTargetPath, targetPath } = this;
    const request = {
      volumeId,
      stagingTargetPath,
      targetPath,
      volumeCapability: capability(),
      readonly: false,
      ...rest,
    };
    await this.service.NodePublishVolume({ ...request, ...change }, this.context());
  }

  async unpublish(targetPath = this.targetPath): Promise<void> {
    await this.service.NodeUnpublishVolume({ volumeId, targetPath }, this.context());
  }

  async stats(volumePath: string) {
    return await this.service.NodeGetVolumeStats({ volumeId, volumePath, stagingTargetPath: '' }, this.context());
  }

  /** The server of a pod, in this process. */
  serve(podUid = 'pod-1', options: Inability & { readonly volume?: string } = {}): InProcessServer {
    this.server = startServer(this.#socket(podUid), options.volume ?? volumeId, options);
    return this.server;
  }

  /** One that can be killed. */
  async spawn(podUid = 'pod-1'): Promise<ChildProcess> {
    const child = await spawnServer(this.#socket(podUid), volumeId);
    this.started.push(child);
    return child;
  }

  /** Where something is mounted. */
  mounts(): readonly string[] {
    return readMountInfo()
      .map(({ mountpoint }) => mountpoint)
      .filter((path) => path.startsWith(this.folder));
  }

  async close(): Promise<void> {
    for (const child of this.started) await killed(child);
    await this.custodian.close();
    // Not by a program that we would wait for: we may be the ones who answer it.
    for (const path of this.mounts().toReversed()) await unmountOnce(path, { lazy: true });
    // A test beside this one, or a container, may have made a mount namespace: the server would wait for its end.
    endCopies(this.folder);
    await this.server?.close();
    removeFolderWithMounts(this.folder);
  }

  #socket(podUid: string): string {
    return join(this.kubeletDir, 'pods', podUid, 'volumes', 'kubernetes.io~empty-dir', 'run', 'server.sock');
  }
}

/** An attachment whose server runs in a pod. */
export function attachmentTo(podUid: string): UnionAttachment {
  return {
    apiVersion: 'union.csi.dev/v1alpha1',
    kind: 'UnionAttachment',
    metadata: { name: attachmentNameOf(volumeId, nodeName) },
    spec: { volume: volumeId, node: nodeName, readOnly: false },
    status: { phase: 'Running', pod: { namespace: 'union-csi', name: 'server-1', uid: podUid } },
  };
}

export function capability(
  mode: 'SINGLE_NODE_WRITER' | 'SINGLE_NODE_SINGLE_WRITER' = 'SINGLE_NODE_WRITER',
): VolumeCapability__Output {
  return { accessMode: { mode }, accessType: 'mount', mount: { fsType: '', mountFlags: [], volumeMountGroup: '' } };
}

/** Waits a fraction of the time, and takes a wait for as many times as long. */
function impatientClock(speed: number) {
  const start = systemClock.now();
  return {
    now: () => start + (systemClock.now() - start) * speed,
    sleep: (delayMs: number, signal?: AbortSignal) => systemClock.sleep(delayMs / speed, signal),
  };
}
