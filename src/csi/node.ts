/**
 * The CSI Node service: mounts unions that server pods serve. CSI 1.13, "Node Service RPC".
 *
 * Every call is a list of steps, each of which looks first whether it is done, so that a call can be repeated at any time and
 * by another process. One call per volume at a time; a second one is ABORTED, as the specification asks.
 * This process serves no mount, and asks mounts only from a process of its own that can be killed (host/mounter.ts); one that it
 * holds in custody (custodian.ts) it need not ask.
 */
import { isAbsolute } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { UnionError } from '../base/errors.ts';
import { probe, UNION_FS_TYPE } from '../host/mounter.ts';
import { type MountInfo, readMountInfo } from '../host/mountinfo.ts';
import { realMountPath } from '../host/real-path.ts';
import type { NodeDefinition } from '../protocol/generated/csi/v1/Node.ts';
import type { NodePublishVolumeRequest__Output } from '../protocol/generated/csi/v1/NodePublishVolumeRequest.ts';
import type { VolumeCapability__Output } from '../protocol/generated/csi/v1/VolumeCapability.ts';
import { TOPOLOGY_KEY_NODE } from '../protocol/resources.ts';
import type { Custodian } from './custodian.ts';
import type { RpcContext } from './interceptors.ts';
import { checkArguments, notMounted, oneAtATime, usageOf } from './node-common.ts';
import type { Handlers } from './server.ts';
import type { UnionLink } from './union-link.ts';
import {
  bindStaged,
  isAlive,
  ownMount,
  prepareStagingDirectory,
  prepareTarget,
  removeDead,
  unmountAndRemove,
} from './union-mounts.ts';

export interface NodeServiceOptions {
  readonly nodeName: string;
  readonly link: UnionLink;
  readonly custodian: Custodian;
  readonly clock: Clock;
}

export function createNodeService(options: NodeServiceOptions): Handlers<NodeDefinition> {
  const exclusively = oneAtATime();
  const { nodeName, link, custodian } = options;
  return {
    NodeStageVolume: async (request, context) => {
      const { volumeId, stagingTargetPath, volumeCapability } = request;
      checkArguments({ volumeId, stagingTargetPath });
      checkCapability(volumeCapability);
      return await exclusively(volumeId, async () => {
        await stage(options, { volumeId, stagingPath: stagingTargetPath }, context);
        return {};
      });
    },

    NodeUnstageVolume: async (request, { signal }) => {
      const { volumeId, stagingTargetPath } = request;
      checkArguments({ volumeId, stagingTargetPath });
      return await exclusively(volumeId, async () => {
        // 1. Nobody uses the mount any more. Done when nothing is mounted.
        await unmountAndRemove(stagingTargetPath, volumeId, options, signal);
        // 2. Nor do we, unless it is still published somewhere.
        await custodian.releaseUnmounted(volumeId);
        // 3. The server has closed the branches: from here on lower volumes can be unmounted. Done when it is gone or idle.
        await link.stop(volumeId, signal);
        return {};
      });
    },

    NodePublishVolume: async (request, context) => {
      const { volumeId, stagingTargetPath, targetPath, volumeCapability } = request;
      checkArguments({ volumeId, targetPath, stagingTargetPath });
      checkCapability(volumeCapability);
      return await exclusively(volumeId, async () => {
        await publish(options, request, context);
        return {};
      });
    },

    NodeUnpublishVolume: async (request, { signal }) => {
      const { volumeId, targetPath } = request;
      checkArguments({ volumeId, targetPath });
      return await exclusively(volumeId, async () => {
        await unmountAndRemove(targetPath, volumeId, options, signal);
        return {};
      });
    },

    NodeGetVolumeStats: async ({ volumeId, volumePath }, { signal }) => {
      checkArguments({ volumeId });
      // Nothing is mounted at a path that is none: csi-sanity wants that answer, not INVALID_ARGUMENT.
      if (volumePath !== '' && !isAbsolute(volumePath)) throw notMounted(volumeId, volumePath);
      checkArguments({ volumePath });
      return await volumeStats(custodian, { volumeId, path: volumePath }, signal);
    },

    NodeGetInfo: async () => ({
      nodeId: nodeName,
      accessibleTopology: { segments: { [TOPOLOGY_KEY_NODE]: nodeName } },
    }),

    NodeGetCapabilities: async () => ({
      capabilities: CAPABILITIES.map((type) => ({ rpc: { type } })),
    }),
  };
}

const CAPABILITIES = [
  'STAGE_UNSTAGE_VOLUME',
  'GET_VOLUME_STATS',
  'VOLUME_CONDITION',
  'SINGLE_NODE_MULTI_WRITER',
] as const;

interface StageRequest {
  readonly volumeId: string;
  readonly stagingPath: string;
}

async function stage(
  { link, custodian }: NodeServiceOptions,
  { volumeId, stagingPath }: StageRequest,
  { signal, log }: RpcContext,
): Promise<void> {
  // 1. A mount of an earlier call that answers, or will, is kept, whatever is said of its server: a kubelet that was restarted
  // stages again what its pods use, also while the server waits for them to end. What is not ours is refused.
  const staged = ownMount(stagingPath, volumeId);
  if (staged !== undefined && (await isUsable(staged, volumeId, custodian, signal))) return;
  // 2. The server answers. A retry waits on from where the last call gave up.
  const place = await link.reach(volumeId, signal);
  // 3. What is mounted now is dead: its descriptors went with the processes that had them, or servers die of what is in its state.
  if (ownMount(stagingPath, volumeId) !== undefined) {
    log.warn('node.dead_mount_removed', { volumeId, stagingPath });
    await removeDead(stagingPath, volumeId);
  }
  // 4. A closed, empty directory to mount on.
  prepareStagingDirectory(stagingPath);
  // 5. Mount and hand over, or leave nothing.
  await custodian.mount(volumeId, stagingPath, place, signal);
}

