/**
 * Where a kubelet keeps things, as the real one lays them out: drivers and tests rely on these paths
 * (kubernetes/pkg/volume/csi: csi_util.go, csi_attacher.go, csi_mounter.go). Pure.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';

export interface VolumeKey {
  readonly driver: string;
  readonly volumeHandle: string;
}

/** The directory of everything one pod has on its node. */
export function podDirectory(kubeletDir: string, podUid: string): string {
  return join(kubeletDir, 'pods', podUid);
}

/** Below it a directory for each driver, and in those the staging directories. */
export function stagingRoot(kubeletDir: string): string {
  return join(kubeletDir, 'plugins', 'kubernetes.io', 'csi');
}

/** The record of a staged volume lies in this directory, its mount in `globalmount` below. */
export function stagingDirectory(kubeletDir: string, { driver, volumeHandle }: VolumeKey): string {
  const hash = createHash('sha256').update(volumeHandle).digest('hex');
  return join(stagingRoot(kubeletDir), driver, hash);
}

export function stagingPath(kubeletDir: string, key: VolumeKey): string {
  return join(stagingDirectory(kubeletDir, key), 'globalmount');
}

/** The directories of a pod's CSI volumes: each named after its PersistentVolume. */
export function csiVolumesDirectory(kubeletDir: string, podUid: string): string {
  return join(podDirectory(kubeletDir, podUid), 'volumes', 'kubernetes.io~csi');
}

export function csiVolumeDirectory(kubeletDir: string, podUid: string, persistentVolume: string): string {
  return join(csiVolumesDirectory(kubeletDir, podUid), persistentVolume);
}

/** NodePublishVolume's target path. */
export function publishPath(kubeletDir: string, podUid: string, persistentVolume: string): string {
  return join(csiVolumeDirectory(kubeletDir, podUid, persistentVolume), 'mount');
}

export function emptyDirPath(kubeletDir: string, podUid: string, volume: string): string {
  return join(podDirectory(kubeletDir, podUid), 'volumes', 'kubernetes.io~empty-dir', volume);
}

/** Each run of a container has a directory of its own below this one. */
export function containerDirectory(kubeletDir: string, podUid: string, container: string): string {
  return join(podDirectory(kubeletDir, podUid), 'containers', container);
}

/** One log file for each run of a container. */
export function logFile(
  kubeletDir: string,
  run: { namespace: string; pod: string; uid: string; container: string; restart: number },
): string {
  return join(kubeletDir, 'logs', `${run.namespace}_${run.pod}_${run.uid}_${run.container}_${run.restart}.log`);
}

export function registryDirectory(kubeletDir: string): string {
  return join(kubeletDir, 'plugins_registry');
}

/** The name by which node.status.volumesInUse calls a CSI volume. */
export function uniqueVolumeName({ driver, volumeHandle }: VolumeKey): string {
  return `kubernetes.io/csi/${driver}^${volumeHandle}`;
}
