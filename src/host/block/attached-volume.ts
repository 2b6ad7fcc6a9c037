/**
 * A volume on the node that uses it: `<directory>/volume`, a file that a pair of processes serves (main/block-attach.ts), and what
 * they need to know in `<directory>/attach.json`. Both outlive whoever made them; the mount is what ends them.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
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

export function volumeFile(directory: string): string {
  return join(directory, 'volume');
}

export function readAttachConfig(directory: string): AttachConfig {
  return JSON.parse(readFileSync(join(directory, CONFIG_FILE), 'utf8'));
}
