/**
 * One branch of a living union: how it stands, and the next action it needs, if any.
 * Part of planUnionVolume (plan-volume.ts), which see for the invariants.
 */
import { formatQuantity, parseQuantity } from '../base/units.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '../protocol/objects.ts';
import {
  ANNOTATION_ADOPTED_BY,
  type BranchPhase,
  type BranchSpec,
  type BranchStatus,
  DRIVER_NAME,
  FINALIZER_ADOPTED,
} from '../protocol/resources.ts';
import { adoptionObstacle } from './adoption.ts';
import { claimCapacity } from './branches.ts';
import { isOurClaim, lostItsNode, lowerClaim } from './lower-claims.ts';
import type { ObservedVolume, VolumeAction } from './plan-volume.ts';
import { lostItsVolume, namesItsVolume } from './static-volumes.ts';

/** A claim as it was seen; resourceVersion and uid make acting on it a compare-and-swap. */
export interface ClaimRef {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: string;
  /** A merge patch replaces lists whole, so the other finalizers are needed to change ours. */
  readonly finalizers: readonly string[];
}

export interface BranchOutcome {
  readonly status: BranchStatus;
  readonly action?: VolumeAction;
  /** The lower driver has no space where this branch was to be. */
  readonly outOfSpace: boolean;
  /** Bound, and not yet as large as asked. */
  readonly growing: boolean;
  /** Bound, and somebody has asked for the deletion of its claim, which cannot be taken back. */
  readonly leaving: boolean;
  /** Of a bound branch. */
  readonly volume?: PersistentVolume;
}

export function claimRef({ metadata }: PersistentVolumeClaim): ClaimRef {
  return {
    namespace: metadata.namespace ?? '',
    name: metadata.name,
    uid: metadata.uid ?? '',
    resourceVersion: metadata.resourceVersion ?? '',
    finalizers: metadata.finalizers ?? [],
  };
}

/** `chosen` is the volume to claim, where the class leaves that to us (static-volumes.ts). */
export function observeBranch(observed: ObservedVolume, branch: BranchSpec, chosen: string | undefined): BranchOutcome {
  return branch.origin === 'created' ? observeCreated(observed, branch, chosen) : observeAdopted(observed, branch);
}

function observeCreated(observed: ObservedVolume, branch: BranchSpec, chosen: string | undefined): BranchOutcome {
  const { volume, storageClasses } = observed;
  const { claim, warning, volumes = [] } = observed.branches.get(branch.id) ?? {};
  const storageClass = storageClasses.find(({ metadata }) => metadata.name === branch.storageClassName);
  const known = recordOf(observed, branch);
  const title = titleOf(branch);
  if (!claim) {
    if (known?.persistentVolume !== undefined) return unbound(known, branch, 'Lost', lostMessage(title));
    if (chosen === undefined && namesItsVolume(storageClass)) {
      const size = formatQuantity(BigInt(branch.sizeBytes ?? 0));
      const message = `storage class "${branch.storageClassName}" has no free volume of ${size} on node "${volume.spec.selectedNode}"`;
      return { ...unbound(known, branch, 'Pending', message), outOfSpace: true };
    }
    const action = {
      kind: 'create-claim',
      branchId: branch.id,
      claim: lowerClaim(volume, branch, storageClass, chosen),
    } as const;
    return { ...unbound(known, branch, 'Pending', warning ?? `${title} is being made`), action };
  }
  if (!isOurClaim(volume, branch, claim)) {
    return unbound(known, branch, 'Refused', `${title} exists and was not made for this union; delete or rename it`);
  }
  if (claim.metadata.deletionTimestamp && known?.persistentVolume === undefined) {
    return unbound(known, branch, 'Pending', `${title} is being deleted, and is then made anew`);
  }
  if (isBound(claim)) return observeBound(observed, branch, claim);
  if (claim.status?.phase === 'Lost') return unbound(known, branch, 'Lost', lostMessage(title));
  if (lostItsNode(volume, claim, storageClass)) {
    const where = `storage class "${branch.storageClassName}" has no space for it on node "${volume.spec.selectedNode}"`;
    const outcome = unbound(known, branch, 'Pending', warning === undefined ? where : `${where}: ${warning}`);
    return { ...outcome, outOfSpace: true };
  }
  if (namesItsVolume(storageClass) && lostItsVolume(claim, volumes)) {
    const message = `volume "${claim.spec?.volumeName}" is gone or another's, and the next one is claimed`;
    const action = { kind: 'delete-claim', branchId: branch.id, claim: claimRef(claim) } as const;
    return { ...unbound(known, branch, 'Pending', message), action };
  }
  const driver = storageClass?.provisioner ?? `storage class "${branch.storageClassName}", which is gone`;
  return unbound(known, branch, 'Pending', warning ?? `${title} waits for ${driver}`);
}

