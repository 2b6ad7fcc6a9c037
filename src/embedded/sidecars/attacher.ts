/**
 * Attaches volumes to the nodes of their pods and detaches them, as kube-controller-manager's attachdetach controller (which
 * writes VolumeAttachments) and external-attacher (which calls the driver for them) do.
 * A volume stays attached while a pod of the node names it, or kubelet says in node.status.volumesInUse that it is mounted.
 */
import { createHash } from 'node:crypto';
import { messageOf, UnionError } from '../../base/errors.ts';
import type { PersistentVolume, VolumeAttachment } from '../../protocol/objects.ts';
import {
  csiDrivers,
  csiNodes,
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  volumeAttachments,
} from '../api-server/kinds.ts';
import type { Store } from '../api-server/store.ts';
import { uniqueVolumeName } from '../kubelet/layout.ts';
import { volumeCapability } from './capability.ts';
import {
  claimsOf,
  createQueue,
  follow,
  isBound,
  isTerminated,
  NotYet,
  type Sidecar,
  type SidecarDeps,
  setFinalizer,
} from './sidecar.ts';

/** As kubernetes/pkg/volume/csi names them. */
export function attachmentName(driver: string, volumeHandle: string, node: string): string {
  return `csi-${createHash('sha256').update(`${volumeHandle}${driver}${node}`).digest('hex')}`;
}

/** Drivers need attaching unless their CSIDriver says otherwise. */
export function needsAttach(store: Store, driver: string): boolean {
  return store.get(csiDrivers, { name: driver })?.spec.attachRequired ?? true;
}

export const runAttacher: Sidecar = async (deps, signal) => {
  const { store } = deps;
  const perNode = createQueue(deps, 'attacher.nodes', async (key) => reconcileNode(deps, key));
  const perAttachment = createQueue(deps, 'attacher', (key, s) => reconcileAttachment(deps, key, s));
  const addNodes = () => {
    for (const node of store.list(nodes)) perNode.add(node.metadata.name);
  };
  follow(store, nodes, (node) => perNode.add(node.metadata.name), signal);
  follow(store, pods, (pod) => pod.spec?.nodeName && perNode.add(pod.spec.nodeName), signal);
  follow(store, persistentVolumeClaims, addNodes, signal);
  follow(store, csiNodes, () => addAttachments(store, perAttachment.add), signal);
  follow(
    store,
    volumeAttachments,
    (attachment) => {
      perAttachment.add(attachment.metadata.name);
      // A volume that was detached here may be awaited elsewhere.
      addNodes();
    },
    signal,
  );
  await Promise.all([perNode.run(signal), perAttachment.run(signal)]);
};

function addAttachments(store: Store, add: (key: string) => void): void {
  for (const { metadata } of store.list(volumeAttachments)) add(metadata.name);
}

/** Compares what should be attached to a node with the VolumeAttachments there are. */
function reconcileNode(deps: SidecarDeps, nodeName: string): undefined {
  const { store, events } = deps;
  const wanted = new Map<string, PersistentVolume>();
  const existing = store.list(volumeAttachments);
  for (const pod of store.list(pods, { fieldSelector: `spec.nodeName=${nodeName}` })) {
    if (isTerminated(pod)) continue;
    for (const name of claimsOf(pod)) {
      const claim = store.get(persistentVolumeClaims, { namespace: pod.metadata.namespace!, name });
      const volume =
        claim && isBound(claim) ? store.get(persistentVolumes, { name: claim.spec!.volumeName! }) : undefined;
      const csi = volume?.spec?.csi;
      if (!csi || !needsAttach(store, csi.driver)) continue;
      const attachment = attachmentName(csi.driver, csi.volumeHandle, nodeName);
      const elsewhere = existing.find(
        ({ spec }) => spec.source.persistentVolumeName === volume.metadata.name && spec.nodeName !== nodeName,
      );
      if (elsewhere && isSingleNode(volume)) {
        const message = `Multi-Attach error for volume "${volume.metadata.name}": it is attached to node ${elsewhere.spec.nodeName}`;
        events.warning(pod, 'FailedAttachVolume', message);
        continue;
      }
      wanted.set(attachment, volume);
    }
  }
  for (const [name, volume] of wanted)
    if (!store.get(volumeAttachments, { name })) create(store, name, volume, nodeName);
  const inUse = store.get(nodes, { name: nodeName })?.status?.volumesInUse ?? [];
  for (const { metadata, spec } of existing) {
    if (spec.nodeName !== nodeName || wanted.has(metadata.name) || metadata.deletionTimestamp !== undefined) continue;
    const csi = store.get(persistentVolumes, { name: spec.source.persistentVolumeName ?? '' })?.spec?.csi;
    if (csi && inUse.includes(uniqueVolumeName(csi))) continue;
    store.delete(volumeAttachments, { name: metadata.name });
  }
}

