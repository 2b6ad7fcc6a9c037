/**
 * What every sidecar is made of: reconcilers over the store, each a keyed queue fed by watches. They keep no state of their own:
 * started anew they find everything in the store, as the real ones do in the API.
 */
import type { Clock } from '../../base/clock.ts';
import { UnionError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { createWorkQueue, type WorkQueue } from '../../kubernetes/workqueue.ts';
import type { KubeObject, PersistentVolumeClaim, Pod } from '../../protocol/objects.ts';
import type { Kind } from '../api-server/kinds.ts';
import type { Store } from '../api-server/store.ts';
import type { CsiController } from '../csi-driver.ts';
import type { EventRecorder } from './events.ts';

export interface SidecarDeps {
  readonly store: Store;
  /** Controllers by driver name. */
  readonly drivers: ReadonlyMap<string, CsiController>;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Runs until the signal aborts and the work under way has ended. */
export type Sidecar = (deps: SidecarDeps, signal: AbortSignal) => Promise<void>;

/** Something that others are about to bring: tried again soon, and not worth an event. */
export class NotYet extends UnionError {
  constructor(message: string) {
    super('UNAVAILABLE', message);
    this.name = 'NotYet';
  }
}

export type Work = (key: string, signal: AbortSignal) => Promise<undefined | { readonly requeueAfterMs: number }>;

/** Everything is on this machine: what is not there yet soon will be. */
const BACKOFF = { baseMs: 50, maxMs: 3_000 };
const CONCURRENCY = 16;

export function createQueue(deps: Pick<SidecarDeps, 'log' | 'clock'>, name: string, work: Work): WorkQueue {
  return createWorkQueue({ name, work, concurrency: CONCURRENCY, log: deps.log, backoff: BACKOFF, clock: deps.clock });
}

/** Calls `onChange` for every object of a kind, now and whenever one changes or goes, until the signal aborts. */
export function follow<T extends KubeObject>(
  store: Store,
  kind: Kind<T>,
  onChange: (object: T) => void,
  signal: AbortSignal,
): void {
  const stop = store.watch(kind, {}, ({ object }) => onChange(object));
  signal.addEventListener('abort', stop, { once: true });
}

export interface ObjectName {
  readonly namespace?: string;
  readonly name: string;
}

/** `namespace/name`, or `name` for what has no namespace. */
export function keyOf({ metadata }: KubeObject): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
}

export function refOf(key: string): ObjectName {
  const [first = '', second] = key.split('/');
  return second === undefined ? { name: first } : { namespace: first, name: second };
}

/** Names of the claims that a pod mounts. */
export function claimsOf(pod: Pod): readonly string[] {
  return (pod.spec?.volumes ?? []).flatMap(({ persistentVolumeClaim }) =>
    persistentVolumeClaim ? [persistentVolumeClaim.claimName] : [],
  );
}

/** Whether all containers of a pod have ended for good. */
export function isTerminated(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}

export function isBound(claim: PersistentVolumeClaim): boolean {
  return (
    claim.spec?.volumeName !== undefined && claim.metadata.annotations?.['pv.kubernetes.io/bind-completed'] === 'yes'
  );
}

/** Adds or removes a finalizer in place; true when something changed. */
export function setFinalizer(object: KubeObject, finalizer: string, present: boolean): boolean {
  const before = object.metadata.finalizers ?? [];
  if (before.includes(finalizer) === present) return false;
  object.metadata.finalizers = present ? [...before, finalizer] : before.filter((name) => name !== finalizer);
  return true;
}

/** Sets an annotation in place, or removes it; returns the object. */
export function annotate<T extends KubeObject>(object: T, name: string, value: string | undefined): T {
  const annotations = { ...object.metadata.annotations };
  if (value === undefined) delete annotations[name];
  else annotations[name] = value;
  object.metadata.annotations = annotations;
  return object;
}
