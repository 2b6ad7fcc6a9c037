/**
 * The condition BranchesAvailable of a union: whether its branches work where it is mounted, as node plugins tell, and whether it
 * can be mounted again: no pod starts with a claim that is being deleted. Part of planUnionVolume.
 */
import type { IllBranch, UnionAttachment, UnionVolume } from '../protocol/resources.ts';
import { type ConditionFacts, findCondition, firstOf } from './conditions.ts';

export const BRANCHES_AVAILABLE = 'BranchesAvailable';

/**
 * Undefined where nobody knows, and where nothing was ever wrong: that is no news. `leaving` says which branches' claims are being
 * deleted.
 */
export function branchesAvailable(
  { status }: UnionVolume,
  attachments: readonly UnionAttachment[],
  leaving: readonly string[],
): ConditionFacts | undefined {
  const type = BRANCHES_AVAILABLE;
  const mounts = attachments.flatMap(({ spec, status }) =>
    status?.mount ? [{ node: spec.node, illBranches: status.mount.illBranches ?? [] }] : [],
  );
  const ill = mounts.flatMap(({ node, illBranches }) => illBranches.map((branch) => ({ node, ...branch })));
  if (ill.length + leaving.length === 0) {
    const wasIll = findCondition(status?.conditions, type) !== undefined;
    if (!wasIll || mounts.length === 0) return undefined;
    return { type, status: 'True', reason: 'BranchesAvailable', message: 'all branches work again' };
  }
  const texts = ill.map((branch) => `node ${branch.node}: ${complaintOf(branch)}`);
  return { type, status: 'False', reason: reasonOf(ill), message: firstOf([...texts, ...leaving]) };
}

function reasonOf(ill: readonly IllBranch[]): string {
  if (ill.length === 0) return 'ClaimDeleted';
  return ill.every(({ health }) => health === 'read-only') ? 'BranchReadOnly' : 'BranchUnavailable';
}

export function complaintOf({ id, health, message }: IllBranch): string {
  return `branch ${id} is ${health}: ${message}`;
}
