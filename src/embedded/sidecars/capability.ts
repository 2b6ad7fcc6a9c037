/** From Kubernetes' words for volumes to CSI's, as external-provisioner and kubelet put them. Pure. */

import type { VolumeCapability } from '../../protocol/generated/csi/v1/VolumeCapability.ts';
import type { PersistentVolume, PersistentVolumeClaim, StorageClass } from '../../protocol/objects.ts';

type Mode = NonNullable<NonNullable<VolumeCapability['accessMode']>['mode']>;

/** CSI 1.5 told single writers on a node from many; drivers without SINGLE_NODE_MULTI_WRITER know the older mode only. */
export function accessModeOf(mode: string, driverCapabilities: ReadonlySet<string>): Mode {
  const exact = driverCapabilities.has('SINGLE_NODE_MULTI_WRITER');
  switch (mode) {
    case 'ReadWriteOnce':
      return exact ? 'SINGLE_NODE_MULTI_WRITER' : 'SINGLE_NODE_WRITER';
    case 'ReadWriteOncePod':
      return exact ? 'SINGLE_NODE_SINGLE_WRITER' : 'SINGLE_NODE_WRITER';
    case 'ReadOnlyMany':
      return 'MULTI_NODE_READER_ONLY';
    case 'ReadWriteMany':
      return 'MULTI_NODE_MULTI_WRITER';
    default:
      return 'UNKNOWN';
  }
}

/** CreateVolume's capabilities: one for each access mode. */
export function claimCapabilities(
  claim: PersistentVolumeClaim,
  storageClass: StorageClass,
  driverCapabilities: ReadonlySet<string>,
): VolumeCapability[] {
  return (claim.spec?.accessModes ?? []).map((mode) =>
    capability({
      block: claim.spec?.volumeMode === 'Block',
      fsType: storageClass.parameters?.['csi.storage.k8s.io/fstype'],
      mountFlags: storageClass.mountOptions,
      mode: accessModeOf(mode, driverCapabilities),
    }),
  );
}

/** The one capability that publishing and staging name: the widest access mode of the volume. */
export function volumeCapability(volume: PersistentVolume, driverCapabilities: ReadonlySet<string>): VolumeCapability {
  const modes = volume.spec?.accessModes ?? [];
  const widest = ['ReadWriteMany', 'ReadOnlyMany', 'ReadWriteOnce', 'ReadWriteOncePod'].find((mode) =>
    modes.includes(mode),
  );
  return capability({
    block: volume.spec?.volumeMode === 'Block',
    fsType: volume.spec?.csi?.fsType,
    mountFlags: volume.spec?.mountOptions,
    mode: accessModeOf(widest ?? '', driverCapabilities),
  });
}

function capability(of: {
  block: boolean;
  fsType: string | undefined;
  mountFlags: string[] | undefined;
  mode: Mode;
}): VolumeCapability {
  const accessMode = { mode: of.mode };
  if (of.block) return { accessMode, block: {} };
  return { accessMode, mount: { fsType: of.fsType ?? '', mountFlags: of.mountFlags ?? [] } };
}
