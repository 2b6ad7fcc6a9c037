/**
 * A block volume as a bare device: at a target path there is a bind mount of the device's node, on a file of ours. Which device is
 * shown there is told by mountinfo alone; nobody opens it, so nothing here waits for the volume.
 * The mount of a device's node can be as read-only as it likes, the device is written all the same: readers get a device of their own.
 */
import { closeSync, lstatSync, openSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { messageOf, UnionError } from '../../base/errors.ts';
import { bindMount } from '../../host/mounter.ts';
import { isBindOf, type MountInfo, mountAt, readMountInfo } from '../../host/mountinfo.ts';
import { realMountPath } from '../../host/real-path.ts';
import type { Attachments } from './attachments.ts';

const SECTOR_BYTES = 512;

interface Published {
  readonly attachments: Attachments;
  readonly volumeId: string;
  readonly targetPath: string;
  readonly readOnly: boolean;
  /** No other path may show the volume. */
  readonly onlyOnePod: boolean;
}

/** Shows an attached volume's device at the target path. Repeatable. */
export async function publishDevice(
  { attachments, volumeId, targetPath, readOnly, onlyOnePod }: Published,
  signal: AbortSignal,
): Promise<void> {
  const device = await attachments.openDevice(volumeId, { readOnly }, signal);
  const target = realMountPath(targetPath);
  const mounts = readMountInfo();
  const found = target === undefined ? undefined : mountAt(target, mounts);
  if (found && isBindOf(found, device, mounts)) return;
  if (found) {
    const message = `${found.source} is published at ${targetPath} in another way; unpublish it first`;
    throw new UnionError('ALREADY_EXISTS', message);
  }
  if (onlyOnePod) {
    const devices = await attachments.devicesOf(volumeId, signal);
    const other = mounts.find((mount) => devices.some((each) => isBindOf(mount, each, mounts)));
    if (other !== undefined) {
      const message = `volume ${volumeId} allows one pod and is published at ${other.mountpoint}; unpublish it there first`;
      throw new UnionError('FAILED_PRECONDITION', message);
    }
  }
  makeEmptyFile(targetPath);
  await bindMount({ source: device, target: targetPath, readOnly: false });
}

/** The volume's device that is shown at a path, by us or, of what we published, by someone else. */
export function deviceShownAt(path: string, devices: readonly string[]): string | undefined {
  const mounts = readMountInfo();
  const real = realMountPath(path);
  const found: MountInfo | undefined = real === undefined ? undefined : mountAt(real, mounts);
  return found && devices.find((device) => isBindOf(found, device, mounts));
}

/** As the kernel has it. */
export function deviceBytes(device: string): number {
  return Number(readFileSync(`/sys/class/block/${basename(device)}/size`, 'utf8')) * SECTOR_BYTES;
}

/** What is to be mounted on; one of an earlier call will do. */
function makeEmptyFile(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600));
  } catch (error) {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found?.isFile() && found.size === 0) return;
    const hint = found ? 'it is not an empty file; remove it' : messageOf(error);
    throw new UnionError('FAILED_PRECONDITION', `a device cannot be published at target path ${path}: ${hint}`);
  }
}
