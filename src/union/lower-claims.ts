/**
 * The lower claims of created branches: what they look like, and whether one that is there may be trusted.
 * Names can be foreseen, so a claim is ours only if it is owned by this very UnionVolume (by UID) and labelled so;
 * the API server lets nobody but its creator choose that while the UnionVolume lives, and quotas hold by namespace.
 * Source: kubernetes.md, section 3, CreateVolume.
 */
import { formatQuantity } from '../base/units.ts';
import type { PersistentVolumeClaim, StorageClass } from '../protocol/objects.ts';
import { type BranchSpec, DRIVER_NAME, LABEL_BRANCH, LABEL_VOLUME, type UnionVolume } from '../protocol/resources.ts';
import { lowerAccessMode } from './access-mode.ts';
import { ownedBy } from './owner.ts';
import { ANNOTATION_SELECTED_NODE } from './spec.ts';

export function lowerClaim(
  volume: UnionVolume,
  branch: BranchSpec,
  storageClass: StorageClass | undefined,
  volumeName?: string,
): PersistentVolumeClaim {
  const { spec, metadata } = volume;
  const node = waitsForNode(storageClass) ? spec.selectedNode : undefined;
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: {
      name: branch.claim.name,
      namespace: branch.claim.namespace,
      labels: {
        [LABEL_VOLUME]: metadata.name,
        [LABEL_BRANCH]: branch.id,
        'app.kubernetes.io/managed-by': DRIVER_NAME,
      },
      // No scheduler sees this claim, so nobody else would choose its node.
      ...(node === undefined ? {} : { annotations: { [ANNOTATION_SELECTED_NODE]: node } }),
      ownerReferences: ownedBy('UnionVolume', volume),
    },
    spec: {
      accessModes: [lowerAccessMode(spec.accessModes)],
      ...(branch.storageClassName === undefined ? {} : { storageClassName: branch.storageClassName }),
      volumeMode: 'Filesystem',
      ...(volumeName === undefined ? {} : { volumeName }),
      resources: { requests: { storage: formatQuantity(BigInt(branch.sizeBytes ?? 0)) } },
    },
  };
}

export function isOurClaim(volume: UnionVolume, branch: BranchSpec, claim: PersistentVolumeClaim): boolean {
  const { labels, ownerReferences } = claim.metadata;
  return (
    labels?.[LABEL_VOLUME] === volume.metadata.name &&
    labels[LABEL_BRANCH] === branch.id &&
    ownerReferences?.some(({ uid }) => uid === volume.metadata.uid) === true
  );
}

/**
 * A lower provisioner that finds no space on the chosen node takes the annotation away, so that a scheduler would choose
 * another node.
 */
export function lostItsNode(
  volume: UnionVolume,
  claim: PersistentVolumeClaim,
  storageClass: StorageClass | undefined,
): boolean {
  return (
    waitsForNode(storageClass) &&
    volume.spec.selectedNode !== undefined &&
    claim.metadata.annotations?.[ANNOTATION_SELECTED_NODE] === undefined
  );
}

function waitsForNode(storageClass: StorageClass | undefined): boolean {
  return storageClass?.volumeBindingMode === 'WaitForFirstConsumer';
}