function observeAdopted(observed: ObservedVolume, branch: BranchSpec): BranchOutcome {
  const { volume, pods, storageClasses } = observed;
  const { claim, warning } = observed.branches.get(branch.id) ?? {};
  const known = recordOf(observed, branch);
  const title = titleOf(branch);
  const holds = claim?.metadata.annotations?.[ANNOTATION_ADOPTED_BY] === volume.metadata.name;
  if (!claim && known?.persistentVolume !== undefined) return unbound(known, branch, 'Lost', lostMessage(title));
  if (!claim || !holds) {
    // Once held, who else mounts it is asked at each attach.
    const { namespace, name } = branch.claim;
    const shared = branch.shared === true;
    const obstacle = adoptionObstacle({
      ...{ volumeId: volume.metadata.name, namespace, name, shared, claim, pods, storageClasses },
    });
    if (!claim || obstacle) return unbound(known, branch, 'Refused', obstacle?.message ?? `${title} does not exist`);
  }
  if (!isBound(claim)) {
    return {
      ...unbound(known, branch, 'Pending', warning ?? `${title} is not bound yet`),
      ...adoption(branch, claim, holds),
    };
  }
  const outcome = observeBound(observed, branch, claim);
  if (outcome.status.phase !== 'Bound' || isHeld(claim, holds)) return outcome;
  return { ...unbound(known, branch, 'Pending', `${title} is being adopted`), ...adoption(branch, claim, holds) };
}

function isHeld(claim: PersistentVolumeClaim, holds: boolean): boolean {
  return holds && claim.metadata.finalizers?.includes(FINALIZER_ADOPTED) === true;
}

function adoption(branch: BranchSpec, claim: PersistentVolumeClaim, holds: boolean): { action?: VolumeAction } {
  if (isHeld(claim, holds) || claim.metadata.deletionTimestamp) return {};
  return { action: { kind: 'adopt-claim', branchId: branch.id, claim: claimRef(claim) } };
}

function observeBound(observed: ObservedVolume, branch: BranchSpec, claim: PersistentVolumeClaim): BranchOutcome {
  const known = recordOf(observed, branch);
  const name = claim.spec?.volumeName ?? '';
  if (known?.persistentVolume !== undefined && known.persistentVolume !== name) {
    const message = `${titleOf(branch)} now stands for volume "${name}", and the branch is volume "${known.persistentVolume}"`;
    return unbound(known, branch, 'Refused', `${message}; put that back in place`);
  }
  const volume = observed.branches.get(branch.id)?.volumes.find(({ metadata }) => metadata.name === name);
  if (!volume) return unbound(known, branch, 'Pending', `volume "${name}" is not there yet`);
  if (volume.spec?.csi?.driver === DRIVER_NAME) {
    const message = `${titleOf(branch)} is a union itself, and unions cannot be nested`;
    return unbound(known, branch, 'Refused', `${message}; use its branches instead`);
  }
  const capacity = claimCapacity(claim);
  const asked = branch.sizeBytes === undefined ? 0n : BigInt(branch.sizeBytes);
  const leaving = claim.metadata.deletionTimestamp !== undefined;
  const growing = capacity < asked;
  const toGo =
    observed.branches.get(branch.id)?.warning ?? `grows from ${formatQuantity(capacity)} to ${formatQuantity(asked)}`;
  const trouble = leaving ? leavingMessage(titleOf(branch)) : toGo;
  const status: BranchStatus = {
    id: branch.id,
    phase: 'Bound',
    capacityBytes: String(capacity),
    persistentVolume: name,
    ...(leaving || growing ? { message: trouble } : {}),
  };
  const requested = parseQuantity(claim.spec?.resources?.requests?.storage ?? '0');
  const grows = requested.ok && requested.value < asked && !leaving;
  return {
    status,
    volume,
    outOfSpace: false,
    growing,
    leaving,
    ...(grows
      ? { action: { kind: 'grow-claim', branchId: branch.id, claim: claimRef(claim), sizeBytes: asked } as const }
      : {}),
  };
}

/** What the branch was before stays known: a branch that had a volume is never taken for a new one. */
function unbound(
  known: BranchStatus | undefined,
  branch: BranchSpec,
  phase: Exclude<BranchPhase, 'Bound'>,
  message: string,
): BranchOutcome {
  const { capacityBytes, persistentVolume } = known ?? {};
  return {
    status: {
      id: branch.id,
      phase,
      ...(capacityBytes === undefined ? {} : { capacityBytes }),
      ...(persistentVolume === undefined ? {} : { persistentVolume }),
      message,
    },
    outOfSpace: false,
    growing: false,
    leaving: false,
  };
}

function recordOf({ volume }: ObservedVolume, branch: BranchSpec): BranchStatus | undefined {
  return volume.status?.branches?.find(({ id }) => id === branch.id);
}

function titleOf(branch: BranchSpec): string {
  return `claim "${branch.claim.namespace}/${branch.claim.name}"`;
}

function lostMessage(title: string): string {
  return `${title} is gone, and with it a part of the files; put its volume back under this claim, or delete the union`;
}

/** A claim's deletion cannot be taken back; pods that run keep it, and none that mounts it can start. */
function leavingMessage(title: string): string {
  return `${title} is being deleted: servers that run go on, but no further one can start; copy the files to another volume while one runs, or delete the union`;
}

function isBound(claim: PersistentVolumeClaim): boolean {
  return claim.status?.phase === 'Bound' && claim.spec?.volumeName !== undefined;
}
