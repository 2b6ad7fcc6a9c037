/** One more branch for a union that exists, asked for by a person: may it be, and what is the spec then. Pure. */
import { nearest } from '../base/nearest.ts';
import { ok, type Result } from '../base/result.ts';
import { MAX_BRANCHES, MIN_BRANCH_BYTES } from '../protocol/branch-list.ts';
import type { PersistentVolumeClaim, Pod, StorageClass } from '../protocol/objects.ts';
import {
  type BranchMode,
  type BranchSpec,
  DRIVER_NAME,
  type UnionVolume,
  type UnionVolumeSpec,
} from '../protocol/resources.ts';
import { ACCESS_MODES, type BranchAccess, checkAccessModes, modesOfProvisioner } from './access-mode.ts';
import { adoptionObstacle } from './adoption.ts';
import { claimCapacity } from './branches.ts';
import { nextBranchId } from './existing.ts';
import { branchNamespace, lowerClaimName } from './ids.ts';
import { type PlanError, refuse } from './plan-error.ts';

export type WantedBranch = {
  readonly mode: BranchMode;
  readonly minFreeSpaceBytes: bigint | undefined;
} & ({ readonly storageClassName: string; readonly sizeBytes: bigint } | { readonly claim: string });

export interface AddBranchFacts {
  readonly storageClasses: readonly StorageClass[];
  /** Claims and pods of the branches' namespace. */
  readonly claims: readonly PersistentVolumeClaim[];
  readonly pods: readonly Pod[];
}

export interface AddedBranch {
  readonly spec: UnionVolumeSpec;
  readonly added: BranchSpec;
}

export function branchToAdd(
  volume: UnionVolume,
  wanted: WantedBranch,
  facts: AddBranchFacts,
): Result<AddedBranch, PlanError> {
  const { spec, metadata } = volume;
  if (metadata.deletionTimestamp) {
    return refuse('FAILED_PRECONDITION', `union "${metadata.name}" is being deleted; nothing can be added to it`);
  }
  if (spec.branches.length >= MAX_BRANCHES) {
    return refuse('OUT_OF_RANGE', `the union has ${MAX_BRANCHES} branches, the most there can be; grow them instead`);
  }
  const common = {
    id: nextBranchId(spec),
    mode: wanted.mode,
    ...(wanted.minFreeSpaceBytes === undefined ? {} : { minFreeSpaceBytes: String(wanted.minFreeSpaceBytes) }),
    desired: 'active' as const,
  };
  const branch = 'claim' in wanted ? adopted(volume, wanted.claim, facts) : created(volume, wanted, facts, common.id);
  if (!branch.ok) return branch;
  const { access, sizeBytes, ...rest } = branch.value;
  const allowed = checkAccessModes(spec.accessModes, [{ ...access, mode: wanted.mode }]);
  if (!allowed.ok) return allowed;
  // What an adopted claim holds is its own affair.
  const size = rest.origin === 'created' ? { sizeBytes: String(sizeBytes) } : {};
  const added: BranchSpec = { ...common, ...rest, ...size };
  const capacityBytes = String(BigInt(spec.capacityBytes) + sizeBytes);
  return ok({ added, spec: { ...spec, capacityBytes, branches: [...spec.branches, added] } });
}

type Origin = Pick<BranchSpec, 'origin' | 'claim' | 'storageClassName'> & {
  readonly access: Pick<BranchAccess, 'name' | 'modes'>;
  readonly sizeBytes: bigint;
};

function created(
  { spec, metadata }: UnionVolume,
  wanted: Extract<WantedBranch, { storageClassName: string }>,
  { storageClasses }: AddBranchFacts,
  id: string,
): Result<Origin, PlanError> {
  const { storageClassName, sizeBytes, mode } = wanted;
  const lowers = storageClasses.filter(({ provisioner }) => provisioner !== DRIVER_NAME);
  const storageClass = lowers.find((candidate) => candidate.metadata.name === storageClassName);
  if (!storageClass) {
    const names = lowers.map((candidate) => candidate.metadata.name);
    const guess = nearest(storageClassName, names);
    const hint = guess ? `did you mean "${guess}"?` : 'name another';
    return refuse('INVALID_ARGUMENT', `"${storageClassName}" is no storage class that a branch can be of; ${hint}`);
  }
  if (mode === 'RO') return refuse('INVALID_ARGUMENT', 'mode RO makes no sense for a new, empty branch; use RW or NC');
  if (sizeBytes < MIN_BRANCH_BYTES) {
    return refuse('OUT_OF_RANGE', `${sizeBytes} bytes are too few for a branch; give it at least 16Mi`);
  }
  return ok({
    origin: 'created',
    claim: { namespace: branchNamespace(spec), name: lowerClaimName(metadata.name, id) },
    storageClassName,
    access: { name: `storage class "${storageClassName}"`, modes: modesOfProvisioner(storageClass.provisioner) },
    sizeBytes,
  });
}

function adopted(
  { spec, metadata }: UnionVolume,
  name: string,
  { claims, pods, storageClasses }: AddBranchFacts,
): Result<Origin, PlanError> {
  const namespace = branchNamespace(spec);
  if (spec.claim?.namespace !== namespace) {
    const message = `the branches are in namespace "${namespace}", so a claim of "${spec.claim?.namespace}" cannot be one`;
    return refuse('FAILED_PRECONDITION', `${message}; add a new volume with --class, or set branchNamespace: claim`);
  }
  if (spec.claim.name === name) return refuse('INVALID_ARGUMENT', `claim "${name}" cannot be a branch of itself`);
  const claim = claims.find((candidate) => candidate.metadata.name === name);
  const volumeId = metadata.name;
  const obstacle = adoptionObstacle({ volumeId, namespace, name, shared: false, claim, pods, storageClasses });
  if (obstacle || !claim) return refuse(obstacle?.code ?? 'NOT_FOUND', obstacle?.message ?? name);
  const granted = claim.status?.accessModes ?? claim.spec?.accessModes ?? [];
  return ok({
    origin: 'adopted',
    claim: { namespace, name },
    access: { name: `claim "${name}"`, modes: ACCESS_MODES.filter((mode) => granted.includes(mode)) },
    sizeBytes: claimCapacity(claim),
  });
}
