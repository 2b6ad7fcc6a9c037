/** What the Controller calls share: their view of the cluster, and the objects they all start from. */
import type { Clock } from '../base/clock.ts';
import { UnionError } from '../base/errors.ts';
import type { KubeClient } from '../kubernetes/client.ts';
import {
  NODE,
  PERSISTENT_VOLUME,
  PERSISTENT_VOLUME_CLAIM,
  POD,
  STORAGE_CLASS,
  UNION_ATTACHMENT,
  UNION_VOLUME,
} from '../kubernetes/kinds.ts';
import { createRepository, fieldValue, type Repository } from '../kubernetes/repository.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim, Pod, StorageClass } from '../protocol/objects.ts';
import type { UnionAttachment, UnionVolume } from '../protocol/resources.ts';
import type { Room } from './room.ts';
import type { Changes } from './waiting.ts';

/** What is read live, because an answer must not depend on how old a cache is. */
export interface ControllerRepositories {
  readonly volumes: Repository<UnionVolume>;
  readonly attachments: Repository<UnionAttachment>;
  readonly claims: Repository<PersistentVolumeClaim>;
  readonly pods: Repository<Pod>;
  readonly storageClasses: Repository<StorageClass>;
  readonly persistentVolumes: Repository<PersistentVolume>;
  readonly nodes: Repository<Node>;
}

export interface ControllerDependencies extends ControllerRepositories {
  readonly room: Room;
  readonly volumeChanges: Changes;
  readonly attachmentChanges: Changes;
  readonly clock: Clock;
}

export function controllerRepositories(client: KubeClient): ControllerRepositories {
  return {
    volumes: createRepository(client, UNION_VOLUME),
    attachments: createRepository(client, UNION_ATTACHMENT),
    claims: createRepository(client, PERSISTENT_VOLUME_CLAIM),
    pods: createRepository(client, POD),
    storageClasses: createRepository(client, STORAGE_CLASS),
    persistentVolumes: createRepository(client, PERSISTENT_VOLUME),
    nodes: createRepository(client, NODE),
  };
}

/** The value of a field that a request must have. */
export function need(value: string, field: string): string {
  if (value === '') throw new UnionError('INVALID_ARGUMENT', `${field} is missing`);
  return value;
}

/** A volume that must exist; ids are only ever compared, so one that is not of our making is just unknown. */
export async function needVolume(
  { volumes }: Pick<ControllerDependencies, 'volumes'>,
  id: string,
  signal: AbortSignal,
): Promise<UnionVolume> {
  const volume = await volumes.get({ name: need(id, 'volume_id') }, signal);
  if (volume === undefined) throw new UnionError('NOT_FOUND', `volume "${id}" does not exist`);
  return volume;
}

/** Whether the reconciler's status speaks of the spec as it is now. */
export function isCurrent({ metadata, status }: UnionVolume): boolean {
  return (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0);
}

export async function attachmentsOf(
  { attachments }: Pick<ControllerDependencies, 'attachments'>,
  volumeId: string,
  signal: AbortSignal,
): Promise<readonly UnionAttachment[]> {
  return attachments.list({ fieldSelector: `spec.volume=${fieldValue(volumeId)}` }, signal);
}

/** Its server pod is on the node, as far as the reconciler knows. */
export function hasServer({ status }: UnionAttachment): boolean {
  return status?.phase === 'Scheduled' || status?.phase === 'Running';
}
