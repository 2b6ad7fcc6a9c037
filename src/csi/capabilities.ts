/** What CSI calls a volume capability, in Kubernetes's words; block volumes and unknown modes are refused here. */
import { UnionError } from '../base/errors.ts';
import type { VolumeCapability__Output } from '../protocol/generated/csi/v1/VolumeCapability.ts';
import type { AccessMode, UnionVolumeSpec } from '../protocol/resources.ts';

export interface Capability {
  readonly accessMode: AccessMode;
  /** The mode itself allows nothing but reading. */
  readonly readOnly: boolean;
  readonly mountOptions: readonly string[];
}

type CsiMode = NonNullable<VolumeCapability__Output['accessMode']>['mode'];

const MODES: Readonly<Record<Exclude<CsiMode, 'UNKNOWN'>, AccessMode>> = {
  SINGLE_NODE_WRITER: 'ReadWriteOnce',
  SINGLE_NODE_READER_ONLY: 'ReadWriteOnce',
  SINGLE_NODE_MULTI_WRITER: 'ReadWriteOnce',
  SINGLE_NODE_SINGLE_WRITER: 'ReadWriteOncePod',
  MULTI_NODE_READER_ONLY: 'ReadOnlyMany',
  // One writer and many readers are on several nodes all the same, and we do not tell the writer from the readers.
  MULTI_NODE_SINGLE_WRITER: 'ReadWriteMany',
  MULTI_NODE_MULTI_WRITER: 'ReadWriteMany',
};

/** Throws INVALID_ARGUMENT. */
export function parseCapability(capability: VolumeCapability__Output | null): Capability {
  if (capability === null) throw invalid('volume_capability is missing; say how the volume is to be used');
  if (capability.block) {
    throw invalid('a union is a filesystem and cannot be a block device; set volumeMode: Filesystem');
  }
  if (!capability.mount) throw invalid('volume_capability has no access type; set mount');
  const mode = capability.accessMode?.mode ?? 'UNKNOWN';
  if (mode === 'UNKNOWN') throw invalid('volume_capability has no access mode; name one');
  return {
    accessMode: MODES[mode],
    readOnly: mode === 'MULTI_NODE_READER_ONLY' || mode === 'SINGLE_NODE_READER_ONLY',
    mountOptions: capability.mount.mountFlags,
  };
}

/** Throws INVALID_ARGUMENT, also for an empty list. */
export function parseCapabilities(capabilities: readonly VolumeCapability__Output[]): readonly Capability[] {
  if (capabilities.length === 0) throw invalid('volume_capabilities is missing; say how the volume is to be used');
  return capabilities.map(parseCapability);
}

/** Why the volume cannot be used so, or undefined when it can. */
export function capabilityObstacle(spec: UnionVolumeSpec, { accessMode, readOnly }: Capability): string | undefined {
  const has = spec.accessModes;
  const onOneNode = accessMode === 'ReadWriteOnce' || accessMode === 'ReadWriteOncePod';
  const can =
    has.includes(accessMode) ||
    has.includes('ReadWriteMany') ||
    (onOneNode && (readOnly || has.includes('ReadWriteOnce') || has.includes('ReadWriteOncePod')));
  return can ? undefined : `volume "${spec.volumeName}" has access modes ${has.join(', ')}, not ${accessMode}`;
}

function invalid(message: string): UnionError {
  return new UnionError('INVALID_ARGUMENT', message);
}
