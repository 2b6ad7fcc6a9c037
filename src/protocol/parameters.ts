/**
 * Parameters of a union StorageClass (kubernetes.md, section 1).
 * Every key is known or an error: a misspelt parameter that is ignored shows only when the volume is full or slow.
 */
import { nearest } from '../base/nearest.ts';
import { err, ok, type Result } from '../base/result.ts';
import type { Bytes } from '../base/units.ts';
import { type BranchItem, parseBranchList, parseCount, parseOptionalSize } from './branch-list.ts';
import { ANNOTATION_BRANCHES, type PolicySpec } from './resources.ts';

export interface ClassParameters {
  /** Templates of new branches; empty when the class leaves them to the claim's annotation. */
  readonly branches: readonly BranchItem[];
  readonly branchNamespace: 'driver' | 'claim';
  readonly policies: PolicySpec;
  readonly minFreeSpaceBytes?: Bytes;
  readonly expandStrategy: 'grow' | 'add-branch';
  /** The upper claim, where the provisioner runs with --extra-create-metadata. */
  readonly claim?: { readonly namespace: string; readonly name: string };
}

const KNOWN = [
  'lowerStorageClassName',
  'branches',
  'branchTemplates',
  'branchNamespace',
  'createPolicy',
  'actionPolicy',
  'searchPolicy',
  'minFreeSpace',
  'expandStrategy',
] as const;

/** Keys of the sidecars; all but the claim's name are theirs alone. */
const SIDECAR_PREFIX = 'csi.storage.k8s.io/';
const CLAIM_NAME = `${SIDECAR_PREFIX}pvc/name`;
const CLAIM_NAMESPACE = `${SIDECAR_PREFIX}pvc/namespace`;

/** The filesystem's policies (fuse/policy; a test compares the lists: this program's controller does not load the filesystem). */
export const POLICY_NAMES = [
  ...['all', 'ff', 'lfs', 'lup', 'lus', 'mfs', 'newest', 'pfrd', 'rand', 'erofs'],
  ...['epall', 'epff', 'eplfs', 'eplus', 'epmfs', 'eppfrd', 'eprand'],
  ...['msplfs', 'msplus', 'mspmfs', 'msppfrd'],
] as const;
/** Any other would have no effect: a file is on one branch, and a directory is changed on all of its branches. */
const ACTION_POLICIES = ['all', 'epall', 'erofs'] as const;
const SEARCH_POLICIES = POLICY_NAMES.filter((name) => name !== 'erofs');
export const DEFAULT_POLICIES: PolicySpec = { create: 'mspmfs', action: 'epall', search: 'ff' };

/** The error is a message for the person who wrote the class. */
export function parseParameters(parameters: Readonly<Record<string, string>>): Result<ClassParameters, string> {
  for (const key of Object.keys(parameters)) {
    if (key.startsWith(SIDECAR_PREFIX) || (KNOWN as readonly string[]).includes(key)) continue;
    const guess = nearest(key, KNOWN);
    return err(`unknown parameter "${key}"${guess ? `; did you mean "${guess}"?` : `; known are ${KNOWN.join(', ')}`}`);
  }
  const branches = parseBranches(parameters);
  if (!branches.ok) return branches;
  const branchNamespace = parseChoice(parameters, 'branchNamespace', ['driver', 'claim'], 'driver');
  if (!branchNamespace.ok) return branchNamespace;
  const expandStrategy = parseChoice(parameters, 'expandStrategy', ['grow', 'add-branch'], 'grow');
  if (!expandStrategy.ok) return expandStrategy;
  const create = parseChoice(parameters, 'createPolicy', POLICY_NAMES, DEFAULT_POLICIES.create);
  if (!create.ok) return create;
  const action = parseChoice(parameters, 'actionPolicy', ACTION_POLICIES, DEFAULT_POLICIES.action);
  if (!action.ok) return action;
  const search = parseChoice(parameters, 'searchPolicy', SEARCH_POLICIES, DEFAULT_POLICIES.search);
  if (!search.ok) return search;
  const minFreeSpace = parseOptionalSize(parameters.minFreeSpace, 'parameter minFreeSpace:');
  if (!minFreeSpace.ok) return minFreeSpace;
  const name = parameters[CLAIM_NAME];
  const namespace = parameters[CLAIM_NAMESPACE];
  return ok({
    branches: branches.value,
    branchNamespace: branchNamespace.value,
    policies: { create: create.value, action: action.value, search: search.value },
    ...(minFreeSpace.value === undefined ? {} : { minFreeSpaceBytes: minFreeSpace.value }),
    expandStrategy: expandStrategy.value,
    ...(name && namespace ? { claim: { namespace, name } } : {}),
  });
}

/** The list on an upper claim: the whole of its union's branches, in place of the class's. */
export function parseBranchesAnnotation(text: string): Result<readonly BranchItem[], string> {
  const items = parseBranchList(text, 'allowed');
  return items.ok ? items : err(`annotation ${ANNOTATION_BRANCHES}: ${items.error}`);
}

function parseBranches(parameters: Readonly<Record<string, string>>): Result<readonly BranchItem[], string> {
  const { lowerStorageClassName, branches, branchTemplates } = parameters;
  if (branchTemplates !== undefined) {
    if (lowerStorageClassName !== undefined || branches !== undefined) {
      const short = lowerStorageClassName !== undefined ? 'lowerStorageClassName' : 'branches';
      return err(`parameters ${short} and branchTemplates exclude each other; use one of the two forms`);
    }
    const items = parseBranchList(branchTemplates, 'refused');
    return items.ok ? items : err(`parameter branchTemplates: ${items.error}`);
  }
  if (lowerStorageClassName === undefined) {
    if (branches === undefined) return ok([]);
    return err('parameter lowerStorageClassName is missing; name the storage class of the branches');
  }
  if (lowerStorageClassName === '') return err('parameter lowerStorageClassName is empty; name a storage class');
  if (branches === undefined) {
    return err(`parameter branches is missing; say how many volumes of class "${lowerStorageClassName}" to join`);
  }
  const count = parseCount(branches, 'parameter branches');
  if (!count.ok) return count;
  return ok([
    {
      kind: 'template',
      storageClassName: lowerStorageClassName,
      count: count.value,
      size: { kind: 'rest' },
      mode: 'RW',
    },
  ]);
}

function parseChoice<T extends string>(
  parameters: Readonly<Record<string, string>>,
  key: string,
  known: readonly T[],
  otherwise: NoInfer<T> | string,
): Result<T, string> {
  const value = parameters[key] ?? otherwise;
  const found = known.find((choice) => choice === value);
  if (found !== undefined) return ok(found);
  const guess = nearest(value, known);
  return err(
    `parameter ${key} "${value}" is unknown; ${guess ? `did you mean "${guess}"?` : `use ${known.join(', ')}`}`,
  );
}
