/**
 * Branches of classes without a provisioner, whose volumes somebody made beforehand (local disks), and that wait for their
 * first consumer. Then it is the scheduler that binds, and no scheduler sees lower claims: a claim that names its volume is
 * bound all the same. Two unions may choose one volume; the claim that comes too late is made anew (branch-outcome.ts).
 * Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#reserving-a-persistentvolume
 */
import { createHash } from 'node:crypto';
import { parseQuantity } from '../base/units.ts';
import type { PersistentVolume, PersistentVolumeClaim, StorageClass } from '../protocol/objects.ts';
import type { BranchSpec } from '../protocol/resources.ts';
import { lowerAccessMode } from './access-mode.ts';
import type { ObservedVolume } from './plan-volume.ts';
import { isReachable } from './topology.ts';

/** Whether we have to do the scheduler's part for claims of this class. */
export function namesItsVolume(storageClass: StorageClass | undefined): boolean {
  return (
    storageClass?.provisioner === 'kubernetes.io/no-provisioner' &&
    storageClass.volumeBindingMode === 'WaitForFirstConsumer'
  );
}

/** The names of the volumes to be claimed, by branch id; none for a branch that no free volume fits. */
export function chooseVolumes(observed: ObservedVolume): ReadonlyMap<string, string> {
  const chosen = new Map<string, string>();
  const taken = new Set<string>();
  for (const branch of observed.volume.spec.branches) {
    const storageClass = observed.storageClasses.find(({ metadata }) => metadata.name === branch.storageClassName);
    if (!namesItsVolume(storageClass) || observed.branches.get(branch.id)?.claim) continue;
    const [first] = observed.unclaimed
      .filter((volume) => !taken.has(volume.metadata.name) && fits(observed, branch, volume))
      .map((volume) => ({ name: volume.metadata.name, size: capacityOf(volume), order: hash(branch, volume) }))
      // The smallest; of equal ones, other unions should prefer other ones.
      .sort((left, right) => Number(left.size - right.size) || (left.order < right.order ? -1 : 1));
    if (!first) continue;
    chosen.set(branch.id, first.name);
    taken.add(first.name);
  }
  return chosen;
}

/** The volume that the claim names is gone, or another claim's. */
export function lostItsVolume(claim: PersistentVolumeClaim, volumes: readonly PersistentVolume[]): boolean {
  const name = claim.spec?.volumeName;
  if (name === undefined) return false;
  const ref = volumes.find(({ metadata }) => metadata.name === name)?.spec?.claimRef;
  const isThere = volumes.some(({ metadata }) => metadata.name === name);
  const { uid, namespace } = claim.metadata;
  const isOther = ref && (ref.namespace !== namespace || ref.name !== claim.metadata.name || (ref.uid ?? uid) !== uid);
  return !isThere || isOther === true;
}

function fits({ volume, selectedNode }: ObservedVolume, branch: BranchSpec, candidate: PersistentVolume): boolean {
  const { spec, status, metadata } = candidate;
  return (
    spec?.storageClassName === branch.storageClassName &&
    spec?.claimRef === undefined &&
    status?.phase === 'Available' &&
    !metadata.deletionTimestamp &&
    (spec?.volumeMode ?? 'Filesystem') === 'Filesystem' &&
    spec?.accessModes?.includes(lowerAccessMode(volume.spec.accessModes)) === true &&
    capacityOf(candidate) >= BigInt(branch.sizeBytes ?? 0) &&
    isReachable(candidate, selectedNode?.metadata.labels ?? {})
  );
}

function capacityOf({ spec }: PersistentVolume): bigint {
  const capacity = parseQuantity(spec?.capacity?.storage ?? '0');
  return capacity.ok ? capacity.value : 0n;
}

function hash({ claim }: BranchSpec, { metadata }: PersistentVolume): string {
  return createHash('sha256').update(`${claim.name}/${metadata.name}`).digest('hex');
}
