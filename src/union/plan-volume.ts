/**
 * What to do next about a UnionVolume: pure, from what was observed to a list of actions, empty when all is as it should be.
 * Every action leaves a state from which the next plan goes on, so that a process may end between any two of them.
 * Invariants: an adopted claim is never deleted; a claim that is not provably ours is never touched; a branch that once
 * had a volume is never made anew, empty; the finalizer goes last. Source: kubernetes.md, sections 1 to 3.
 */
import { assertNever } from '../base/assert.ts';
import { formatQuantity } from '../base/units.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim, Pod, StorageClass } from '../protocol/objects.ts';
import {
  FINALIZER,
  type PodRef,
  type UnionAttachment,
  type UnionVolume,
  type UnionVolumeStatus,
} from '../protocol/resources.ts';
import { type BranchOutcome, type ClaimRef, observeBranch } from './branch-outcome.ts';
import { branchesAvailable } from './branches-available.ts';
import { sum } from './capacity.ts';
import { type ConditionFacts, firstOf, type PlannedEvent } from './conditions.ts';
import { planDeletion } from './plan-deletion.ts';
import type { ServerPodOptions } from './server-pod.ts';
import { chooseVolumes } from './static-volumes.ts';
import { intersectTopology } from './topology.ts';
import { conditionsOf, generationOf, statusActions } from './volume-status.ts';

/** What was read about one branch, live. */
export interface ObservedBranch {
  readonly claim: PersistentVolumeClaim | undefined;
  /** Volumes bound to the branch's claim, or left of one that is gone. */
  readonly volumes: readonly PersistentVolume[];
  /** The last warning about a claim that is not bound: its driver's own words. */
  readonly warning?: string;
}

export interface ObservedVolume {
  readonly volume: UnionVolume;
  /** By branch id. */
  readonly branches: ReadonlyMap<string, ObservedBranch>;
  /** Pods of the branches' namespace; needed where claims are adopted. */
  readonly pods: readonly Pod[];
  readonly storageClasses: readonly StorageClass[];
  /** Volumes of classes without a provisioner that nobody has claimed, and the node that was chosen for the union. */
  readonly unclaimed: readonly PersistentVolume[];
  readonly selectedNode: Node | undefined;
  /** Read live when the union is to go. */
  readonly attachments: readonly UnionAttachment[];
  /** It was never handed out, and its claim has gone (lost-claim.ts). */
  readonly unwanted: boolean;
  /** For pods that release adopted claims. */
  readonly server: ServerPodOptions;
  /** RFC 3339. */
  readonly now: string;
}

export type VolumeAction =
  | { readonly kind: 'add-finalizer' }
  /** The union itself, if it is still as it was seen. */
  | { readonly kind: 'delete-union' }
  | { readonly kind: 'create-claim'; readonly branchId: string; readonly claim: PersistentVolumeClaim }
  /** Take an existing claim: finalizer and annotation, if it is still as it was seen. */
  | { readonly kind: 'adopt-claim'; readonly branchId: string; readonly claim: ClaimRef }
  | { readonly kind: 'grow-claim'; readonly branchId: string; readonly claim: ClaimRef; readonly sizeBytes: bigint }
  | { readonly kind: 'delete-claim'; readonly branchId: string; readonly claim: ClaimRef }
  /** Undo adopt-claim. */
  | { readonly kind: 'release-claim'; readonly branchId: string; readonly claim: ClaimRef }
  /** The pod that takes the union's records off an adopted claim, and the end of one that failed. */
  | { readonly kind: 'create-pod'; readonly pod: Pod }
  | { readonly kind: 'delete-pod'; readonly pod: PodRef }
  | { readonly kind: 'remove-finalizer' }
  | { readonly kind: 'event'; readonly event: PlannedEvent }
  | { readonly kind: 'update-status'; readonly status: UnionVolumeStatus };

/** Reasons of the condition Ready. `OutOfSpace`: the lower driver has none on the selected node; elsewhere may be some. */
export type ReadyReason =
  | 'Ready'
  | 'Provisioning'
  | 'OutOfSpace'
  | 'Refused'
  | 'Lost'
  | 'NoCommonTopology'
  | 'Deleting';

export function planUnionVolume(observed: ObservedVolume): readonly VolumeAction[] {
  const { metadata } = observed.volume;
  const held = metadata.finalizers?.includes(FINALIZER) === true;
  if (metadata.deletionTimestamp) return held ? planDeletion(observed) : [];
  if (observed.unwanted) return [{ kind: 'delete-union' }];
  // Before anything is made that would have to be cleaned up.
  return held ? planUpkeep(observed) : [{ kind: 'add-finalizer' }];
}

