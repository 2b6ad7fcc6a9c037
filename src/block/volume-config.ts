/**
 * Who holds a volume: the part of the BlockVolume resource that changes only by compare-and-swap.
 * `version` counts the changes (the adapter maps it to the resourceVersion). All successors of a configuration are made here.
 */
import type { Epoch, ReplicaId } from './units.ts';
import { toEpoch } from './units.ts';

export interface VolumeConfig {
  readonly version: number;
  readonly epoch: Epoch;
  readonly primary: ReplicaId;
  /** Hold every committed record; includes the primary. */
  readonly inSync: readonly ReplicaId[];
  /** Everyone who may hold the volume; as many as there were at first. */
  readonly members: readonly ReplicaId[];
}

/** Whether every member holds every committed record. */
export function isComplete({ inSync, members }: Pick<VolumeConfig, 'inSync' | 'members'>): boolean {
  return members.every((id) => inSync.includes(id));
}

/** A new epoch under `primary`; who is in `without` leaves the in-sync set. */
export function withPrimary(
  config: VolumeConfig,
  primary: ReplicaId,
  without: readonly ReplicaId[] = [],
): VolumeConfig {
  return {
    ...config,
    version: config.version + 1,
    epoch: toEpoch(config.epoch + 1n),
    primary,
    inSync: config.inSync.filter((id) => !without.includes(id)),
  };
}

export function withoutMember(config: VolumeConfig, id: ReplicaId): VolumeConfig {
  return { ...config, version: config.version + 1, inSync: config.inSync.filter((member) => member !== id) };
}

export function withMember(config: VolumeConfig, id: ReplicaId): VolumeConfig {
  return { ...config, version: config.version + 1, inSync: [...config.inSync, id] };
}

/**
 * `next`, which has nothing of the volume yet, in the place of a member that is lost. Undefined where that must not be: whoever is in
 * sync may be the last that has what was answered for. Made by who watches over nodes, not by a replica: as the in-sync set stays
 * as it is, so does all that rests on it; a primary that does not know of it yet loses the race for the next version.
 */
export function withReplacement(config: VolumeConfig, lost: ReplicaId, next: ReplicaId): VolumeConfig | undefined {
  const { members, inSync } = config;
  if (inSync.includes(lost) || !members.includes(lost) || members.includes(next)) return undefined;
  return { ...config, version: config.version + 1, members: members.map((id) => (id === lost ? next : id)) };
}
