/**
 * The condition BranchesAvailable of a union: whether its branches work where it is mounted, as node plugins tell. Part of
 * planUnionVolume.
 */
import type { IllBranch, UnionAttachment, UnionVolume } from '../protocol/resources.ts';
import { type ConditionFacts, findCondition, firstOf } from './conditions.ts';

export const BRANCHES_AVAILABLE = 'BranchesAvailable';

/** Undefined where nobody knows, and where nothing was ever wrong: that is no news. */
export function branchesAvailable(
  { status }: UnionVolume,
  attachments: readonly UnionAttachment[],
): ConditionFacts | undefined {
  const type = BRANCHES_AVAILABLE;
  const mounts = attachments.flatMap(({ spec, status }) =>
    status?.mount ? [{ node: spec.node, illBranches: status.mount.illBranches ?? [] }] : [],
  );
  const ill = mounts.flatMap(({ node, illBranches }) => illBranches.map((branch) => ({ node, ...branch })));
  if (ill.length === 0) {
    const wasIll = findCondition(status?.conditions, type) !== undefined;
    if (!wasIll || mounts.length === 0) return undefined;
    return { type, status: 'True', reason: 'BranchesAvailable', message: 'all branches work again' };
  }
  const reason = ill.every(({ health }) => health === 'read-only') ? 'BranchReadOnly' : 'BranchUnavailable';
  const texts = ill.map((branch) => `node ${branch.node}: ${complaintOf(branch)}`);
  return { type, status: 'False', reason, message: firstOf(texts) };
}

export function complaintOf({ id, health, message }: IllBranch): string {
  return `branch ${id} is ${health}: ${message}`;
}
