/**
 * The branches of a union to be: where each comes from, whether it may, how large it is.
 * Part of planVolume (spec.ts), which checks the request itself.
 */
import { nearest } from '../base/nearest.ts';
import { ok, type Result } from '../base/result.ts';
import { type Bytes, parseQuantity } from '../base/units.ts';
import type { AdoptedClaim, BranchItem, BranchTemplate } from '../protocol/branch-list.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim, Pod, StorageClass } from '../protocol/objects.ts';
import type { ClassParameters } from '../protocol/parameters.ts';
import { type BranchSpec, DRIVER_NAME } from '../protocol/resources.ts';
import { ACCESS_MODES, type BranchAccess, modesOfProvisioner } from './access-mode.ts';
import { adoptionObstacle } from './adoption.ts';
import { type CapacityRange, splitCapacity, sum } from './capacity.ts';
import { lowerClaimName } from './ids.ts';
import { type PlanError, refuse } from './plan-error.ts';

/** What the caller reads from the cluster, live, before planning a volume. */
export interface ClassFacts {
  /** All of the cluster. */
  readonly storageClasses: readonly StorageClass[];
  /** The claim that the parameters name (see `upperClaimOf`), if it exists. */
  readonly upperClaim?: PersistentVolumeClaim;
  /** Claims and pods of the upper claim's namespace; needed only when it has the adoption annotation. */
  readonly claims: readonly PersistentVolumeClaim[];
  readonly pods: readonly Pod[];
  /** Volumes of the claims to adopt, and with them all nodes. */
  readonly adoptedVolumes: readonly PersistentVolume[];
  readonly nodes: readonly Node[];
}

export interface Context {
  readonly volumeId: string;
  readonly namespace: string;
  readonly parameters: ClassParameters;
  readonly facts: ClassFacts;
  readonly selectedNode?: string;
}

/** Where one branch comes from, with what the cluster says about it. */
export type Source =
  | { readonly kind: 'template'; readonly item: BranchTemplate; readonly storageClass: StorageClass }
  | {
      readonly kind: 'claim';
      readonly item: AdoptedClaim;
      readonly claim: PersistentVolumeClaim;
      readonly capacityBytes: bigint;
    };

export function resolveSources(items: readonly BranchItem[], context: Context): Result<readonly Source[], PlanError> {
  const sources: Source[] = [];
  for (const item of items) {
    const source = item.kind === 'template' ? resolveTemplate(item, context) : resolveClaim(item, context);
    if (!source.ok) return source;
    const count = item.kind === 'template' ? item.count : 1;
    for (let index = 0; index < count; index++) sources.push(source.value);
  }
  return ok(sources);
}

function resolveTemplate(item: BranchTemplate, context: Context): Result<Source, PlanError> {
  const { storageClasses } = context.facts;
  const name = item.storageClassName;
  const storageClass = storageClasses.find((candidate) => candidate.metadata.name === name);
  if (!storageClass) {
    const others = storageClasses.filter((candidate) => candidate.provisioner !== DRIVER_NAME);
    const guess = nearest(
      name,
      others.map((candidate) => candidate.metadata.name),
    );
    const hint = guess ? `did you mean "${guess}"?` : 'create it or name another';
    return refuse('INVALID_ARGUMENT', `lower storage class "${name}" does not exist; ${hint}`);
  }
  if (storageClass.provisioner === DRIVER_NAME) {
    return refuse(
      'INVALID_ARGUMENT',
      `lower storage class "${name}" makes unions itself, and unions cannot be nested; name a class of another driver`,
    );
  }
  if (storageClass.volumeBindingMode === 'WaitForFirstConsumer' && context.selectedNode === undefined) {
    return refuse(
      'INVALID_ARGUMENT',
      `lower storage class "${name}" waits for a node, and none is known; ` +
        'set volumeBindingMode: WaitForFirstConsumer in the union class too',
    );
  }
  return ok({ kind: 'template', item, storageClass });
}

