/**
 * From a CreateVolume request and the cluster's facts to a UnionVolume's spec, or the reason why not.
 * Pure: the caller reads the facts live. Asking again with the same request and facts gives the same spec.
 * Source: kubernetes.md, sections 1 and 3.
 */
import { ok, type Result } from '../base/result.ts';
import type { BranchItem } from '../protocol/branch-list.ts';
import type { PersistentVolumeClaim } from '../protocol/objects.ts';
import { type ClassParameters, parseBranchesAnnotation, parseParameters } from '../protocol/parameters.ts';
import {
  type AccessMode,
  ANNOTATION_BRANCHES,
  API_GROUP,
  API_VERSION,
  DRIVER_NAMESPACE,
  FINALIZER,
  type UnionVolume,
  type UnionVolumeSpec,
} from '../protocol/resources.ts';
import { ACCESS_MODES, checkAccessModes } from './access-mode.ts';
import { accessOf, type ClassFacts, type Context, resolveSources, sizeBranches } from './branches.ts';
import type { CapacityRange } from './capacity.ts';
import { volumeIdOf } from './ids.ts';
import { chooseNode } from './node-choice.ts';
import { type PlanError, refuse } from './plan-error.ts';

export interface VolumeRequest {
  /** The name given to CreateVolume. */
  readonly name: string;
  readonly capacity: CapacityRange;
  readonly accessModes: readonly AccessMode[];
  readonly volumeMode: 'Filesystem' | 'Block';
  readonly mountOptions: readonly string[];
  readonly parameters: Readonly<Record<string, string>>;
  /** The nodes of its topologies, the preferred ones first; the upper claim's selected-node annotation goes before them. */
  readonly nodes?: readonly string[];
}

export const ANNOTATION_SELECTED_NODE = 'volume.kubernetes.io/selected-node';

/** The upper claim that a request is for, before any fact is read; errors are those of the parameters. */
export function upperClaimOf(
  parameters: Readonly<Record<string, string>>,
): Result<ClassParameters['claim'], PlanError> {
  const parsed = parseParameters(parameters);
  return parsed.ok ? ok(parsed.value.claim) : refuse('INVALID_ARGUMENT', parsed.error);
}

/** Whether planning needs the claims and pods of the upper claim's namespace. */
export function adopts(upperClaim: PersistentVolumeClaim | undefined): boolean {
  return upperClaim?.metadata.annotations?.[ANNOTATION_BRANCHES] !== undefined;
}

/** The names of the volumes that the upper claim wants adopted, as far as their claims are bound. */
export function adoptedVolumes(
  upperClaim: PersistentVolumeClaim,
  claims: readonly PersistentVolumeClaim[],
): readonly string[] {
  const items = parseBranchesAnnotation(upperClaim.metadata.annotations?.[ANNOTATION_BRANCHES] ?? '');
  const names = items.ok ? items.value.flatMap((item) => (item.kind === 'claim' ? item.claim : [])) : [];
  return claims.flatMap(({ metadata, spec }) => (names.includes(metadata.name) ? (spec?.volumeName ?? []) : []));
}

/** The spec of the volume that a request asks for. */
export function planVolume(request: VolumeRequest, facts: ClassFacts): Result<UnionVolumeSpec, PlanError> {
  if (request.volumeMode === 'Block') {
    return refuse(
      'INVALID_ARGUMENT',
      'a union is a filesystem and cannot be a block device; set volumeMode: Filesystem',
    );
  }
  if (request.accessModes.length === 0) {
    return refuse('INVALID_ARGUMENT', `no access mode is asked for; name one of ${ACCESS_MODES.join(', ')}`);
  }
  const parsed = parseParameters(request.parameters);
  if (!parsed.ok) return refuse('INVALID_ARGUMENT', parsed.error);
  const parameters = parsed.value;
  const items = itemsOf(parameters, facts);
  if (!items.ok) return items;
  const namespace = namespaceOf(parameters, facts);
  if (!namespace.ok) return namespace;
  const chosen = facts.upperClaim?.metadata.annotations?.[ANNOTATION_SELECTED_NODE];
  const wanted = [...(chosen === undefined ? [] : [chosen]), ...(request.nodes ?? [])];
  const node = chooseNode({ wanted, volumes: facts.adoptedVolumes, nodes: facts.nodes });
  if (!node.ok) return node;
  const selectedNode = node.value;
  const context: Context = {
    volumeId: volumeIdOf(request.name),
    namespace: namespace.value,
    parameters,
    facts,
    ...(selectedNode === undefined ? {} : { selectedNode }),
  };
  const sources = resolveSources(items.value, context);
  if (!sources.ok) return sources;
  const access = checkAccessModes(request.accessModes, sources.value.map(accessOf));
  if (!access.ok) return access;
  const sized = sizeBranches(request.capacity, sources.value, context);
  if (!sized.ok) return sized;
  return ok({
    ...(parameters.claim ? { claim: parameters.claim } : {}),
    volumeName: request.name,
    capacityBytes: String(sized.value.capacityBytes),
    accessModes: [...request.accessModes],
    branches: sized.value.branches,
    policies: parameters.policies,
    expandStrategy: parameters.expandStrategy,
    mountOptions: [...request.mountOptions],
    ...(selectedNode === undefined ? {} : { selectedNode }),
  });
}

/** The object to create for a spec. It has the finalizer from its first moment: nothing it leads to can be orphaned. */
export function unionVolume(spec: UnionVolumeSpec): UnionVolume {
  return {
    apiVersion: `${API_GROUP}/${API_VERSION}`,
    kind: 'UnionVolume',
    metadata: { name: volumeIdOf(spec.volumeName), finalizers: [FINALIZER] },
    spec,
  };
}

function itemsOf(parameters: ClassParameters, facts: ClassFacts): Result<readonly BranchItem[], PlanError> {
  const annotation = facts.upperClaim?.metadata.annotations?.[ANNOTATION_BRANCHES];
  if (annotation !== undefined) {
    const items = parseBranchesAnnotation(annotation);
    return items.ok ? items : refuse('INVALID_ARGUMENT', items.error);
  }
  if (parameters.branches.length > 0) return ok(parameters.branches);
  return refuse(
    'INVALID_ARGUMENT',
    'nothing says what the branches are; set lowerStorageClassName and branches, or branchTemplates, in the storage ' +
      `class, or the annotation ${ANNOTATION_BRANCHES} on the claim`,
  );
}

/**
 * A list that the claim's owner wrote holds in the owner's namespace, even without adopted claims: else it could make
 * volumes of any class and size past the namespace's quota.
 */
function namespaceOf(parameters: ClassParameters, facts: ClassFacts): Result<string, PlanError> {
  if (facts.upperClaim && adopts(facts.upperClaim)) return ok(facts.upperClaim.metadata.namespace ?? 'default');
  if (parameters.branchNamespace === 'driver') return ok(DRIVER_NAMESPACE);
  if (parameters.claim) return ok(parameters.claim.namespace);
  return refuse(
    'INVALID_ARGUMENT',
    'branchNamespace claim needs to know the claim; run the provisioner with --extra-create-metadata',
  );
}
