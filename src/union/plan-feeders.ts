/**
 * Branches that were added while a server runs. A pod's volumes are fixed, so each such branch gets a pod of its own, a feeder, which
 * mounts it and lends the server its directory (main/feeder.ts); the next server pod mounts it itself. Part of planUnionAttachment.
 * Source: kubernetes.md, section 4.
 */
import type { Pod } from '../protocol/objects.ts';
import { type FeederStatus, LABEL_BRANCH, type PodRef, type UnionAttachment } from '../protocol/resources.ts';
import { refusalOf } from './branch-refusal.ts';
import { feederPod } from './feeder-pod.ts';
import { isOwnedBy } from './owner.ts';
import type { AttachmentAction, ObservedAttachment } from './plan-attachment.ts';
import { boundBranches } from './server-pod.ts';

export interface Feeding {
  readonly actions: readonly AttachmentAction[];
  /** Branches that may not be mounted now, and why. */
  readonly refusals: readonly string[];
}

export function planFeeders(observed: ObservedAttachment, server: Pod): Feeding {
  const { volume, attachment } = observed;
  if (!volume || volume.metadata.deletionTimestamp) return { actions: [], refusals: [] };
  const mounted = new Set(server.spec?.volumes?.map(({ name }) => name));
  const actions: AttachmentAction[] = [];
  const refusals: string[] = [];
  for (const branch of boundBranches(volume)) {
    if (mounted.has(branch.id)) continue;
    const feeder = feedersIn(observed).find(({ metadata }) => metadata.labels?.[LABEL_BRANCH] === branch.id);
    const refusal = feeder ? undefined : refusalOf(observed, volume, branch);
    if (refusal !== undefined) refusals.push(refusal);
    else if (!feeder)
      actions.push({ kind: 'create-pod', pod: feederPod({ volume, attachment, branch }, observed.server) });
    else if (hasEnded(feeder)) actions.push({ kind: 'delete-pod', pod: podRef(feeder) });
  }
  return { actions, refusals };
}

/** Those that run, as the node plugin needs to know them. */
export function feedersOf(observed: ObservedAttachment): readonly FeederStatus[] {
  const branches = observed.volume?.spec.branches ?? [];
  return feedersIn(observed).flatMap((pod) => {
    const branch = branches.find(({ id }) => id === pod.metadata.labels?.[LABEL_BRANCH]);
    if (branch === undefined || pod.status?.phase !== 'Running') return [];
    const { id, mode, minFreeSpaceBytes = '0' } = branch;
    return [{ branch: id, mode, minFreeSpaceBytes, pod: podRef(pod) }];
  });
}

export function isFeederOf(attachment: UnionAttachment, pod: Pod): boolean {
  return isOwnedBy(attachment, pod) && pod.metadata.labels?.[LABEL_BRANCH] !== undefined;
}

export function podRef({ metadata }: Pod): PodRef {
  return { namespace: metadata.namespace ?? '', name: metadata.name, uid: metadata.uid ?? '' };
}

function feedersIn({ attachment, servers }: ObservedAttachment): readonly Pod[] {
  return servers.filter((pod) => isFeederOf(attachment, pod));
}

/** For good: evicted, say. */
function hasEnded({ metadata, status }: Pod): boolean {
  return !metadata.deletionTimestamp && (status?.phase === 'Failed' || status?.phase === 'Succeeded');
}
