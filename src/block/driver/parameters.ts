/** Parameters of a StorageClass of block.union.csi.dev. Every key is known or an error, as of unions (protocol/parameters.ts). */
import { nearest } from '../../base/nearest.ts';
import { err, ok, type Result } from '../../base/result.ts';

export interface BlockParameters {
  readonly replicas: number;
  /** So few of them in sync suffice to go on. */
  readonly minInSync: number;
  readonly pool: string;
  /** A label of nodes: no two replicas on nodes where it has the same value. */
  readonly spread: string;
}

const KNOWN = ['replicas', 'minInSync', 'pool', 'spread'] as const;
const SIDECAR_PREFIX = 'csi.storage.k8s.io/';
const MAX_REPLICAS = 3;
export const DEFAULT_POOL = 'default';
export const DEFAULT_SPREAD = 'kubernetes.io/hostname';

/** The error is a message for the person who wrote the class. */
export function parseBlockParameters(parameters: Readonly<Record<string, string>>): Result<BlockParameters, string> {
  for (const key of Object.keys(parameters)) {
    if (key.startsWith(SIDECAR_PREFIX) || (KNOWN as readonly string[]).includes(key)) continue;
    const guess = nearest(key, KNOWN);
    return err(`unknown parameter "${key}"${guess ? `; did you mean "${guess}"?` : `; known are ${KNOWN.join(', ')}`}`);
  }
  const { replicas: replicasText = '2', minInSync: minInSyncText = '1' } = parameters;
  const { pool = DEFAULT_POOL, spread = DEFAULT_SPREAD } = parameters;
  const replicas = parseNumber(replicasText, MAX_REPLICAS);
  if (replicas === undefined)
    return err(`parameter replicas "${replicasText}" is not a number from 1 to ${MAX_REPLICAS}`);
  const minInSync = parseNumber(minInSyncText, replicas);
  if (minInSync === undefined)
    return err(`parameter minInSync "${minInSyncText}" is not a number from 1 to ${replicas}, as there are replicas`);
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(pool))
    return err(`parameter pool "${pool}" is not a name; use lower-case letters, digits and dashes`);
  if (spread === '') return err('parameter spread is empty; name a label of nodes');
  return ok({ replicas, minInSync, pool, spread });
}

function parseNumber(text: string, highest: number): number | undefined {
  const value = Number(text);
  return /^\d+$/.test(text) && value >= 1 && value <= highest ? value : undefined;
}
