/**
 * What to do next about a UnionVolume that is to go: created claims are deleted, adopted ones given back as they came.
 * Part of planUnionVolume (plan-volume.ts), which see for the invariants.
 */
import type { KubeObject, PersistentVolumeClaim, Pod } from '../protocol/objects.ts';
import { ANNOTATION_ADOPTED_BY, type BranchSpec, type UnionVolumeStatus } from '../protocol/resources.ts';
import { claimRef } from './branch-outcome.ts';
import type { ConditionFacts } from './conditions.ts';
import { isOurClaim } from './lower-claims.ts';
import type { ObservedVolume, ReadyReason, VolumeAction } from './plan-volume.ts';
import { isReleasePod, releasePod } from './release-pod.ts';
import { conditionsOf, generationOf, statusActions } from './volume-status.ts';

export function planDeletion(observed: ObservedVolume): readonly VolumeAction[] {
  const { volume, attachments } = observed;
  if (attachments.length > 0) {
    const nodes = attachments.map(({ spec }) => spec.node);
    return statusActions(observed, deletionStatus(observed, [`detach from ${nodes.join(', ')}`]));
  }
  const steps = volume.spec.branches.map((branch) => endBranch(observed, branch));
  const pending = steps.flatMap((step) => step.pending ?? []);
  const actions = steps.flatMap(({ action }) => action ?? []);
  if (pending.length === 0) return [...actions, { kind: 'remove-finalizer' }];
  return [...actions, ...statusActions(observed, deletionStatus(observed, pending))];
}

interface Step {
  readonly action?: VolumeAction;
  /** What the union must still wait for, for people. */
  readonly pending?: string;
}

function endBranch(observed: ObservedVolume, branch: BranchSpec): Step {
  const { volume, branches } = observed;
  const { claim, volumes } = branches.get(branch.id) ?? { claim: undefined, volumes: [] };
  const branchId = branch.id;
  if (branch.origin === 'adopted') {
    const ours = claim?.metadata.annotations?.[ANNOTATION_ADOPTED_BY] === volume.metadata.name;
    return claim && ours ? giveBack(observed, branch, claim) : {};
  }
  if (claim && isOurClaim(volume, branch, claim)) {
    const pending = title('claim', claim);
    if (claim.metadata.deletionTimestamp) return { pending };
    return { action: { kind: 'delete-claim', branchId, claim: claimRef(claim) }, pending };
  }
  // A class that retains its volumes keeps them, also from us; a foreign claim's volume is not ours to wait for.
  const left = volumes.find(
    ({ spec }) =>
      spec?.persistentVolumeReclaimPolicy === 'Delete' && (!claim || spec.claimRef?.uid !== claim.metadata.uid),
  );
  return left ? { pending: `volume "${left.metadata.name}"` } : {};
}

/** First the union's records go from the claim's volume, then ours from the claim. */
function giveBack(observed: ObservedVolume, branch: BranchSpec, claim: PersistentVolumeClaim): Step {
  const release: Step = {
    action: { kind: 'release-claim', branchId: branch.id, claim: claimRef(claim) },
    pending: title('claim', claim),
  };
  if (!hasRecords(observed, branch, claim)) return release;
  const pod = observed.pods.find((candidate) => isReleasePod(observed.volume, branch, candidate));
  const of = `to take the union's records off ${title('claim', claim)}`;
  if (!pod) {
    const made = releasePod(observed.volume, branch, observed.server);
    return { action: { kind: 'create-pod', pod: made }, pending: `${title('pod', made)} ${of}` };
  }
  if (pod.status?.phase === 'Succeeded') return release;
  const pending = `${title('pod', pod)} ${of}${waitingFor(pod)}`;
  if (pod.status?.phase !== 'Failed' || pod.metadata.deletionTimestamp) return { pending };
  const { namespace = '', name, uid = '' } = pod.metadata;
  return { action: { kind: 'delete-pod', pod: { namespace, name, uid } }, pending };
}

/** Something may have been written to it, and can still be reached: no pod starts with a claim that is being deleted. */
function hasRecords({ volume }: ObservedVolume, branch: BranchSpec, claim: PersistentVolumeClaim): boolean {
  const recorded = volume.status?.branches?.find(({ id }) => id === branch.id)?.persistentVolume;
  const isThere = claim.status?.phase === 'Bound' && !claim.metadata.deletionTimestamp;
  return branch.mode !== 'RO' && isThere && recorded !== undefined && recorded === claim.spec?.volumeName;
}

function waitingFor({ status }: Pod): string {
  const waiting = status?.containerStatuses?.find(({ state }) => state?.waiting)?.state?.waiting;
  const unscheduled = status?.conditions?.find((each) => each.type === 'PodScheduled' && each.status === 'False');
  const why = waiting?.message ?? waiting?.reason ?? unscheduled?.message;
  return why === undefined ? '' : ` (${why})`;
}

function title(kind: string, { metadata }: KubeObject): string {
  return `${kind} "${metadata.namespace}/${metadata.name}"`;
}

function deletionStatus(observed: ObservedVolume, pending: readonly string[]): UnionVolumeStatus {
  const { volume } = observed;
  const facts: ConditionFacts = {
    type: 'Ready',
    status: 'False',
    reason: 'Deleting' satisfies ReadyReason,
    message: `waits for: ${pending.join(', ')}`,
  };
  return { ...volume.status, phase: 'Deleting', conditions: conditionsOf(observed, [facts]), ...generationOf(volume) };
}