/** It answers, or will. One that answers errors is good for those alone who use it already. */
async function isUsable(
  mount: MountInfo,
  volumeId: string,
  custodian: Custodian,
  signal: AbortSignal,
): Promise<boolean> {
  if (!(await isAlive(mount, custodian, signal))) return false;
  if (custodian.standing(volumeId, mount.device).kind !== 'refused') return true;
  return readMountInfo().some(({ device, mountpoint }) => device === mount.device && mountpoint !== mount.mountpoint);
}

async function publish(
  options: NodeServiceOptions,
  request: NodePublishVolumeRequest__Output,
  context: RpcContext,
): Promise<void> {
  const { volumeId, stagingTargetPath: stagingPath, targetPath, volumeCapability } = request;
  // 1. The volume is staged, and alive: if its server died since, it is staged anew, for kubelet does not do so.
  const before = ownMount(stagingPath, volumeId);
  if (before === undefined) {
    const message = `volume ${volumeId} is not mounted at the staging path ${stagingPath}; stage it first`;
    throw new UnionError('FAILED_PRECONDITION', message);
  }
  if (!(await isUsable(before, volumeId, options.custodian, context.signal))) {
    await stage(options, { volumeId, stagingPath }, context);
  }
  const staged = ownMount(stagingPath, volumeId);
  if (staged === undefined)
    throw new UnionError('UNAVAILABLE', `volume ${volumeId} was just unmounted; repeat the call`);
  // 2. A mount of an earlier call is kept if it shows this very mount in the way asked for.
  const inPlace = ownMount(targetPath, volumeId);
  const readOnly = request.readonly || isReadOnly(volumeCapability);
  if (inPlace !== undefined && inPlace.device === staged.device) {
    if (inPlace.options.includes('ro') === readOnly || staged.options.includes('ro')) return;
    const message = `volume ${volumeId} is published at ${targetPath} ${readOnly ? 'writable' : 'read only'} already; unpublish it first`;
    throw new UnionError('ALREADY_EXISTS', message);
  }
  await removeDead(targetPath, volumeId);
  // 3. ReadWriteOncePod: one target only.
  if (volumeCapability?.accessMode?.mode === 'SINGLE_NODE_SINGLE_WRITER') {
    checkOnlyTarget({ volumeId, device: staged.device, stagingPath, targetPath });
  }
  // 4. A directory of its own, and the mount on it, checked.
  prepareTarget(targetPath);
  await bindStaged({ volumeId, staged, stagingPath, target: targetPath, readOnly });
}

function checkOnlyTarget(options: { volumeId: string; device: string; stagingPath: string; targetPath: string }): void {
  const own = [realMountPath(options.stagingPath), realMountPath(options.targetPath)];
  const other = readMountInfo().find(
    ({ fsType, device, mountpoint }) =>
      fsType === UNION_FS_TYPE && device === options.device && !own.includes(mountpoint),
  );
  if (other === undefined) return;
  const message = `volume ${options.volumeId} allows one pod and is published at ${other.mountpoint}; unpublish it there first`;
  throw new UnionError('FAILED_PRECONDITION', message);
}

async function volumeStats(
  custodian: Custodian,
  { volumeId, path }: { volumeId: string; path: string },
  signal: AbortSignal,
) {
  const real = realMountPath(path);
  const mounted = readMountInfo().findLast(({ mountpoint }) => mountpoint === real);
  if (mounted?.fsType !== UNION_FS_TYPE || mounted.source !== volumeId) throw notMounted(volumeId, path);
  const standing = custodian.standing(volumeId, mounted.device);
  const { kind, message = 'the server of this mount has ended' } = standing;
  if (kind === 'held') return abnormal(`${message}; it answers when the next one is up`);
  if (kind === 'refused') return abnormal(`${message}; it answers errors until a better one is up`);
  const answer = await probe(path, signal);
  if (answer.kind !== 'alive') return abnormal(`${message}; pods that use it must be started again`);
  return {
    usage: usageOf(answer.usage),
    volumeCondition: { abnormal: standing.message !== undefined, message: standing.message ?? 'the mount answers' },
  };
}

function abnormal(message: string) {
  return { usage: [], volumeCondition: { abnormal: true, message } };
}

function checkCapability(capability: VolumeCapability__Output | null): void {
  if (capability === null) throw new UnionError('INVALID_ARGUMENT', 'volume_capability is missing');
  if (capability.accessType === 'block') {
    throw new UnionError('INVALID_ARGUMENT', 'a union cannot be a block device; use volumeMode Filesystem');
  }
  if (capability.accessType !== 'mount')
    throw new UnionError('INVALID_ARGUMENT', 'volume_capability has no access type');
}

function isReadOnly(capability: VolumeCapability__Output | null): boolean {
  const mode = capability?.accessMode?.mode;
  return mode === 'SINGLE_NODE_READER_ONLY' || mode === 'MULTI_NODE_READER_ONLY';
}
