/**
 * The CSI Node service of block.union.csi.dev. As that of unions (../node.ts): each call is a list of steps that look first whether
 * they are done. What may wait for a volume (mount, umount, rmdir, mkfs) is a command of its own: this process serves replicas, and must never
 * wait for itself.
 */
import { lstatSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { UnionError } from '../../base/errors.ts';
import type { AttachConfig } from '../../host/block/attached-volume.ts';
import { command } from '../../host/command.ts';
import { bindMount, probe } from '../../host/mounter.ts';
import { type MountInfo, mountAt, readMountInfo } from '../../host/mountinfo.ts';
import { realMountPath } from '../../host/real-path.ts';
import type { Repository } from '../../kubernetes/repository.ts';
import type { BlockVolume } from '../../protocol/block-resources.ts';
import type { NodeDefinition } from '../../protocol/generated/csi/v1/Node.ts';
import type { NodePublishVolumeRequest__Output } from '../../protocol/generated/csi/v1/NodePublishVolumeRequest.ts';
import type { NodeStageVolumeRequest__Output } from '../../protocol/generated/csi/v1/NodeStageVolumeRequest.ts';
import { TOPOLOGY_KEY_NODE } from '../../protocol/resources.ts';
import { checkArguments, notMounted, oneAtATime, usageOf } from '../node-common.ts';
import type { Handlers } from '../server.ts';
import { prepareStagingDirectory, prepareTarget } from '../union-mounts.ts';
import type { Attachments } from './attachments.ts';
import { checkVolumeMode, needBlockVolume, parseBlockCapability } from './common.ts';
import { deviceBytes, deviceShownAt, publishDevice } from './device.ts';
import { growFilesystem, prepareFilesystem } from './filesystem.ts';

export interface BlockNodeOptions {
  readonly nodeName: string;
  readonly volumes: Repository<BlockVolume>;
  readonly attachments: Attachments;
  readonly configOf: (volume: BlockVolume) => AttachConfig;
  readonly clock: Clock;
}

const CAPABILITIES = ['STAGE_UNSTAGE_VOLUME', 'GET_VOLUME_STATS', 'EXPAND_VOLUME', 'SINGLE_NODE_MULTI_WRITER'] as const;
export function createBlockNodeService(options: BlockNodeOptions): Handlers<NodeDefinition> {
  const exclusively = oneAtATime();
  const { nodeName, attachments } = options;
  return {
    NodeStageVolume: async (request, { signal }) => {
      const { volumeId, stagingTargetPath } = request;
      checkArguments({ volumeId, stagingTargetPath });
      await exclusively(volumeId, () => stage(options, request, signal));
      return {};
    },

    NodeUnstageVolume: async ({ volumeId, stagingTargetPath }, { signal }) => {
      checkArguments({ volumeId, stagingTargetPath });
      await exclusively(volumeId, async () => {
        await unmount(stagingTargetPath, signal);
        await attachments.detach(volumeId, signal);
      });
      return {};
    },

    NodePublishVolume: async (request, { signal }) => {
      const { volumeId, stagingTargetPath, targetPath } = request;
      checkArguments({ volumeId, targetPath, stagingTargetPath });
      await exclusively(volumeId, () => publish(options, request, signal));
      return {};
    },

    NodeUnpublishVolume: async ({ volumeId, targetPath }, { signal }) => {
      checkArguments({ volumeId, targetPath });
      await exclusively(volumeId, () => unmount(targetPath, signal));
      return {};
    },

    NodeGetVolumeStats: async ({ volumeId, volumePath }, { signal }) => {
      checkArguments({ volumeId });
      if (volumePath !== '' && !isAbsolute(volumePath)) throw notMounted(volumeId, volumePath);
      checkArguments({ volumePath });
      const devices = await attachments.devicesOf(volumeId, signal);
      const bare = deviceShownAt(volumePath, devices);
      if (bare !== undefined) return { usage: [{ unit: 'BYTES', total: String(deviceBytes(bare)) }] };
      if (!devices.includes(mountedAt(volumePath)?.source ?? '')) throw notMounted(volumeId, volumePath);
      const answer = await probe(volumePath, signal);
      if (answer.kind !== 'alive') throw new UnionError('UNAVAILABLE', `volume ${volumeId} does not answer`);
      return { usage: usageOf(answer.usage) };
    },

    NodeExpandVolume: async ({ volumeId, volumePath }, { signal }) => {
      // A path that is none is the business of a volume that is there: csi-sanity wants it so.
      checkArguments({ volumeId });
      if (volumePath === '') checkArguments({ volumePath });
      const volume = await needBlockVolume(options.volumes, volumeId, signal);
      checkArguments({ volumePath });
      await exclusively(volumeId, () => expand(options, { volume, volumePath }, signal));
      return { capacityBytes: volume.status?.capacityBytes ?? volume.spec.capacityBytes };
    },

    NodeGetInfo: async () => ({
      nodeId: nodeName,
      accessibleTopology: { segments: { [TOPOLOGY_KEY_NODE]: nodeName } },
    }),

    NodeGetCapabilities: async () => ({ capabilities: CAPABILITIES.map((type) => ({ rpc: { type } })) }),
  };
}

async function stage(
  { nodeName, volumes, attachments, configOf }: BlockNodeOptions,
  { volumeId, stagingTargetPath: stagingPath, volumeCapability }: NodeStageVolumeRequest__Output,
  signal: AbortSignal,
): Promise<void> {
  const capability = parseBlockCapability(volumeCapability);
  // 1. The volume is ours to use, so. Done anew each time: a mount that is there says nothing of it.
  const volume = await needBlockVolume(volumes, volumeId, signal);
  checkVolumeMode(volume, capability.volumeMode);
  if (volume.spec.attachedTo !== nodeName) {
    const where = volume.spec.attachedTo ? `attached to ${volume.spec.attachedTo}` : 'not attached';
    throw new UnionError('FAILED_PRECONDITION', `volume ${volumeId} is ${where}; publish it to node ${nodeName} first`);
  }
  // 2. Its device.
  const device = await attachments.attach(volumeId, configOf(volume), signal);
  // Of a bare device not even a byte is looked at.
  if (capability.volumeMode === 'Block') return;
  const { fsType, mountFlags } = capability;
  // 3. A mount of an earlier call is kept; what is not ours is refused.
  const found = mountedAt(stagingPath);
  if (found?.source === device) return;
  if (found) {
    const message = `${stagingPath} is not volume ${volumeId}'s: ${found.source} is mounted there; unmount it first`;
    throw new UnionError('FAILED_PRECONDITION', message);
  }
  // 4. A filesystem, made if there never was one, as large as the volume.
  await prepareFilesystem({ volumes, volume, device, fsType }, signal);
  // 5. The mount, on a closed, empty directory.
  prepareStagingDirectory(stagingPath);
  const options = mountFlags.length === 0 ? [] : ['-o', mountFlags.join(',')];
  await command('mount', ['--no-mtab', '-t', fsType, ...options, device, stagingPath], signal);
}

async function publish(
  { attachments, volumes }: BlockNodeOptions,
  request: NodePublishVolumeRequest__Output,
  signal: AbortSignal,
): Promise<void> {
  const { volumeId, stagingTargetPath, targetPath, readonly, volumeCapability } = request;
  const capability = parseBlockCapability(volumeCapability);
  const readOnly = readonly || capability.readOnly;
  if (capability.volumeMode === 'Block') {
    // The device alone does not tell whether there is a filesystem on it.
    checkVolumeMode(await needBlockVolume(volumes, volumeId, signal), 'Block');
    await publishDevice({ attachments, volumeId, targetPath, readOnly, onlyOnePod: capability.onlyOnePod }, signal);
    return;
  }
  const device = await attachments.deviceOf(volumeId, signal);
  if (device === undefined || mountedAt(stagingTargetPath)?.source !== device) {
    const message = `volume ${volumeId} is not mounted at the staging path ${stagingTargetPath}; stage it first`;
    throw new UnionError('FAILED_PRECONDITION', message);
  }
  const found = mountedAt(targetPath);
  if (found?.source === device && found.options.includes('ro') === readOnly) return;
  if (found)
    throw new UnionError(
      'ALREADY_EXISTS',
      `${found.source} is published at ${targetPath} in another way; unpublish it first`,
    );
  if (capability.onlyOnePod) checkOnlyTarget({ volumeId, device, stagingPath: stagingTargetPath });
  prepareTarget(targetPath);
  await bindMount({ source: stagingTargetPath, target: targetPath, readOnly });
  if (mountedAt(targetPath)?.source === device) return;
  await unmount(targetPath, signal);
  throw new UnionError('UNAVAILABLE', `volume ${volumeId} went away while it was being published; repeat the call`);
}

function checkOnlyTarget({ volumeId, device, stagingPath }: { volumeId: string; device: string; stagingPath: string }) {
  const own = realMountPath(stagingPath);
  const other = readMountInfo().find(({ source, mountpoint }) => source === device && mountpoint !== own);
  if (other === undefined) return;
  const message = `volume ${volumeId} allows one pod and is published at ${other.mountpoint}; unpublish it there first`;
  throw new UnionError('FAILED_PRECONDITION', message);
}

/** A device that is bare ends there; a filesystem grows with it. */
async function expand(
  { attachments, configOf }: BlockNodeOptions,
  { volume, volumePath }: { readonly volume: BlockVolume; readonly volumePath: string },
  signal: AbortSignal,
): Promise<void> {
  const volumeId = volume.metadata.name;
  const devices = await attachments.devicesOf(volumeId, signal);
  const mounted = mountedAt(volumePath);
  const device = devices.find((each) => each === mounted?.source);
  const isBare = deviceShownAt(volumePath, devices) !== undefined;
  if (!isBare && device === undefined) throw notMounted(volumeId, volumePath);
  await attachments.grow(volumeId, configOf(volume), signal);
  if (device !== undefined && mounted !== undefined)
    await growFilesystem({ device, mountpoint: volumePath, fsType: mounted.fsType }, signal);
}

function mountedAt(path: string): MountInfo | undefined {
  const real = realMountPath(path);
  return real === undefined ? undefined : mountAt(real);
}

/**
 * Unmounts, never lazily, and removes what it was mounted on, which must be empty then. Nothing there is ok. Removing it is a
 * command too: where another mount namespace still has the mount, it ends with the directory, and its last writes are waited for.
 */
async function unmount(path: string, signal: AbortSignal): Promise<void> {
  while (mountedAt(path) !== undefined) await command('umount', ['--no-mtab', path], signal);
  const left = lstatSync(path, { throwIfNoEntry: false });
  if (left?.isFile() && left.size > 0) {
    throw new UnionError('FAILED_PRECONDITION', `${path} is a file with content, which is not ours; move it away`);
  }
  if (left !== undefined) await command('rm', ['--dir', '--', path], signal);
}