function isSingleNode(volume: PersistentVolume): boolean {
  return !volume.spec?.accessModes?.some((mode) => mode === 'ReadWriteMany' || mode === 'ReadOnlyMany');
}

function create(store: Store, name: string, volume: PersistentVolume, nodeName: string): void {
  const { driver } = volume.spec!.csi!;
  store.create(volumeAttachments, {
    // The finalizer is there before the first call to the driver can be.
    metadata: { name, finalizers: [finalizerOf(driver)] },
    spec: { attacher: driver, nodeName, source: { persistentVolumeName: volume.metadata.name } },
  });
}

function finalizerOf(driver: string): string {
  return `external-attacher/${driver.replaceAll('.', '-')}`;
}

async function reconcileAttachment(deps: SidecarDeps, name: string, signal: AbortSignal): Promise<undefined> {
  const { store, drivers } = deps;
  const attachment = store.get(volumeAttachments, { name });
  const driver = attachment && drivers.get(attachment.spec.attacher);
  if (!attachment || !driver) return;
  const { attacher, nodeName, source } = attachment.spec;
  const deleting = attachment.metadata.deletionTimestamp !== undefined;
  if (attachment.status?.attached === true && !deleting) return;
  const volume = store.get(persistentVolumes, { name: source.persistentVolumeName ?? '' });
  try {
    const csi = volume?.spec?.csi;
    if (!csi)
      throw new UnionError('FAILED_PRECONDITION', `persistentvolume "${source.persistentVolumeName}" not found`);
    const nodeId = nodeIdOf(store, attacher, nodeName);
    if (deleting) {
      await driver.unpublishVolume({ volumeId: csi.volumeHandle, nodeId }, signal);
      const fresh = store.get(volumeAttachments, { name });
      if (fresh && setFinalizer(fresh, finalizerOf(attacher), false)) store.update(volumeAttachments, fresh);
      return;
    }
    const context = await driver.publishVolume(
      {
        volumeId: csi.volumeHandle,
        nodeId,
        readonly: csi.readOnly ?? false,
        volumeCapability: volumeCapability(volume, await driver.capabilities(signal)),
        volumeContext: csi.volumeAttributes ?? {},
      },
      signal,
    );
    setStatus(store, name, { attached: true, attachmentMetadata: context });
  } catch (error) {
    if (!signal.aborted && !(error instanceof NotYet)) {
      const time = new Date(deps.clock.now()).toISOString();
      const problem = { message: messageOf(error), time };
      const status = deleting ? { detachError: problem } : { attachError: problem };
      setStatus(store, name, { attached: attachment.status?.attached ?? false, ...status });
    }
    throw error;
  }
}

function nodeIdOf(store: Store, driver: string, nodeName: string): string {
  const found = store.get(csiNodes, { name: nodeName })?.spec.drivers.find(({ name }) => name === driver);
  if (found) return found.nodeID;
  throw new NotYet(`driver ${driver} is not registered on node ${nodeName} yet`);
}

/** A problem is written when its message is new: each write brings the attachment back at once, which is no back-off. */
function setStatus(store: Store, name: string, status: NonNullable<VolumeAttachment['status']>): void {
  const before = store.get(volumeAttachments, { name });
  if (!before) return;
  const same =
    before.status?.attached === status.attached &&
    before.status?.attachError?.message === status.attachError?.message &&
    before.status?.detachError?.message === status.detachError?.message;
  if (!same) store.update(volumeAttachments, { ...before, status }, { subresource: 'status' });
}
