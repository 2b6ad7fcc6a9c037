/**
 * Whether a volume is still wanted: a claim may be deleted while its union is being made, and then nobody asks for the union's
 * deletion, because nobody was told that there is one. Only for volumes that were not handed out yet.
 */
import type { PersistentVolumeClaim } from '../protocol/objects.ts';
import type { UnionVolumeSpec } from '../protocol/resources.ts';

/** `found` is what there is now by the name of the claim. */
export function hasLostItsClaim(
  { claim, volumeName }: Pick<UnionVolumeSpec, 'claim' | 'volumeName'>,
  found: PersistentVolumeClaim | undefined,
): boolean {
  if (claim === undefined) return false;
  if (found === undefined || found.metadata.deletionTimestamp) return true;
  // The provisioner names a volume by the UID of its claim: another claim of that name is another.
  const uid = /^pvc-([0-9a-f]{8}-[0-9a-f-]{27})$/.exec(volumeName)?.[1];
  return uid !== undefined && found.metadata.uid !== uid;
}
