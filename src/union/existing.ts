/**
 * What may be asked of a volume that exists: the same again (CreateVolume), or more (ControllerExpandVolume).
 */
import { isDeepStrictEqual } from 'node:util';
import { ok, type Result } from '../base/result.ts';
import { formatQuantity } from '../base/units.ts';
import { MAX_BRANCHES } from '../protocol/branch-list.ts';
import type { StorageClass } from '../protocol/objects.ts';
import type { BranchSpec, UnionVolume, UnionVolumeSpec } from '../protocol/resources.ts';
import { type CapacityRange, growCapacity, requiredCapacity, splitCapacity, sum } from './capacity.ts';
import { branchNamespace, lowerClaimName } from './ids.ts';
import { type PlanError, refuse } from './plan-error.ts';

/** Whether an existing volume is what a repeated CreateVolume asks for; CSI wants ALREADY_EXISTS when it is not. */
export function checkSameVolume(
  existing: UnionVolumeSpec,
  asked: UnionVolumeSpec,
  range: CapacityRange,
): Result<void, PlanError> {
  const difference = differenceOf(existing, asked, range);
  if (difference === undefined) return ok(undefined);
  return refuse(
    'ALREADY_EXISTS',
    `volume "${existing.volumeName}" exists with another ${difference}; use another name`,
  );
}

function differenceOf(existing: UnionVolumeSpec, asked: UnionVolumeSpec, range: CapacityRange): string | undefined {
  const has = BigInt(existing.capacityBytes);
  if (has < range.requiredBytes || (range.limitBytes > 0n && has > range.limitBytes)) {
    return `capacity, ${formatQuantity(has)}`;
  }
  if (existing.volumeName !== asked.volumeName) return `name, "${existing.volumeName}"`;
  if (!isDeepStrictEqual([...existing.accessModes].sort(), [...asked.accessModes].sort())) {
    return `set of access modes, ${existing.accessModes.join(', ')}`;
  }
  if (!isDeepStrictEqual(existing.policies, asked.policies)) return 'set of policies';
  if (existing.expandStrategy !== asked.expandStrategy) return `expandStrategy, ${existing.expandStrategy}`;
  // With add-branch, branches beyond those asked for were added by growing.
  const grew = existing.expandStrategy === 'add-branch';
  const kept = grew ? existing.branches.slice(0, asked.branches.length) : existing.branches;
  if (!isDeepStrictEqual(kept.map(identityOf), asked.branches.map(identityOf))) return 'list of branches';
  return undefined;
}

/** Of a branch, all that does not change as it grows. */
function identityOf(branch: BranchSpec): Record<string, unknown> {
  const { sizeBytes: _size, desired: _desired, ...identity } = branch;
  return { ...identity };
}

/** The spec of a volume with more capacity. Its own spec, unchanged, when it has enough already. */
export function planExpansion(
  volume: UnionVolume,
  range: CapacityRange,
  facts: { readonly storageClasses: readonly StorageClass[] },
): Result<UnionVolumeSpec, PlanError> {
  const { spec } = volume;
  const required = requiredCapacity(range);
  if (!required.ok) return required;
  const current = BigInt(spec.capacityBytes);
  if (required.value <= current) return ok(spec);
  if (spec.expandStrategy === 'add-branch') return addBranch(volume, required.value - current, range);
  const branches = spec.branches.map((branch) => ({
    branch,
    sizeBytes: branchBytes(volume, branch),
    growable: canGrow(branch, facts.storageClasses),
  }));
  const sizes = growCapacity(range, branches);
  if (!sizes.ok) return sizes;
  return ok({
    ...spec,
    capacityBytes: String(sum(sizes.value)),
    branches: branches.map(({ branch, growable }, index) =>
      growable ? { ...branch, sizeBytes: String(sizes.value[index]) } : branch,
    ),
  });
}

/** What a branch was asked to hold or, adopted, was found to hold. */
function branchBytes(volume: UnionVolume, branch: BranchSpec): bigint {
  if (branch.sizeBytes !== undefined) return BigInt(branch.sizeBytes);
  return BigInt(volume.status?.branches?.find(({ id }) => id === branch.id)?.capacityBytes ?? 0);
}

/** Adopted claims grow only where their owner said so; an unknown class is the lower driver's to refuse. */
function canGrow(branch: BranchSpec, storageClasses: readonly StorageClass[]): boolean {
  if (branch.origin === 'adopted') return branch.grow === true;
  const storageClass = storageClasses.find(({ metadata }) => metadata.name === branch.storageClassName);
  return storageClass?.allowVolumeExpansion === true;
}

/** Behind the highest that there is. */
export function nextBranchId({ branches }: UnionVolumeSpec): string {
  return `b${Math.max(...branches.map(({ id }) => Number(id.slice(1)))) + 1}`;
}

/** One more branch of the last created one's class, as large as what is missing. */
function addBranch(volume: UnionVolume, missing: bigint, range: CapacityRange): Result<UnionVolumeSpec, PlanError> {
  const { spec } = volume;
  const model = spec.branches.findLast((branch) => branch.origin === 'created');
  if (model?.storageClassName === undefined) {
    return refuse(
      'OUT_OF_RANGE',
      'every branch is adopted, so there is no class to add a branch of; set expandStrategy: grow',
    );
  }
  if (spec.branches.length >= MAX_BRANCHES) {
    return refuse(
      'OUT_OF_RANGE',
      `the union has ${MAX_BRANCHES} branches, the most there can be; grow its branches instead`,
    );
  }
  const current = BigInt(spec.capacityBytes);
  const limitBytes = range.limitBytes === 0n ? 0n : range.limitBytes - current;
  const size = splitCapacity({ requiredBytes: missing, limitBytes }, [{ kind: 'rest' }], 0n);
  if (!size.ok) return size;
  const id = nextBranchId(spec);
  const branch: BranchSpec = {
    ...model,
    id,
    claim: { namespace: branchNamespace(spec), name: lowerClaimName(volume.metadata.name, id) },
    sizeBytes: String(size.value[0]),
    desired: 'active',
  };
  return ok({ ...spec, capacityBytes: String(current + size.value[0]!), branches: [...spec.branches, branch] });
}
