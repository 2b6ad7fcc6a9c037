/** Who owns what the controller makes: it goes with its owner, which waits for it. */
import { API_GROUP, API_VERSION, type UnionAttachment, type UnionVolume } from '../protocol/resources.ts';

/** `metadata.ownerReferences` of an object that belongs to a union's volume or attachment. */
export function ownedBy(kind: 'UnionVolume' | 'UnionAttachment', { metadata }: UnionVolume | UnionAttachment) {
  return [
    {
      apiVersion: `${API_GROUP}/${API_VERSION}`,
      kind,
      name: metadata.name,
      uid: metadata.uid ?? '',
      controller: true,
      blockOwnerDeletion: true,
    },
  ];
}
