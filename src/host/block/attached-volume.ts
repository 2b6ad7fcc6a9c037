/**
 * A volume on the node that uses it: `<directory>/volume`, a file that a pair of processes serves (attach-processes.ts), and what
 * they need to know in `<directory>/attach.json`. Both outlive whoever made them; the mount is what ends them.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { UnionError } from '../../base/errors.ts';
import { BLOCK_DRIVER_NAME } from '../../protocol/block-resources.ts';
import type { LoopFile } from '../loop-device.ts';
import type { ReplicaAddress } from './volume-client.ts';

export interface AttachConfig {
  /** By which the replicas serve it. */
  readonly exportName: string;
  readonly sizeBytes: number;
  /** Of all replicas, likely ones first; written anew when it changes. */
  readonly addresses: readonly ReplicaAddress[];
  /** Where the certificates of this node are; without it nothing is encrypted. */
  readonly tls?: string;
}

export const CONFIG_FILE = 'attach.json';
const VOLUME_ID = /^bv-[0-9a-f]{32}$/;

/** Where attached volumes' directories are, and the sockets by which `block-node` and `block-keeper` reach each other. */
export function attachPlaces(kubeletDir: string) {
  const plugin = join(kubeletDir, 'plugins', BLOCK_DRIVER_NAME);
  return { volumes: join(plugin, 'volumes'), node: join(plugin, 'node.sock'), keeper: join(plugin, 'keeper.sock') };
}

export function isVolumeId(id: string): boolean {
  return VOLUME_ID.test(id);
}

/** Throws NOT_FOUND. */
export function volumeDirectory(volumes: string, volumeId: string): string {
  if (isVolumeId(volumeId)) return join(volumes, volumeId);
  throw new UnionError('NOT_FOUND', `volume "${volumeId}" does not exist`);
}

export function volumeFile(directory: string): string {
  return join(directory, 'volume');
}

/** The device that the file is, or will be. */
export function loopFile(directory: string): LoopFile {
  return { file: volumeFile(directory), record: join(directory, 'device') };
}

export function readAttachConfig(directory: string): AttachConfig {
  return JSON.parse(readFileSync(join(directory, CONFIG_FILE), 'utf8'));
}