function resolveClaim(item: AdoptedClaim, context: Context): Result<Source, PlanError> {
  const { facts, namespace, volumeId } = context;
  if (item.claim === facts.upperClaim?.metadata.name) {
    return refuse('INVALID_ARGUMENT', `claim "${namespace}/${item.claim}" cannot be a branch of itself; name another`);
  }
  const claim = facts.claims.find(({ metadata }) => metadata.name === item.claim && metadata.namespace === namespace);
  const { pods, storageClasses } = facts;
  const obstacle = adoptionObstacle({
    volumeId,
    namespace,
    name: item.claim,
    shared: item.shared,
    claim,
    pods,
    storageClasses,
  });
  if (obstacle || !claim) return refuse(obstacle?.code ?? 'NOT_FOUND', obstacle?.message ?? item.claim);
  return ok({ kind: 'claim', item, claim, capacityBytes: claimCapacity(claim) });
}

/** What a claim holds; what it asks for while it is not bound. */
export function claimCapacity(claim: PersistentVolumeClaim): bigint {
  const text = claim.status?.capacity?.storage ?? claim.spec?.resources?.requests?.storage ?? '0';
  const parsed = parseQuantity(text);
  return parsed.ok ? parsed.value : 0n;
}

export function accessOf(source: Source): BranchAccess {
  if (source.kind === 'template') {
    const { name } = source.storageClass.metadata;
    return {
      name: `storage class "${name}"`,
      mode: source.item.mode,
      modes: modesOfProvisioner(source.storageClass.provisioner),
    };
  }
  const granted = source.claim.status?.accessModes ?? source.claim.spec?.accessModes ?? [];
  return {
    name: `claim "${source.item.claim}"`,
    mode: source.item.mode,
    modes: ACCESS_MODES.filter((mode) => granted.includes(mode)),
  };
}

interface SizedBranches {
  readonly branches: readonly BranchSpec[];
  readonly capacityBytes: bigint;
}

export function sizeBranches(
  range: CapacityRange,
  sources: readonly Source[],
  context: Context,
): Result<SizedBranches, PlanError> {
  const adopted = sum(sources.map((source) => (source.kind === 'claim' ? source.capacityBytes : 0n)));
  const templates = sources.filter((source) => source.kind === 'template');
  // A union of adopted claims alone has the size they have.
  const whole = templates.length === 0 && range.requiredBytes === 0n ? { ...range, requiredBytes: adopted } : range;
  const sizes = splitCapacity(
    whole,
    templates.map((source) => source.item.size),
    adopted,
  );
  if (!sizes.ok) return sizes;
  const remaining = [...sizes.value];
  const branches = sources.map((source, index) =>
    branchSpec(source, {
      id: `b${index}`,
      sizeBytes: source.kind === 'template' ? remaining.shift() : undefined,
      context,
    }),
  );
  return ok({ branches, capacityBytes: sum(sizes.value) + adopted });
}

function branchSpec(
  source: Source,
  { id, sizeBytes, context }: { id: string; sizeBytes: bigint | undefined; context: Context },
): BranchSpec {
  const { namespace, volumeId, parameters } = context;
  const minFreeSpace: Bytes | undefined = source.item.minFreeSpaceBytes ?? parameters.minFreeSpaceBytes;
  const common = {
    id,
    mode: source.item.mode,
    ...(minFreeSpace === undefined ? {} : { minFreeSpaceBytes: String(minFreeSpace) }),
    desired: 'active' as const,
  };
  if (source.kind === 'template') {
    return {
      ...common,
      origin: 'created',
      claim: { namespace, name: lowerClaimName(volumeId, id) },
      storageClassName: source.item.storageClassName,
      sizeBytes: String(sizeBytes),
    };
  }
  const { claim, grow, shared } = source.item;
  return { ...common, origin: 'adopted', claim: { namespace, name: claim }, grow, shared };
}
