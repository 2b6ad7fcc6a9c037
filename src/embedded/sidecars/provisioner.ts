/**
 * Makes volumes for claims and deletes those of released PersistentVolumes, as external-provisioner 6 does with
 * `--extra-create-metadata` and topology.
 *
 * A claim carries a finalizer of ours from before the first CreateVolume until its PersistentVolume is there: a claim deleted
 * in between, whoever is killed meanwhile, still gets its volume found and deleted.
 */
import { messageOf, UnionError } from '../../base/errors.ts';
import { formatQuantity } from '../../base/units.ts';
import type { WorkQueue } from '../../kubernetes/workqueue.ts';
import type { CreateVolumeRequest } from '../../protocol/generated/csi/v1/CreateVolumeRequest.ts';
import type { Volume__Output } from '../../protocol/generated/csi/v1/Volume.ts';
import type { PersistentVolume, PersistentVolumeClaim, StorageClass } from '../../protocol/objects.ts';
import {
  csiNodes,
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  storageClasses,
  volumeAttachments,
} from '../api-server/kinds.ts';
import type { CsiController } from '../csi-driver.ts';
import { SELECTED_NODE, STORAGE_PROVISIONER } from './binder.ts';
import { quantity, requestOf } from './binding.ts';
import { claimCapabilities } from './capability.ts';
import {
  annotate,
  createQueue,
  follow,
  keyOf,
  NotYet,
  refOf,
  type Sidecar,
  type SidecarDeps,
  setFinalizer,
} from './sidecar.ts';
import { nodeTopology, type Segments, toNodeAffinity, topologyRequirement } from './topology.ts';

const PROVISIONED_BY = 'pv.kubernetes.io/provisioned-by';
const VOLUME_FINALIZER = 'external-provisioner.volume.kubernetes.io/finalizer';
const CLAIM_FINALIZER = 'embedded.union.csi.dev/provisioning';
/** After these the volume may be there, or be there soon. */
const UNDECIDED: readonly string[] = ['ABORTED', 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'CANCELLED'];
/** How often the driver of a deleted claim is asked before it is believed never to decide. */
const ABANDON_TRIES = 10;

export const runProvisioner: Sidecar = async (deps, signal) => {
  const { store } = deps;
  const abandoned = new Map<string, number>();
  const claims = createQueue(deps, 'provisioner.claims', (key, s) => reconcileClaim(deps, abandoned, key, s));
  const volumes = createQueue(deps, 'provisioner.volumes', (key, s) => reconcileVolume(deps, key, s));
  follow(store, persistentVolumeClaims, (claim) => claims.add(keyOf(claim)), signal);
  follow(store, persistentVolumes, (volume) => volumes.add(volume.metadata.name), signal);
  follow(store, storageClasses, () => addAll(deps, claims), signal);
  follow(store, csiNodes, () => addAll(deps, claims), signal);
  follow(
    store,
    volumeAttachments,
    ({ spec }) => spec.source.persistentVolumeName && volumes.add(spec.source.persistentVolumeName),
    signal,
  );
  await Promise.all([claims.run(signal), volumes.run(signal)]);
};

function addAll({ store }: SidecarDeps, queue: WorkQueue): void {
  for (const claim of store.list(persistentVolumeClaims)) if (!claim.spec?.volumeName) queue.add(keyOf(claim));
}

async function reconcileClaim(
  deps: SidecarDeps,
  abandoned: Map<string, number>,
  key: string,
  signal: AbortSignal,
): Promise<undefined> {
  const { store, drivers } = deps;
  const claim = store.get(persistentVolumeClaims, refOf(key));
  const name = claim?.metadata.annotations?.[STORAGE_PROVISIONER];
  const driver = name === undefined ? undefined : drivers.get(name);
  if (!claim || !driver) return;
  const begun = claim.metadata.finalizers?.includes(CLAIM_FINALIZER) ?? false;
  if (store.get(persistentVolumes, { name: volumeName(claim) })) return finish(deps, key);
  if (claim.metadata.deletionTimestamp !== undefined) {
    if (begun) await abandon(deps, { claim, driver, abandoned }, signal);
    return;
  }
  if (claim.spec?.volumeName) return finish(deps, key);
  const storageClass = store.get(storageClasses, { name: claim.spec?.storageClassName ?? '' });
  if (!storageClass || storageClass.provisioner !== name) return;
  const selected = claim.metadata.annotations?.[SELECTED_NODE];
  if (storageClass.volumeBindingMode === 'WaitForFirstConsumer' && selected === undefined) return;
  await provision(deps, { claim, storageClass, driver }, signal);
}

