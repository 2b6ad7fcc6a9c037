/**
 * Names of our objects, all derived: whoever retries finds the same object again.
 * CSI names come with up to 128 characters of mixed case, so they are hashed; ids are only ever compared, never parsed.
 */
import { createHash } from 'node:crypto';
import { DRIVER_NAMESPACE, type UnionVolumeSpec } from '../protocol/resources.ts';

/** The CSI volume id, which is the UnionVolume's name too, from the name given to CreateVolume. */
export function volumeIdOf(volumeName: string): string {
  return `uv-${hash(volumeName)}`;
}

/** The same of a block volume, which is the BlockVolume's name too. */
export function blockVolumeIdOf(volumeName: string): string {
  return `bv-${hash(volumeName)}`;
}

/** The UnionAttachment's name, and its server pod's. */
export function attachmentNameOf(volumeId: string, node: string): string {
  return `ua-${hash(`${volumeId}/${node}`)}`;
}

export function lowerClaimName(volumeId: string, branchId: string): string {
  return `${volumeId}-${branchId}`;
}

/** Where the branches' claims live, and so the server pods: pods can only mount claims of their own namespace. */
export function branchNamespace(spec: UnionVolumeSpec): string {
  return spec.branches[0]?.claim.namespace ?? DRIVER_NAMESPACE;
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}
