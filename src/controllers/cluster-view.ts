/**
 * What the reconcilers see of the cluster: repositories for live reads and writes, informers for what starts work and for
 * facts whose age does not matter.
 */
import { type Clock, systemClock } from '../base/clock.ts';
import { UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Result } from '../base/result.ts';
import type { KubeClient } from '../kubernetes/client.ts';
import { createEventRecorder, type EventRecorder } from '../kubernetes/events.ts';
import { createInformer, type Informer } from '../kubernetes/informer.ts';
import {
  EVENT,
  type Kind,
  NODE,
  PERSISTENT_VOLUME,
  PERSISTENT_VOLUME_CLAIM,
  POD,
  STORAGE_CLASS,
  UNION_ATTACHMENT,
  UNION_VOLUME,
} from '../kubernetes/kinds.ts';
import { createRepository, type Repository, type Selection, type WriteFailure } from '../kubernetes/repository.ts';
import type { WorkMeasurement } from '../kubernetes/workqueue.ts';
import type {
  CoreEvent,
  KubeObject,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  StorageClass,
} from '../protocol/objects.ts';
import { LABEL_VOLUME, type UnionAttachment, type UnionVolume } from '../protocol/resources.ts';
import type { ServerPodOptions } from '../union/server-pod.ts';

/** A kind that is both read live and watched. */
export interface Watched<T extends KubeObject> {
  readonly live: Repository<T>;
  readonly informer: Informer<T>;
}

export interface ClusterView {
  readonly volumes: Watched<UnionVolume>;
  readonly attachments: Watched<UnionAttachment>;
  readonly claims: Watched<PersistentVolumeClaim>;
  readonly persistentVolumes: Watched<PersistentVolume>;
  /** Pods: all of them live, and only servers watched. */
  readonly pods: Watched<Pod>;
  readonly storageClasses: Repository<StorageClass>;
  readonly nodes: Repository<Node>;
  readonly events: Repository<CoreEvent>;
}

export interface ReconcilerDeps {
  readonly view: ClusterView;
  readonly recorder: EventRecorder;
  readonly log: Logger;
  readonly clock: Clock;
  /** Of the pods that we make. */
  readonly server: ServerPodOptions;
  readonly measure?: ((measurement: WorkMeasurement) => void) | undefined;
}

export function createClusterView(client: KubeClient, log: Logger): ClusterView {
  const watched = <T extends KubeObject>(kind: Kind<T>, selection: Selection = {}): Watched<T> => ({
    live: createRepository(client, kind),
    informer: createInformer({ client, kind, selection, log }),
  });
  return {
    volumes: watched(UNION_VOLUME),
    attachments: watched(UNION_ATTACHMENT),
    claims: watched(PERSISTENT_VOLUME_CLAIM),
    persistentVolumes: watched(PERSISTENT_VOLUME),
    pods: watched(POD, { labelSelector: LABEL_VOLUME }),
    storageClasses: createRepository(client, STORAGE_CLASS),
    nodes: createRepository(client, NODE),
    events: createRepository(client, EVENT),
  };
}

export function createDeps(
  view: ClusterView,
  { log, server, clock = systemClock }: Pick<ReconcilerDeps, 'log' | 'server'> & { readonly clock?: Clock },
): ReconcilerDeps {
  const recorder = createEventRecorder({ events: view.events, component: 'union-csi-controller', log, clock });
  return { view, recorder, log, clock, server };
}

/** Starts all informers; resolves when all have ended with the signal. */
export async function runInformers(view: ClusterView, signal: AbortSignal): Promise<void> {
  const { volumes, attachments, claims, persistentVolumes, pods } = view;
  await Promise.all(
    [volumes, attachments, claims, persistentVolumes, pods].map(({ informer }) => informer.start(signal)),
  );
}

/** A lost race is thrown as ABORTED: the queue comes back, reads anew and decides anew. */
export function written<T>(result: Result<T, WriteFailure>): T {
  if (result.ok) return result.value;
  throw new UnionError(result.error.kind === 'NOT_FOUND' ? 'NOT_FOUND' : 'ABORTED', result.error.message);
}
