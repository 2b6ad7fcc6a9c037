/** `kubectl union branches`: where the branches of a union are. */
import { formatBytes } from '../../base/units.ts';
import { formatTable } from '../table.ts';
import { type Asked, needUnion, print, printJson, theClaim } from './cluster.ts';

export async function branches(asked: Asked): Promise<number> {
  const { volume } = await needUnion(asked, theClaim(asked));
  const rows = volume.spec.branches.map((spec) => ({
    ...spec,
    ...volume.status?.branches?.find(({ id }) => id === spec.id),
  }));
  if (asked.json) {
    printJson(rows);
    return 0;
  }
  const header = ['BRANCH', 'MODE', 'ORIGIN', 'CLASS', 'CLAIM', 'VOLUME', 'PHASE', 'SIZE'];
  const lines = rows.map(({ id, mode, origin, storageClassName, claim, persistentVolume, phase, ...sizes }) => [
    ...[id, mode, origin, storageClassName ?? '-', `${claim.namespace}/${claim.name}`, persistentVolume ?? '-'],
    phase ?? 'Pending',
    formatBytes(BigInt(sizes.capacityBytes ?? sizes.sizeBytes ?? 0)),
  ]);
  print(formatTable([header, ...lines], 7));
  for (const { id, message } of rows) if (message !== undefined) print([`${id}: ${message}`]);
  return 0;
}
