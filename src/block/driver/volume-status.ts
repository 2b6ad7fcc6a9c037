/** What people see of a block volume: its phase and its condition, from what nodes and the engine have written. Pure. */
import { type BlockVolume, type BlockVolumeStatus, membersOf } from '../../protocol/block-resources.ts';

type Phase = NonNullable<BlockVolumeStatus['phase']>;

export interface VolumeSummary {
  readonly phase: Phase;
  /** CamelCase. */
  readonly reason: string;
  readonly message: string;
}

/** `remark`: what is done about a member that is lost, or why nothing is. */
export function summarise(volume: BlockVolume, remark?: string): VolumeSummary {
  const { metadata, status } = volume;
  const members = membersOf(volume);
  const replicas = status?.replicas ?? {};
  if (metadata.deletionTimestamp) {
    const left = Object.keys(replicas);
    const message = left.length === 0 ? 'nothing is left of it' : `${left.join(', ')} still ${have(left)} a replica`;
    return { phase: 'Deleting', reason: 'Deleting', message };
  }
  const failed = members.filter((node) => replicas[node]?.phase === 'Failed');
  const missing = members.filter((node) => (replicas[node]?.phase ?? 'Making') === 'Making');
  const reasons = [
    ...failed.map((node) => `${node}: ${replicas[node]?.message ?? 'failed'}`),
    ...missing.map((node) => `${node} has not made its replica yet`),
  ];
  // Until all were there once, there is nothing to be degraded from.
  const isNew = status?.phase === undefined || status.phase === 'Pending';
  if (isNew && reasons.length > 0) return { phase: 'Pending', reason: 'Provisioning', message: reasons.join('; ') };
  const { inSync = members, primary = members[0] } = status?.config ?? {};
  const behind = members.filter((node) => !inSync.includes(node) && !failed.includes(node) && !missing.includes(node));
  reasons.push(...behind.map((node) => `${node} is not in sync`));
  if (remark !== undefined && reasons.length > 0) reasons.push(remark);
  if (reasons.length > 0) {
    const message = `${inSync.length} of ${members.length} replicas in sync; ${reasons.join('; ')}`;
    return { phase: 'Degraded', reason: 'Degraded', message };
  }
  const message =
    members.length === 1 ? `served by ${primary}` : `${members.length} replicas in sync, served by ${primary}`;
  return { phase: 'Ready', reason: 'Ready', message };
}

/** Whether the volume can be handed out or used. */
export function isUsable(phase: Phase | undefined): boolean {
  return phase === 'Ready' || phase === 'Degraded';
}

/** Whether the volume has on the node what it is to have there: its copy in sync, or none. */
export function isInSyncOn({ spec, status }: BlockVolume, node: string): boolean {
  return !spec.members.includes(node) || (status?.config?.inSync ?? spec.members).includes(node);
}

function have(nodes: readonly string[]): string {
  return nodes.length === 1 ? 'has' : 'have';
}