interface Provisioning {
  readonly claim: PersistentVolumeClaim;
  readonly storageClass: StorageClass;
  readonly driver: CsiController;
}

async function provision(deps: SidecarDeps, what: Provisioning, signal: AbortSignal): Promise<undefined> {
  const { store, events } = deps;
  const { claim, storageClass, driver } = what;
  const key = keyOf(claim);
  try {
    const request = await createRequest(deps, what, signal);
    store.modify(persistentVolumeClaims, refOf(key), (fresh) => {
      setFinalizer(fresh, CLAIM_FINALIZER, true);
      return fresh;
    });
    const message = `External provisioner is provisioning volume for claim "${key}"`;
    events.normal(claim, 'Provisioning', message);
    const volume = await driver.createVolume(request, signal);
    const created = persistentVolumeFor(what, volume);
    store.create(persistentVolumes, created);
    finish(deps, key);
    events.normal(claim, 'ProvisioningSucceeded', `Successfully provisioned volume ${created.metadata.name}`);
  } catch (error) {
    if (signal.aborted || error instanceof NotYet) throw error;
    const code = error instanceof UnionError ? error.code : 'INTERNAL';
    const prefix = `failed to provision volume with StorageClass "${storageClass.metadata.name}"`;
    events.warning(claim, 'ProvisioningFailed', `${prefix}: ${code}: ${messageOf(error)}`);
    if (code === 'RESOURCE_EXHAUSTED' && storageClass.volumeBindingMode === 'WaitForFirstConsumer') {
      // The scheduler is to choose another node.
      store.modify(persistentVolumeClaims, refOf(key), (fresh) => annotate(fresh, SELECTED_NODE, undefined));
    }
    throw error;
  }
}

/** The claim no longer waits for anything that CreateVolume does. */
function finish({ store }: SidecarDeps, key: string): undefined {
  const claim = store.get(persistentVolumeClaims, refOf(key));
  if (claim && setFinalizer(claim, CLAIM_FINALIZER, false)) store.update(persistentVolumeClaims, claim);
}

/** The claim is being deleted, and its volume may exist: finds out by asking for it once more, and deletes it. */
async function abandon(
  deps: SidecarDeps,
  { claim, driver, abandoned }: { claim: PersistentVolumeClaim; driver: CsiController; abandoned: Map<string, number> },
  signal: AbortSignal,
): Promise<void> {
  const { store, log } = deps;
  const key = keyOf(claim);
  const storageClass = store.get(storageClasses, { name: claim.spec?.storageClassName ?? '' });
  try {
    if (storageClass) {
      const request = await createRequest(deps, { claim, storageClass, driver }, signal);
      const { volumeId } = await driver.createVolume(request, signal);
      await driver.deleteVolume(volumeId, signal);
    }
  } catch (error) {
    const tries = (abandoned.get(key) ?? 0) + 1;
    abandoned.set(key, tries);
    const undecided = signal.aborted || !(error instanceof UnionError) || UNDECIDED.includes(error.code);
    if (undecided && tries < ABANDON_TRIES) throw error;
    if (undecided) log.warn('provisioner.abandoned', { claim: key, message: messageOf(error) });
  }
  abandoned.delete(key);
  finish(deps, key);
}

function volumeName(claim: PersistentVolumeClaim): string {
  return `pvc-${claim.metadata.uid}`;
}

