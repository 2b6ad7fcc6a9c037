/**
 * Gives pods their nodes. Claims of WaitForFirstConsumer classes get the choice as an annotation first, and the pod waits until
 * they are bound; a provisioner that finds no space there takes the annotation away, and another node is tried.
 */
import type { PersistentVolumeClaim, Pod } from '../../protocol/objects.ts';
import { nodes, persistentVolumeClaims, persistentVolumes, pods, storageClasses } from '../api-server/kinds.ts';
import { SELECTED_NODE } from './binder.ts';
import { chooseNode } from './scheduling.ts';
import {
  annotate,
  claimsOf,
  createQueue,
  follow,
  isBound,
  isTerminated,
  keyOf,
  refOf,
  type Sidecar,
  type SidecarDeps,
} from './sidecar.ts';

/** The nodes a pending pod was to go to, and when, the latest last: only a hint, so it may be lost. */
type Tried = Map<string, readonly { readonly node: string; readonly at: number }[]>;

/** How long a node that had no space for a pod's volumes is left alone. */
const REFUSED_MS = 2_000;

export const runScheduler: Sidecar = async (deps, signal) => {
  const { store } = deps;
  const tried: Tried = new Map();
  const queue = createQueue(deps, 'scheduler', async (key) => schedule(deps, tried, key));
  const addPending = () => {
    for (const pod of store.list(pods, { fieldSelector: 'spec.nodeName=' })) queue.add(keyOf(pod));
  };
  follow(store, pods, (pod) => queue.add(keyOf(pod)), signal);
  follow(store, nodes, addPending, signal);
  follow(store, storageClasses, addPending, signal);
  follow(store, persistentVolumes, addPending, signal);
  follow(store, persistentVolumeClaims, addPending, signal);
  await queue.run(signal);
};

function schedule(deps: SidecarDeps, tried: Tried, key: string): undefined | { requeueAfterMs: number } {
  const { store, events, clock } = deps;
  const pod = store.get(pods, refOf(key));
  if (!pod || pod.spec?.nodeName || pod.metadata.deletionTimestamp !== undefined) {
    tried.delete(key);
    return undefined;
  }
  const claims: PersistentVolumeClaim[] = [];
  for (const name of claimsOf(pod)) {
    const claim = store.get(persistentVolumeClaims, { namespace: pod.metadata.namespace!, name });
    if (!claim) return refuse(deps, pod, `persistentvolumeclaim "${name}" not found`);
    if (claim.metadata.deletionTimestamp !== undefined) {
      return refuse(deps, pod, `persistentvolumeclaim "${name}" is being deleted`);
    }
    claims.push(claim);
  }
  const unbound = claims.filter((claim) => !isBound(claim));
  if (unbound.some((claim) => !isDelayed(deps, claim))) {
    return refuse(deps, pod, 'pod has unbound immediate PersistentVolumeClaims');
  }
  const choice = chooseNode(pod, {
    nodes: store.list(nodes),
    volumes: claims.flatMap((claim) => store.get(persistentVolumes, { name: claim.spec?.volumeName ?? '' }) ?? []),
    selectedNodes: unbound.flatMap((claim) => claim.metadata.annotations?.[SELECTED_NODE] ?? []),
    podsOnNode: countPods(deps),
    refused: (tried.get(key) ?? []).map(({ node }) => node),
  });
  if (choice.kind === 'none') return refuse(deps, pod, choice.message);
  const waiting = unbound.filter((claim) => claim.metadata.annotations?.[SELECTED_NODE] !== choice.name);
  if (waiting.length > 0) {
    const last = tried.get(key)?.find(({ node }) => node === choice.name);
    const restMs = last === undefined ? 0 : last.at + REFUSED_MS - clock.now();
    if (restMs > 0) return { requeueAfterMs: restMs };
    for (const claim of waiting) {
      store.modify(persistentVolumeClaims, refOf(keyOf(claim)), (fresh) => annotate(fresh, SELECTED_NODE, choice.name));
    }
    const others = (tried.get(key) ?? []).filter(({ node }) => node !== choice.name);
    tried.set(key, [...others, { node: choice.name, at: clock.now() }]);
  }
  if (unbound.length > 0) return undefined;
  tried.delete(key);
  assign(deps, pod, choice.name);
  events.normal(pod, 'Scheduled', `Successfully assigned ${key} to ${choice.name}`);
  return undefined;
}

function assign({ store, clock }: SidecarDeps, pod: Pod, node: string): void {
  store.modify(pods, refOf(keyOf(pod)), (fresh) => ({ ...fresh, spec: { ...fresh.spec!, nodeName: node } }));
  const lastTransitionTime = new Date(clock.now()).toISOString();
  setScheduled({ store }, pod, { type: 'PodScheduled', status: 'True', lastTransitionTime });
}

function refuse({ store, clock, events }: SidecarDeps, pod: Pod, message: string): undefined {
  const known = pod.status?.conditions?.find(({ type }) => type === 'PodScheduled');
  if (known?.message === message) return undefined;
  const lastTransitionTime = new Date(clock.now()).toISOString();
  setScheduled({ store }, pod, {
    type: 'PodScheduled',
    status: 'False',
    reason: 'Unschedulable',
    message,
    lastTransitionTime,
  });
  events.warning(pod, 'FailedScheduling', message);
  return undefined;
}

type PodCondition = NonNullable<NonNullable<Pod['status']>['conditions']>[number];

function setScheduled({ store }: Pick<SidecarDeps, 'store'>, pod: Pod, condition: PodCondition): void {
  store.modify(
    pods,
    refOf(keyOf(pod)),
    (fresh) => {
      const others = (fresh.status?.conditions ?? []).filter(({ type }) => type !== condition.type);
      return { ...fresh, status: { phase: 'Pending', ...fresh.status, conditions: [...others, condition] } };
    },
    { subresource: 'status' },
  );
}

function isDelayed({ store }: SidecarDeps, claim: PersistentVolumeClaim): boolean {
  const storageClass = store.get(storageClasses, { name: claim.spec?.storageClassName ?? '' });
  return storageClass?.volumeBindingMode === 'WaitForFirstConsumer';
}

function countPods({ store }: SidecarDeps): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const pod of store.list(pods)) {
    const node = pod.spec?.nodeName;
    if (node && !isTerminated(pod)) counts.set(node, (counts.get(node) ?? 0) + 1);
  }
  return counts;
}
