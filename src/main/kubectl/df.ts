/** `kubectl union df`: what each branch holds, as its filesystem tells the union's server. */
import { formatBytes } from '../../base/units.ts';
import { formatTable } from '../table.ts';
import { type Asked, findUnions, print, printJson, titleOf, type Union } from './cluster.ts';

export async function df(asked: Asked): Promise<number> {
  const unions = await findUnions(asked, asked.words[0]);
  if (asked.json) {
    printJson(
      unions.map(({ volume, usage, silence }) => ({
        volume: volume.metadata.name,
        claim: volume.spec.claim ?? null,
        branches: usage?.branches ?? null,
        ...(silence !== undefined && { message: silence }),
      })),
    );
    return 0;
  }
  if (unions.length === 0) print(['no unions; look in all namespaces with -A']);
  else print(formatTable([HEADER, ...unions.flatMap(rowsOf)], 3));
  for (const { volume, usage, silence } of unions) {
    if (usage === undefined) {
      process.stderr.write(`${titleOf(volume)}: ${silence ?? 'nobody uses it now, so nobody knows what is on it'}\n`);
    }
  }
  return 0;
}

const HEADER = ['CLAIM', 'BRANCH', 'HEALTH', 'SIZE', 'USED', 'AVAILABLE', 'USE', 'RESERVE', 'INODES'];

function rowsOf({ volume, usage }: Union): readonly (readonly string[])[] {
  const title = volume.spec.claim?.name ?? volume.metadata.name;
  if (usage === undefined) {
    const rows = volume.status?.branches ?? [];
    return rows.map(({ id, capacityBytes = '0' }) => {
      return [title, id, '-', formatBytes(BigInt(capacityBytes)), '-', '-', '-', '-', '-'];
    });
  }
  return usage.branches.map(({ id, health, totalBytes, usedBytes, availableBytes, minFreeSpaceBytes, files }) => {
    const sizes = [totalBytes, usedBytes, availableBytes].map(formatBytes);
    const use = `${Math.round((usedBytes / Math.max(totalBytes, 1)) * 100)} %`;
    return [title, id, health, ...sizes, use, formatBytes(minFreeSpaceBytes), files.toLocaleString('en-US')];
  });
}
