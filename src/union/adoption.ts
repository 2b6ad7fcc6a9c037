/**
 * May this claim be a branch of this union? Asked at create, at every reconcile before the claim is bound in, and again at
 * attach. An adopted claim is never deleted, formatted or resized by us (but `grow: true`), and is in one union at most.
 * Source: kubernetes.md, section 1, "Adoption".
 */
import type { PersistentVolumeClaim, Pod, StorageClass } from '../protocol/objects.ts';
import { ANNOTATION_ADOPTED_BY, DRIVER_NAME, LABEL_VOLUME } from '../protocol/resources.ts';
import type { PlanError } from './plan-error.ts';

export interface AdoptionFacts {
  readonly volumeId: string;
  readonly namespace: string;
  readonly name: string;
  readonly shared: boolean;
  /** Undefined: there is none. */
  readonly claim: PersistentVolumeClaim | undefined;
  /** Pods of the namespace; those that do not use the claim do not matter. */
  readonly pods: readonly Pod[];
  readonly storageClasses: readonly StorageClass[];
}

/** Why the claim cannot be adopted, or undefined when it can. */
export function adoptionObstacle(facts: AdoptionFacts): PlanError | undefined {
  const { claim, namespace, name } = facts;
  const title = `claim "${namespace}/${name}"`;
  if (!claim) {
    return { code: 'NOT_FOUND', message: `${title} to adopt does not exist; create it first or take it off the list` };
  }
  if (claim.metadata.deletionTimestamp) {
    return { code: 'FAILED_PRECONDITION', message: `${title} is being deleted and cannot be adopted; use another` };
  }
  if (claim.spec?.volumeMode === 'Block') {
    return {
      code: 'INVALID_ARGUMENT',
      message: `${title} is a block volume; only claims with a filesystem can be adopted`,
    };
  }
  if (isUnionClaim(claim, facts.storageClasses)) {
    return {
      code: 'INVALID_ARGUMENT',
      message: `${title} is a union itself, and unions cannot be nested; adopt its branches instead`,
    };
  }
  const holder = claim.metadata.annotations?.[ANNOTATION_ADOPTED_BY];
  if (holder !== undefined && holder !== facts.volumeId) {
    return {
      code: 'FAILED_PRECONDITION',
      message: `${title} is a branch of union "${holder}"; delete that union's claim first`,
    };
  }
  const lowerOf = claim.metadata.labels?.[LABEL_VOLUME];
  if (lowerOf !== undefined) {
    return {
      code: 'FAILED_PRECONDITION',
      message: `${title} was made for union "${lowerOf}" and belongs to it; use another`,
    };
  }
  const user = facts.shared ? undefined : usersOf(facts)[0];
  if (user) {
    return {
      code: 'FAILED_PRECONDITION',
      message: `${title} is in use by pod "${user.metadata.name}"; delete the pod, or say "shared: true" for this branch`,
    };
  }
  return undefined;
}

/** Pods other than this union's servers that have the claim mounted or are going to. */
function usersOf({ pods, namespace, name, volumeId }: AdoptionFacts): readonly Pod[] {
  return pods.filter(
    (pod) =>
      pod.metadata.namespace === namespace &&
      pod.status?.phase !== 'Succeeded' &&
      pod.status?.phase !== 'Failed' &&
      pod.metadata.labels?.[LABEL_VOLUME] !== volumeId &&
      pod.spec?.volumes?.some((volume) => volume.persistentVolumeClaim?.claimName === name) === true,
  );
}

function isUnionClaim(claim: PersistentVolumeClaim, storageClasses: readonly StorageClass[]): boolean {
  const name = claim.spec?.storageClassName;
  return storageClasses.some((candidate) => candidate.metadata.name === name && candidate.provisioner === DRIVER_NAME);
}
