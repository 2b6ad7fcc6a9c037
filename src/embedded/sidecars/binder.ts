/**
 * Binds claims and PersistentVolumes, and keeps those in use from vanishing, as kube-controller-manager's persistentvolume,
 * pvc-protection and pv-protection controllers do. Each step leaves a state from which the next attempt goes on.
 */
import type { PersistentVolume, PersistentVolumeClaim } from '../../protocol/objects.ts';
import { nodes, persistentVolumeClaims, persistentVolumes, pods, storageClasses } from '../api-server/kinds.ts';
import { chooseVolume, isPromisedTo } from './binding.ts';
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
  setFinalizer,
} from './sidecar.ts';

export const SELECTED_NODE = 'volume.kubernetes.io/selected-node';
export const STORAGE_PROVISIONER = 'volume.kubernetes.io/storage-provisioner';
const BIND_COMPLETED = 'pv.kubernetes.io/bind-completed';
const BOUND_BY_CONTROLLER = 'pv.kubernetes.io/bound-by-controller';
const PVC_PROTECTION = 'kubernetes.io/pvc-protection';
const PV_PROTECTION = 'kubernetes.io/pv-protection';

export const runBinder: Sidecar = async (deps, signal) => {
  const { store } = deps;
  const claims = createQueue(deps, 'binder.claims', async (key) => reconcileClaim(deps, key));
  const volumes = createQueue(deps, 'binder.volumes', async (key) => reconcileVolume(deps, key));
  const addUnbound = () => {
    for (const claim of store.list(persistentVolumeClaims)) if (!isBound(claim)) claims.add(keyOf(claim));
  };
  follow(
    store,
    persistentVolumeClaims,
    (claim) => {
      claims.add(keyOf(claim));
      if (claim.spec?.volumeName) volumes.add(claim.spec.volumeName);
    },
    signal,
  );
  follow(
    store,
    persistentVolumes,
    (volume) => {
      volumes.add(volume.metadata.name);
      const claim = volume.spec?.claimRef;
      if (claim?.namespace && claim.name) claims.add(`${claim.namespace}/${claim.name}`);
      else addUnbound();
    },
    signal,
  );
  follow(store, storageClasses, addUnbound, signal);
  follow(
    store,
    pods,
    (pod) => {
      for (const claim of claimsOf(pod)) claims.add(`${pod.metadata.namespace}/${claim}`);
    },
    signal,
  );
  await Promise.all([claims.run(signal), volumes.run(signal)]);
};

function reconcileClaim(deps: SidecarDeps, key: string): undefined {
  const { store } = deps;
  const claim = store.get(persistentVolumeClaims, refOf(key));
  if (!claim) return;
  if (claim.metadata.deletionTimestamp !== undefined) {
    if (!isUsed(deps, claim) && setFinalizer(claim, PVC_PROTECTION, false)) store.update(persistentVolumeClaims, claim);
    return;
  }
  if (isBound(claim)) return keepBound(deps, claim);
  if (claim.spec?.volumeName) {
    const volume = store.get(persistentVolumes, { name: claim.spec.volumeName });
    if (volume && (!volume.spec?.claimRef || isPromisedTo(volume, claim))) bind(deps, claim, volume);
    else setPhase(deps, claim, 'Pending');
    return;
  }
  findVolume(deps, claim);
}

function findVolume(deps: SidecarDeps, claim: PersistentVolumeClaim): void {
  const { store, events } = deps;
  const storageClass = store.get(storageClasses, { name: claim.spec?.storageClassName ?? '' });
  const selectedNode = claim.metadata.annotations?.[SELECTED_NODE];
  const volumes = store.list(persistentVolumes);
  const delayed = storageClass?.volumeBindingMode === 'WaitForFirstConsumer' && selectedNode === undefined;
  if (delayed && !volumes.some((volume) => isPromisedTo(volume, claim))) {
    setPhase(deps, claim, 'Pending');
    events.normal(claim, 'WaitForFirstConsumer', 'waiting for first consumer to be created before binding');
    return;
  }
  const node = selectedNode === undefined ? undefined : store.get(nodes, { name: selectedNode });
  const volume = chooseVolume(claim, volumes, node);
  if (volume) {
    bind(deps, claim, volume);
    return;
  }
  setPhase(deps, claim, 'Pending');
  if (!storageClass) {
    const name = claim.spec?.storageClassName;
    if (name) events.warning(claim, 'ProvisioningFailed', `storageclass.storage.k8s.io "${name}" not found`);
    else
      events.normal(
        claim,
        'FailedBinding',
        'no persistent volumes available for this claim and no storage class is set',
      );
    return;
  }
  const { provisioner } = storageClass;
  if (provisioner === 'kubernetes.io/no-provisioner') return;
  if (claim.metadata.annotations?.[STORAGE_PROVISIONER] === provisioner) return;
  store.modify(persistentVolumeClaims, refOf(keyOf(claim)), (fresh) =>
    annotate(fresh, STORAGE_PROVISIONER, provisioner),
  );
  const message = `Waiting for a volume to be created either by the external provisioner '${provisioner}' or manually by the system administrator.`;
  events.normal(claim, 'ExternalProvisioning', message);
}

