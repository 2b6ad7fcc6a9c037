/** What the calls about block volumes share: their view of the cluster, and how such a volume can be used. */
import type { Clock } from '../../base/clock.ts';
import { UnionError } from '../../base/errors.ts';
import type { Repository } from '../../kubernetes/repository.ts';
import type { BlockPool, BlockVolume, VolumeMode } from '../../protocol/block-resources.ts';
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

/** `readOnly`, and `onlyOnePod`, are the access mode's. */
export type BlockCapability = { readonly readOnly: boolean; readonly onlyOnePod: boolean } & (
  | { readonly volumeMode: 'Filesystem'; readonly fsType: string; readonly mountFlags: readonly string[] }
  | { readonly volumeMode: 'Block' }
);

const FILESYSTEMS = ['ext4', 'xfs'];

/** Throws INVALID_ARGUMENT. */
export function parseBlockCapability(capability: VolumeCapability__Output | null): BlockCapability {
  if (capability === null) throw invalid('volume_capability is missing; say how the volume is to be used');
  if (!capability.mount && !capability.block) throw invalid('volume_capability has no access type; set mount or block');
  const mode = capability.accessMode?.mode ?? 'UNKNOWN';
  if (mode === 'UNKNOWN') throw invalid('volume_capability has no access mode; name one');
  if (mode.startsWith('MULTI_NODE'))
    throw invalid(`a block volume has one writer on one node, not ${mode}; use access mode ReadWriteOnce`);
  const use = { readOnly: mode === 'SINGLE_NODE_READER_ONLY', onlyOnePod: mode === 'SINGLE_NODE_SINGLE_WRITER' };
  if (!capability.mount) return { ...use, volumeMode: 'Block' };
  const fsType = capability.mount.fsType || 'ext4';
  if (!FILESYSTEMS.includes(fsType)) throw invalid(`filesystem "${fsType}" is not one of ${FILESYSTEMS.join(', ')}`);
  return { ...use, volumeMode: 'Filesystem', fsType, mountFlags: capability.mount.mountFlags };
}

/** The mode that all of them ask for. Throws INVALID_ARGUMENT, also for an empty list. */
export function parseBlockCapabilities(capabilities: readonly VolumeCapability__Output[]): VolumeMode {
  const [first, ...others] = capabilities.map(parseBlockCapability);
  if (first === undefined) throw invalid('volume_capabilities is missing; say how the volume is to be used');
  if (others.every(({ volumeMode }) => volumeMode === first.volumeMode)) return first.volumeMode;
  throw invalid('a volume is either a filesystem or a bare device, for good; ask for one of mount and block');
}

/**
 * A volume stays what it was made as. As a device it may hold what looks blank and is not, so that a filesystem must never be made
 * there; and whoever writes to the device of a mounted filesystem destroys it. Throws FAILED_PRECONDITION.
 */
export function checkVolumeMode({ metadata, spec }: BlockVolume, asked: VolumeMode): void {
  const { volumeMode = 'Filesystem' } = spec;
  if (asked === volumeMode) return;
  const message = `volume "${metadata.name}" was made with volumeMode ${volumeMode} and cannot be used with ${asked}; set volumeMode: ${volumeMode}`;
  throw new UnionError('FAILED_PRECONDITION', message);
}

function invalid(message: string): UnionError {
  return new UnionError('INVALID_ARGUMENT', message);
}