async function createRequest(
  { store }: SidecarDeps,
  { claim, storageClass, driver }: Provisioning,
  signal: AbortSignal,
): Promise<CreateVolumeRequest> {
  const own = Object.entries(storageClass.parameters ?? {}).filter(([name]) => !name.startsWith('csi.storage.k8s.io/'));
  const limit = claim.spec?.resources?.limits?.storage;
  const topologies = new Map<string, Segments>();
  for (const csiNode of store.list(csiNodes)) {
    const { name } = csiNode.metadata;
    const segments = nodeTopology(storageClass.provisioner, csiNode, store.get(nodes, { name }));
    if (segments) topologies.set(name, segments);
  }
  const selectedNode = claim.metadata.annotations?.[SELECTED_NODE];
  const selected = selectedNode === undefined ? undefined : topologies.get(selectedNode);
  if (selectedNode !== undefined && !selected) {
    throw new NotYet(`driver ${storageClass.provisioner} is not registered on node ${selectedNode} yet`);
  }
  return {
    name: volumeName(claim),
    capacityRange: { requiredBytes: String(requestOf(claim)), limitBytes: String(quantity(limit)) },
    volumeCapabilities: claimCapabilities(claim, storageClass, await driver.capabilities(signal)),
    parameters: {
      ...Object.fromEntries(own),
      'csi.storage.k8s.io/pvc/name': claim.metadata.name,
      'csi.storage.k8s.io/pvc/namespace': claim.metadata.namespace ?? '',
      'csi.storage.k8s.io/pv/name': volumeName(claim),
    },
    accessibilityRequirements: topologies.size === 0 ? null : topologyRequirement([...topologies.values()], selected),
  };
}

function persistentVolumeFor({ claim, storageClass }: Provisioning, volume: Volume__Output): PersistentVolume {
  const { name, namespace, uid } = claim.metadata;
  const fsType = storageClass.parameters?.['csi.storage.k8s.io/fstype'];
  const nodeAffinity = toNodeAffinity(volume.accessibleTopology);
  const capacity = BigInt(volume.capacityBytes) || requestOf(claim);
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: {
      name: volumeName(claim),
      annotations: { [PROVISIONED_BY]: storageClass.provisioner },
      finalizers: [VOLUME_FINALIZER],
    },
    spec: {
      capacity: { storage: formatQuantity(capacity) },
      accessModes: claim.spec?.accessModes ?? [],
      volumeMode: claim.spec?.volumeMode ?? 'Filesystem',
      persistentVolumeReclaimPolicy: storageClass.reclaimPolicy ?? 'Delete',
      storageClassName: storageClass.metadata.name,
      ...(storageClass.mountOptions && { mountOptions: storageClass.mountOptions }),
      ...(nodeAffinity && { nodeAffinity }),
      claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', name, namespace: namespace!, uid: uid! },
      csi: {
        driver: storageClass.provisioner,
        volumeHandle: volume.volumeId,
        ...(fsType !== undefined && { fsType }),
        ...(Object.keys(volume.volumeContext).length > 0 && { volumeAttributes: volume.volumeContext }),
      },
    },
  };
}

async function reconcileVolume(deps: SidecarDeps, name: string, signal: AbortSignal): Promise<undefined> {
  const { store, drivers, events } = deps;
  const volume = store.get(persistentVolumes, { name });
  const driver = drivers.get(volume?.metadata.annotations?.[PROVISIONED_BY] ?? '');
  if (!volume || !driver || volume.spec?.persistentVolumeReclaimPolicy !== 'Delete') return;
  if (volume.status?.phase !== 'Released' || !volume.metadata.finalizers?.includes(VOLUME_FINALIZER)) return;
  const attached = store.list(volumeAttachments).some(({ spec }) => spec.source.persistentVolumeName === name);
  if (attached) return; // its end brings us back
  try {
    await driver.deleteVolume(volume.spec.csi?.volumeHandle ?? '', signal);
  } catch (error) {
    if (!signal.aborted) events.warning(volume, 'VolumeFailedDelete', messageOf(error));
    throw error;
  }
  store.delete(persistentVolumes, { name });
  const rest = store.get(persistentVolumes, { name });
  if (rest && setFinalizer(rest, VOLUME_FINALIZER, false)) store.update(persistentVolumes, rest);
}