/** First the volume is the claim's, then the claim the volume's: a kill in between leaves a promise that is kept. */
function bind(deps: SidecarDeps, claim: PersistentVolumeClaim, volume: PersistentVolume): void {
  const { store } = deps;
  const { name, namespace, uid } = claim.metadata;
  store.modify(persistentVolumes, volume.metadata, (fresh) => {
    if (fresh.spec?.claimRef?.uid === uid) return fresh;
    if (!fresh.spec?.claimRef) annotate(fresh, BOUND_BY_CONTROLLER, 'yes');
    const claimRef = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', name, namespace: namespace!, uid: uid! };
    return { ...fresh, spec: { ...fresh.spec, claimRef } };
  });
  store.modify(persistentVolumeClaims, refOf(keyOf(claim)), (fresh) => {
    if (!fresh.spec?.volumeName) annotate(fresh, BOUND_BY_CONTROLLER, 'yes');
    annotate(fresh, BIND_COMPLETED, 'yes');
    return { ...fresh, spec: { ...fresh.spec, volumeName: volume.metadata.name } };
  });
  keepBound(deps, store.get(persistentVolumeClaims, refOf(keyOf(claim)))!);
}

/** Status of a bound claim and of its volume; Lost when the volume is gone or another's. */
function keepBound(deps: SidecarDeps, claim: PersistentVolumeClaim): undefined {
  const { store, events } = deps;
  const volume = store.get(persistentVolumes, { name: claim.spec?.volumeName ?? '' });
  if (!volume || volume.spec?.claimRef?.uid !== claim.metadata.uid) {
    if (claim.status?.phase !== 'Lost') {
      setPhase(deps, claim, 'Lost');
      events.warning(claim, 'ClaimLost', 'Bound claim has lost its PersistentVolume. Data on the volume is lost!');
    }
    return;
  }
  setVolumePhase(deps, volume, 'Bound');
  if (claim.status?.phase === 'Bound') return;
  store.modify(
    persistentVolumeClaims,
    refOf(keyOf(claim)),
    (fresh) => ({
      ...fresh,
      status: {
        ...fresh.status,
        phase: 'Bound',
        accessModes: volume.spec?.accessModes ?? [],
        capacity: volume.spec?.capacity ?? {},
      },
    }),
    { subresource: 'status' },
  );
}

function reconcileVolume(deps: SidecarDeps, name: string): undefined {
  const { store } = deps;
  const volume = store.get(persistentVolumes, { name });
  if (!volume) return;
  const ref = volume.spec?.claimRef;
  const claim = ref?.uid
    ? store.get(persistentVolumeClaims, { namespace: ref.namespace!, name: ref.name! })
    : undefined;
  const isClaimed = claim !== undefined && claim.metadata.uid === ref?.uid;
  if (volume.metadata.deletionTimestamp !== undefined) {
    if (!isClaimed && ref?.uid) setVolumePhase(deps, volume, 'Released');
    if (!isClaimed) {
      const fresh = store.get(persistentVolumes, { name });
      if (fresh && setFinalizer(fresh, PV_PROTECTION, false)) store.update(persistentVolumes, fresh);
    }
    return;
  }
  if (!ref?.uid) setVolumePhase(deps, volume, 'Available');
  else if (!isClaimed) setVolumePhase(deps, volume, 'Released');
}

function setPhase({ store }: SidecarDeps, claim: PersistentVolumeClaim, phase: 'Pending' | 'Lost'): void {
  if (claim.status?.phase === phase) return;
  store.modify(
    persistentVolumeClaims,
    refOf(keyOf(claim)),
    (fresh) => ({ ...fresh, status: { ...fresh.status, phase } }),
    { subresource: 'status' },
  );
}

function setVolumePhase({ store }: SidecarDeps, { metadata, status }: PersistentVolume, phase: string): void {
  if (status?.phase === phase) return;
  store.modify(
    persistentVolumes,
    { name: metadata.name },
    (fresh) => ({ ...fresh, status: { ...fresh.status, phase } }),
    { subresource: 'status' },
  );
}

/** Whether a pod that has not ended mounts the claim. */
function isUsed({ store }: SidecarDeps, claim: PersistentVolumeClaim): boolean {
  const namespace = claim.metadata.namespace!;
  return store
    .list(pods, { namespace })
    .some((pod) => !isTerminated(pod) && claimsOf(pod).includes(claim.metadata.name));
}