function planUpkeep(observed: ObservedVolume): readonly VolumeAction[] {
  const { volume } = observed;
  const chosen = chooseVolumes(observed);
  const outcomes = volume.spec.branches.map((branch) => observeBranch(observed, branch, chosen.get(branch.id)));
  // A union that cannot be takes no space.
  const refused = outcomes.some(({ status }) => status.phase === 'Refused');
  const actions = outcomes
    .flatMap(({ action }) => action ?? [])
    .filter(({ kind }) => !refused || kind !== 'create-claim');
  return [...actions, ...statusActions(observed, upkeepStatus(observed, outcomes))];
}

function upkeepStatus(observed: ObservedVolume, outcomes: readonly BranchOutcome[]): UnionVolumeStatus {
  const { volume, attachments } = observed;
  const leaving = outcomes.filter((outcome) => outcome.leaving);
  const available = branchesAvailable(volume, attachments, leaving.map(explainOne));
  const bound = outcomes.filter(({ status }) => status.phase === 'Bound');
  const topology = intersectTopology(
    bound.flatMap(({ status, volume: lower }) => (lower ? [{ branchId: status.id, volume: lower }] : [])),
  );
  const ready = readiness(observed, outcomes, topology.ok ? undefined : topology.error.message);
  const capacityBytes = sum(bound.map(({ status }) => BigInt(status.capacityBytes ?? 0)));
  return {
    phase: phaseOf(ready),
    capacityBytes: String(capacityBytes),
    branches: outcomes.map(({ status }) => status),
    accessibleTopology: topology.ok ? topology.value : [],
    conditions: conditionsOf(observed, [
      ready,
      resized(volume, outcomes, capacityBytes),
      ...(available ? [available] : []),
    ]),
    ...generationOf(volume),
  };
}

function phaseOf(ready: ConditionFacts & { reason: ReadyReason }): NonNullable<UnionVolumeStatus['phase']> {
  switch (ready.reason) {
    case 'Ready':
      return 'Ready';
    case 'Provisioning':
    case 'OutOfSpace':
      return 'Pending';
    case 'Refused':
    case 'Lost':
    case 'NoCommonTopology':
      return 'Failed';
    case 'Deleting':
      return 'Deleting';
    default:
      return assertNever(ready.reason);
  }
}

/**
 * Ready is: every branch is bound. A branch that is being added to a union that was ready does not take that away:
 * nothing was written to it yet.
 */
function readiness(
  { volume }: ObservedVolume,
  outcomes: readonly BranchOutcome[],
  unreachable: string | undefined,
): ConditionFacts & { reason: ReadyReason } {
  const not = (reason: ReadyReason, message: string) => ({ type: 'Ready', status: 'False' as const, reason, message });
  const isNew = ({ status }: BranchOutcome) =>
    volume.status?.phase === 'Ready' && status.persistentVolume === undefined && status.phase === 'Pending';
  const needed = outcomes.filter((outcome) => !isNew(outcome));
  const lost = explain(needed.filter(({ status }) => status.phase === 'Lost'));
  if (lost) return not('Lost', lost);
  const refused = explain(needed.filter(({ status }) => status.phase === 'Refused'));
  if (refused) return not('Refused', refused);
  if (unreachable !== undefined) return not('NoCommonTopology', unreachable);
  const full = explain(needed.filter(({ outOfSpace }) => outOfSpace));
  if (full) return not('OutOfSpace', full);
  const pending = explain(needed.filter(({ status }) => status.phase === 'Pending'));
  if (pending) return not('Provisioning', pending);
  const count = outcomes.filter(({ status }) => status.phase === 'Bound').length;
  const message = count === 1 ? '1 branch is bound' : `${count} branches are bound`;
  return { type: 'Ready', status: 'True', reason: 'Ready', message };
}

/** What is with these branches, of many only the first ones; empty when there are none. */
function explain(outcomes: readonly BranchOutcome[]): string {
  return firstOf(outcomes.map(explainOne));
}

function explainOne({ status }: BranchOutcome): string {
  return `branch ${status.id}: ${status.message ?? 'is growing'}`;
}

/** Whether the union has the size that its spec asks for. */
function resized(volume: UnionVolume, outcomes: readonly BranchOutcome[], capacityBytes: bigint): ConditionFacts {
  const asked = BigInt(volume.spec.capacityBytes);
  const waiting = outcomes.filter(({ status, growing }) => growing || status.phase !== 'Bound');
  if (capacityBytes >= asked && waiting.length === 0) {
    const message = `the union holds ${formatQuantity(capacityBytes)}`;
    return { type: 'Resized', status: 'True', reason: 'Resized', message };
  }
  const sizes = `${formatQuantity(capacityBytes)} of ${formatQuantity(asked)}`;
  const message = `${sizes}; ${explain(waiting) || 'the branches hold less than they were asked for'}`;
  return { type: 'Resized', status: 'False', reason: 'Growing', message };
}
