/** Who owns what the controller makes: it goes with its owner, which waits for it. */
import type { KubeObject, Pod } from '../protocol/objects.ts';
import { API_GROUP, API_VERSION, type UnionAttachment, type UnionVolume } from '../protocol/resources.ts';

/** `metadata.ownerReferences` of an object that belongs to a union's volume or attachment. */
export function ownedBy(kind: 'UnionVolume' | 'UnionAttachment', { metadata }: Pick<KubeObject, 'metadata'>) {
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

/** Labels can be put on by anyone; the owner's UID is the proof. */
export function isOwnedBy({ metadata }: UnionVolume | UnionAttachment, pod: Pod): boolean {
  return pod.metadata.ownerReferences?.some(({ uid }) => uid === metadata.uid) === true;
}
