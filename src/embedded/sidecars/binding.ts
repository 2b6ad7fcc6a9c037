/** Which PersistentVolume a claim may have: the decisions of kube-controller-manager's volume binder. Pure. */
import { parseQuantity } from '../../base/units.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim } from '../../protocol/objects.ts';
import { matchesSelector } from './node-affinity.ts';

/** Whether the volume is promised to this claim: by uid, or by name by someone who bound it beforehand. */
export function isPromisedTo(volume: PersistentVolume, claim: PersistentVolumeClaim): boolean {
  const ref = volume.spec?.claimRef;
  if (ref?.name !== claim.metadata.name || ref.namespace !== claim.metadata.namespace) return false;
  return !ref.uid || ref.uid === claim.metadata.uid;
}

/** The best of the volumes for a claim that names none: promised before free, then the smallest that is large enough. */
export function chooseVolume(
  claim: PersistentVolumeClaim,
  volumes: readonly PersistentVolume[],
  node: Node | undefined,
): PersistentVolume | undefined {
  const promised = volumes.find((volume) => isPromisedTo(volume, claim));
  if (promised) return promised;
  const fitting = volumes.filter((volume) => fits(claim, volume, node));
  return fitting.sort((a, b) => (capacityOf(a) < capacityOf(b) ? -1 : 1))[0];
}

function fits(claim: PersistentVolumeClaim, volume: PersistentVolume, node: Node | undefined): boolean {
  const { spec } = volume;
  if (!spec || spec.claimRef || volume.metadata.deletionTimestamp !== undefined) return false;
  if ((spec.storageClassName ?? '') !== (claim.spec?.storageClassName ?? '')) return false;
  if ((spec.volumeMode ?? 'Filesystem') !== (claim.spec?.volumeMode ?? 'Filesystem')) return false;
  if (!(claim.spec?.accessModes ?? []).every((mode) => spec.accessModes?.includes(mode))) return false;
  if (capacityOf(volume) < requestOf(claim)) return false;
  if (node && spec.nodeAffinity?.required && !matchesSelector(node, spec.nodeAffinity.required)) return false;
  return matchesLabels(claim, volume.metadata.labels ?? {});
}

function matchesLabels(claim: PersistentVolumeClaim, labels: Readonly<Record<string, string>>): boolean {
  const selector = claim.spec?.selector;
  const wanted = Object.entries(selector?.matchLabels ?? {});
  if (!wanted.every(([name, value]) => labels[name] === value)) return false;
  return (selector?.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
    const value = labels[key];
    if (operator === 'In') return value !== undefined && values.includes(value);
    if (operator === 'NotIn') return value === undefined || !values.includes(value);
    return (operator === 'Exists') === (value !== undefined);
  });
}

export function requestOf(claim: PersistentVolumeClaim): bigint {
  return quantity(claim.spec?.resources?.requests?.storage);
}

export function capacityOf(volume: PersistentVolume): bigint {
  return quantity(volume.spec?.capacity?.storage);
}

/** Sizes in the store were accepted by the API server; what does not parse counts as nothing. */
export function quantity(text: string | undefined): bigint {
  const parsed = parseQuantity(text ?? '0');
  return parsed.ok ? parsed.value : 0n;
}
