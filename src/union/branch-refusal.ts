/** Adopted claims are other people's, and may have found other users since the union was made. Pure. */
import type { PersistentVolumeClaim, Pod, StorageClass } from '../protocol/objects.ts';
import type { BranchSpec, UnionVolume } from '../protocol/resources.ts';
import { adoptionObstacle } from './adoption.ts';

export interface ObservedUsers {
  /** Claims and pods of the branches' namespace; needed where claims are adopted. */
  readonly claims: readonly PersistentVolumeClaim[];
  readonly pods: readonly Pod[];
  readonly storageClasses: readonly StorageClass[];
}

/** Why no server may mount the branch now. */
export function refusalOf(observed: ObservedUsers, volume: UnionVolume, branch: BranchSpec): string | undefined {
  if (branch.origin !== 'adopted') return undefined;
  const { claims, pods, storageClasses } = observed;
  const { namespace, name } = branch.claim;
  const claim = claims.find(({ metadata }) => metadata.name === name && metadata.namespace === namespace);
  const obstacle = adoptionObstacle({
    volumeId: volume.metadata.name,
    ...{ namespace, name, shared: branch.shared === true, claim, pods, storageClasses },
  });
  return obstacle && `branch ${branch.id}: ${obstacle.message}`;
}
