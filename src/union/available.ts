/**
 * How large a new union of a class can be, from one node or from any: what its lower classes have room for. Pure.
 * A class that tells nothing of its room, or is not there, bounds nothing: CreateVolume will be told, and tell.
 */
import { assertNever } from '../base/assert.ts';
import { parseQuantity } from '../base/units.ts';
import type { BranchItem, BranchTemplate } from '../protocol/branch-list.ts';
import type { CSIStorageCapacity, LabelSelector, PersistentVolume, StorageClass } from '../protocol/objects.ts';
import { splitCapacity, sum } from './capacity.ts';
import { isReachable, type Topology } from './topology.ts';

export interface ObservedRoom {
  readonly storageClasses: readonly StorageClass[];
  readonly volumes: readonly PersistentVolume[];
  /** What lower drivers publish for the scheduler. */
  readonly capacities: readonly CSIStorageCapacity[];
  /** Labels of the node that the union is to be reached from. */
  readonly node: Topology | undefined;
}

/** What stands for "no bound is known": the largest size that CSI can say. */
export const UNBOUNDED_BYTES = 2n ** 63n - 1n;
const MEBIBYTE = 1024n ** 2n;

export function availableCapacity(items: readonly BranchItem[], observed: ObservedRoom): bigint {
  const templates = items.filter((item) => item.kind === 'template');
  // Claims of such a class bring their branches, adopted ones.
  if (templates.length === 0) return UNBOUNDED_BYTES;
  const rooms = new Map(
    templates.map(({ storageClassName }) => [storageClassName, roomOf(storageClassName, observed)]),
  );
  const isPossible = (mebibytes: bigint) => fits(mebibytes * MEBIBYTE, templates, rooms);
  let [least, tooMuch] = [0n, UNBOUNDED_BYTES / MEBIBYTE];
  if (isPossible(tooMuch)) return UNBOUNDED_BYTES;
  while (tooMuch - least > 1n) {
    const middle = (least + tooMuch) / 2n;
    if (isPossible(middle)) least = middle;
    else tooMuch = middle;
  }
  return least * MEBIBYTE;
}

/** `volumes`: made beforehand, the largest first. */
type Room =
  | { readonly kind: 'volumes'; readonly sizes: readonly bigint[] }
  | { readonly kind: 'space'; readonly totalBytes: bigint; readonly largestBytes: bigint }
  | { readonly kind: 'unknown' };

/** The larger the union, the less it does. */
function fits(bytes: bigint, templates: readonly BranchTemplate[], rooms: ReadonlyMap<string, Room>): boolean {
  const branches = templates.flatMap((template) => Array.from({ length: template.count }, () => template));
  const parts = splitCapacity(
    { requiredBytes: bytes, limitBytes: 0n },
    branches.map(({ size }) => size),
    0n,
  );
  if (!parts.ok) return false;
  return [...rooms].every(([name, room]) => {
    const sizes = parts.value.filter((_, index) => branches[index]!.storageClassName === name).sort(descending);
    switch (room.kind) {
      case 'volumes':
        return sizes.every((size, index) => size <= (room.sizes[index] ?? 0n));
      case 'space':
        return sum(sizes) <= room.totalBytes && (sizes[0] ?? 0n) <= room.largestBytes;
      case 'unknown':
        return true;
      default:
        return assertNever(room);
    }
  });
}

function roomOf(name: string, { storageClasses, volumes, capacities, node }: ObservedRoom): Room {
  const found = storageClasses.find(({ metadata }) => metadata.name === name);
  if (found === undefined) return { kind: 'unknown' };
  if (found.provisioner === 'kubernetes.io/no-provisioner') {
    const free = volumes.filter((volume) => isFree(volume, name) && (node === undefined || isReachable(volume, node)));
    return { kind: 'volumes', sizes: free.map(({ spec }) => bytesOf(spec?.capacity?.storage)).sort(descending) };
  }
  const [most] = capacities
    .filter(({ storageClassName, nodeTopology }) => storageClassName === name && selects(nodeTopology, node))
    .flatMap(({ capacity, maximumVolumeSize }) => {
      if (capacity === undefined) return [];
      return [{ totalBytes: bytesOf(capacity), largestBytes: bytesOf(maximumVolumeSize ?? capacity) }];
    })
    .sort((left, right) => descending(left.totalBytes, right.totalBytes));
  return most === undefined ? { kind: 'unknown' } : { kind: 'space', ...most };
}

function isFree({ metadata, spec, status }: PersistentVolume, storageClassName: string): boolean {
  // A new one is Pending for a moment.
  const isThere = status?.phase === 'Available' || status?.phase === 'Pending';
  const isUnclaimed = isThere && spec?.claimRef === undefined && !metadata.deletionTimestamp;
  return (
    isUnclaimed && spec?.storageClassName === storageClassName && (spec.volumeMode ?? 'Filesystem') === 'Filesystem'
  );
}

/** Label selectors as drivers write them: without one, room that no node reaches. */
function selects(selector: LabelSelector | undefined, labels: Topology | undefined): boolean {
  if (selector === undefined) return false;
  if (labels === undefined) return true;
  const { matchLabels = {}, matchExpressions = [] } = selector;
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      if (operator === 'Exists' || operator === 'DoesNotExist')
        return (value !== undefined) === (operator === 'Exists');
      return (value !== undefined && values.includes(value)) === (operator === 'In');
    })
  );
}

function bytesOf(quantity: string | undefined): bigint {
  const parsed = parseQuantity(quantity ?? '0');
  return parsed.ok ? parsed.value : 0n;
}

function descending(left: bigint, right: bigint): number {
  return left === right ? 0 : left > right ? -1 : 1;
}
