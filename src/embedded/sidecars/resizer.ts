/**
 * Grows volumes whose claims ask for more, as external-resizer does. What is left for the node, kubelet does when the
 * claim's condition FileSystemResizePending says so.
 */
import { messageOf } from '../../base/errors.ts';
import { formatQuantity } from '../../base/units.ts';
import type { PersistentVolumeClaim } from '../../protocol/objects.ts';
import { persistentVolumeClaims, persistentVolumes, storageClasses } from '../api-server/kinds.ts';
import { capacityOf, quantity, requestOf } from './binding.ts';
import { volumeCapability } from './capability.ts';
import { createQueue, follow, isBound, keyOf, refOf, type Sidecar, type SidecarDeps } from './sidecar.ts';

type ClaimStatus = NonNullable<PersistentVolumeClaim['status']>;

export const runResizer: Sidecar = async (deps, signal) => {
  const queue = createQueue(deps, 'resizer', (key, s) => reconcile(deps, key, s));
  follow(deps.store, persistentVolumeClaims, (claim) => queue.add(keyOf(claim)), signal);
  await queue.run(signal);
};

async function reconcile(deps: SidecarDeps, key: string, signal: AbortSignal): Promise<undefined> {
  const { store, drivers, events } = deps;
  const claim = store.get(persistentVolumeClaims, refOf(key));
  if (!claim || !isBound(claim) || claim.status?.phase !== 'Bound') return;
  const wanted = requestOf(claim);
  if (wanted <= quantity(claim.status.capacity?.storage) || has(claim.status, 'FileSystemResizePending')) return;
  const volume = store.get(persistentVolumes, { name: claim.spec?.volumeName ?? '' });
  const csi = volume?.spec?.csi;
  const driver = csi && drivers.get(csi.driver);
  if (!volume || !driver || claim.metadata.deletionTimestamp !== undefined) return;
  const className = claim.spec?.storageClassName ?? '';
  if (!store.get(storageClasses, { name: className })?.allowVolumeExpansion) {
    const message = `storage class "${className}" does not allow volume expansion`;
    if (!has(claim.status, 'Resizing')) events.warning(claim, 'VolumeResizeFailed', message);
    return;
  }
  if (!has(claim.status, 'Resizing')) {
    events.normal(claim, 'Resizing', `External resizer is resizing volume ${volume.metadata.name}`);
    setStatus(deps, key, (status) => ({ ...status, conditions: [condition(deps, 'Resizing')] }));
  }
  try {
    const response = await driver.expandVolume(
      {
        volumeId: csi.volumeHandle,
        capacityRange: { requiredBytes: String(wanted) },
        volumeCapability: volumeCapability(volume, await driver.capabilities(signal)),
      },
      signal,
    );
    const storage = formatQuantity(BigInt(response.capacityBytes));
    if (BigInt(response.capacityBytes) > capacityOf(volume)) {
      store.modify(persistentVolumes, { name: volume.metadata.name }, (fresh) => ({
        ...fresh,
        spec: { ...fresh.spec, capacity: { ...fresh.spec?.capacity, storage } },
      }));
    }
    if (response.nodeExpansionRequired) {
      setStatus(deps, key, (status) => ({ ...status, conditions: [condition(deps, 'FileSystemResizePending')] }));
      return;
    }
    finishResize(deps, key, storage);
  } catch (error) {
    if (!signal.aborted) events.warning(claim, 'VolumeResizeFailed', messageOf(error));
    throw error;
  }
}

/** The claim has its new size. */
export function finishResize(deps: Pick<SidecarDeps, 'store' | 'events'>, key: string, storage: string): void {
  setStatus(deps, key, ({ conditions: _conditions, ...status }) => ({
    ...status,
    capacity: { ...status.capacity, storage },
  }));
  const claim = deps.store.get(persistentVolumeClaims, refOf(key));
  if (claim) deps.events.normal(claim, 'VolumeResizeSuccessful', `Resized volume to ${storage}`);
}

export function has(status: ClaimStatus | undefined, type: 'Resizing' | 'FileSystemResizePending'): boolean {
  return status?.conditions?.some((condition) => condition.type === type && condition.status === 'True') ?? false;
}

function condition({ clock }: SidecarDeps, type: string) {
  return { type, status: 'True', lastTransitionTime: new Date(clock.now()).toISOString() };
}

function setStatus(
  { store }: Pick<SidecarDeps, 'store'>,
  key: string,
  change: (status: ClaimStatus) => ClaimStatus,
): void {
  store.modify(persistentVolumeClaims, refOf(key), (fresh) => ({ ...fresh, status: change(fresh.status ?? {}) }), {
    subresource: 'status',
  });
}
