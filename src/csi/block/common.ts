/** What the calls about block volumes share: their view of the cluster, and how such a volume can be used. */
import type { Clock } from '../../base/clock.ts';
import { UnionError } from '../../base/errors.ts';
import type { Repository } from '../../kubernetes/repository.ts';
import type { BlockPool, BlockVolume } from '../../protocol/block-resources.ts';
import type { VolumeCapability__Output } from '../../protocol/generated/csi/v1/VolumeCapability.ts';
import type { Node } from '../../protocol/objects.ts';
import { need } from '../controller-common.ts';
import type { Changes } from '../waiting.ts';

export interface BlockControllerDependencies {
  readonly volumes: Repository<BlockVolume>;
  readonly pools: Repository<BlockPool>;
  readonly nodes: Repository<Node>;
  readonly volumeChanges: Changes;
  readonly clock: Clock;
}

export async function needBlockVolume(
  volumes: Repository<BlockVolume>,
  id: string,
  signal: AbortSignal,
): Promise<BlockVolume> {
  const volume = await volumes.get({ name: need(id, 'volume_id') }, signal);
  if (volume === undefined) throw new UnionError('NOT_FOUND', `volume "${id}" does not exist`);
  return volume;
}

export interface BlockCapability {
  readonly fsType: string;
  readonly mountFlags: readonly string[];
}

const FILESYSTEMS = ['ext4', 'xfs'];

/** Throws INVALID_ARGUMENT. */
export function parseBlockCapability(capability: VolumeCapability__Output | null): BlockCapability {
  if (capability === null) throw invalid('volume_capability is missing; say how the volume is to be used');
  if (capability.block) throw invalid('raw block devices are not supported yet; use volumeMode: Filesystem');
  if (!capability.mount) throw invalid('volume_capability has no access type; set mount');
  const mode = capability.accessMode?.mode ?? 'UNKNOWN';
  if (mode === 'UNKNOWN') throw invalid('volume_capability has no access mode; name one');
  if (mode.startsWith('MULTI_NODE'))
    throw invalid(`a block volume has one writer on one node, not ${mode}; use access mode ReadWriteOnce`);
  const fsType = capability.mount.fsType || 'ext4';
  if (!FILESYSTEMS.includes(fsType)) throw invalid(`filesystem "${fsType}" is not one of ${FILESYSTEMS.join(', ')}`);
  return { fsType, mountFlags: capability.mount.mountFlags };
}

/** Throws INVALID_ARGUMENT, also for an empty list. */
export function parseBlockCapabilities(capabilities: readonly VolumeCapability__Output[]): readonly BlockCapability[] {
  if (capabilities.length === 0) throw invalid('volume_capabilities is missing; say how the volume is to be used');
  return capabilities.map(parseBlockCapability);
}

function invalid(message: string): UnionError {
  return new UnionError('INVALID_ARGUMENT', message);
}
