/** Reads what planUnionVolume needs to know, live where acting on an old state would do harm. */
import type { CoreEvent, Node, PersistentVolume, PersistentVolumeClaim, Pod } from '../protocol/objects.ts';
import { ANNOTATION_PROVISIONED, type BranchSpec, LABEL_VOLUME, type UnionVolume } from '../protocol/resources.ts';
import { findCondition } from '../union/conditions.ts';
import { branchNamespace } from '../union/ids.ts';
import { hasLostItsClaim } from '../union/lost-claim.ts';
import type { ObservedBranch, ObservedVolume } from '../union/plan-volume.ts';
import type { ClusterView, ReconcilerDeps } from './cluster-view.ts';

/** Undefined: there is no such volume. */
export async function observeVolume(
  { view, clock, server }: ReconcilerDeps,
  name: string,
  signal: AbortSignal,
): Promise<ObservedVolume | undefined> {
  const volume = await view.volumes.live.get({ name }, signal);
  if (!volume) return undefined;
  const namespace = branchNamespace(volume.spec);
  const adopts = volume.spec.branches.some(({ origin }) => origin === 'adopted');
  const [claims, pods, storageClasses, attachments, selectedNode] = await Promise.all([
    readClaims(view, volume, signal),
    adopts ? view.pods.live.list({ namespace }, signal) : ([] as Pod[]),
    view.storageClasses.list({}, signal),
    volume.metadata.deletionTimestamp
      ? view.attachments.live.list({ fieldSelector: `spec.volume=${name}` }, signal)
      : view.attachments.informer.list().filter(({ spec }) => spec.volume === name),
    readSelectedNode(view, volume, signal),
  ]);
  const warnings = await readWarnings(view, { volume, claims }, signal);
  const branches = await Promise.all(
    volume.spec.branches.map(async (branch) => {
      const claim = claims.get(branch.id);
      const warning = warnings.get(claim?.metadata.uid);
      const volumes = await readVolumes(view, { volume, branch, claim }, signal);
      const observed: ObservedBranch = { claim, volumes, ...(warning === undefined ? {} : { warning }) };
      return [branch.id, observed] as const;
    }),
  );
  return {
    volume,
    branches: new Map(branches),
    pods,
    storageClasses,
    unclaimed: view.persistentVolumes.informer.list().filter(({ spec }) => spec?.claimRef === undefined),
    selectedNode,
    attachments,
    unwanted: await isUnwanted(view, volume, signal),
    server,
    now: new Date(clock.now()).toISOString(),
  };
}

async function isUnwanted(view: ClusterView, { metadata, spec }: UnionVolume, signal: AbortSignal): Promise<boolean> {
  const isHandedOut = metadata.annotations?.[ANNOTATION_PROVISIONED] !== undefined;
  if (isHandedOut || metadata.deletionTimestamp || spec.claim === undefined) return false;
  return hasLostItsClaim(spec, await view.claims.live.get(spec.claim, signal));
}

/** Needed only until every branch has its claim. */
async function readSelectedNode(
  view: ClusterView,
  { spec, status }: UnionVolume,
  signal: AbortSignal,
): Promise<Node | undefined> {
  const name = spec.selectedNode;
  const hasVolume = (id: string) => status?.branches?.some((branch) => branch.id === id && branch.persistentVolume);
  return name === undefined || spec.branches.every(({ id }) => hasVolume(id))
    ? undefined
    : await view.nodes.get({ name }, signal);
}

type Claims = ReadonlyMap<string, PersistentVolumeClaim | undefined>;

/** The claims by branch id: our own in one answer, and one by one those that are not labelled as ours. */
async function readClaims(view: ClusterView, { metadata, spec }: UnionVolume, signal: AbortSignal): Promise<Claims> {
  const labelSelector = `${LABEL_VOLUME}=${metadata.name}`;
  const ours = await view.claims.live.list({ namespace: branchNamespace(spec), labelSelector }, signal);
  const read = async (branch: BranchSpec) => {
    const found = ours.find(
      (claim) => claim.metadata.name === branch.claim.name && claim.metadata.namespace === branch.claim.namespace,
    );
    return [branch.id, found ?? (await view.claims.live.get(branch.claim, signal))] as const;
  };
  return new Map(await Promise.all(spec.branches.map(read)));
}

/** The volumes that the informer, the claim or our own record connects with the branch, as they are now. */
async function readVolumes(
  view: ClusterView,
  { volume, branch, claim }: { volume: UnionVolume; branch: BranchSpec; claim: PersistentVolumeClaim | undefined },
  signal: AbortSignal,
): Promise<readonly PersistentVolume[]> {
  const { informer, live } = view.persistentVolumes;
  const bound = claim?.spec?.volumeName;
  if (!volume.metadata.deletionTimestamp) {
    if (bound === undefined) return [];
    const known = informer.get(bound) ?? (await live.get({ name: bound }, signal));
    return known ? [known] : [];
  }
  const names = new Set(
    informer
      .list()
      .filter(
        ({ spec }) => spec?.claimRef?.name === branch.claim.name && spec.claimRef.namespace === branch.claim.namespace,
      )
      .map(({ metadata }) => metadata.name),
  );
  if (bound !== undefined) names.add(bound);
  const recorded = volume.status?.branches?.find(({ id }) => id === branch.id)?.persistentVolume;
  if (recorded !== undefined) names.add(recorded);
  const volumes = await Promise.all([...names].map((name) => live.get({ name }, signal)));
  return volumes.filter((found) => found !== undefined);
}

/** The last warning about each claim, while some are not bound or not as large as asked; by the claim's UID. */
async function readWarnings(
  view: ClusterView,
  { volume, claims }: { volume: UnionVolume; claims: Claims },
  signal: AbortSignal,
): Promise<ReadonlyMap<string | undefined, string>> {
  const pending = [...claims.values()].some((claim) => claim && claim.status?.phase !== 'Bound');
  const growing = findCondition(volume.status?.conditions, 'Resized')?.status === 'False';
  if (!pending && !growing) return new Map();
  const namespace = branchNamespace(volume.spec);
  const fieldSelector = 'involvedObject.kind=PersistentVolumeClaim,type=Warning';
  const events = await view.events.list({ namespace, fieldSelector }, signal);
  const timeOf = (event: CoreEvent) => event.lastTimestamp ?? event.eventTime ?? '';
  events.sort((left, right) => (timeOf(left) < timeOf(right) ? -1 : 1));
  // Drivers pass on what tools print, lines and all.
  const textOf = (event: CoreEvent) => (event.message ?? event.reason ?? 'a warning').replaceAll(/\s+/g, ' ').trim();
  return new Map(events.map((event) => [event.involvedObject?.uid, textOf(event)]));
}
