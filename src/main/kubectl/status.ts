/** `kubectl union status`: a line for each union. */
import { formatBytes } from '../../base/units.ts';
import { findCondition } from '../../union/conditions.ts';
import { UNION_CONDITIONS } from '../../union/volume-status.ts';
import { formatTable } from '../table.ts';
import { type Asked, findUnions, print, printJson, type Union } from './cluster.ts';

export interface UnionStatusRow {
  readonly namespace: string | null;
  readonly claim: string | null;
  readonly volume: string;
  readonly phase: string;
  readonly capacityBytes: number;
  /** Null while nobody uses the union. */
  readonly usedBytes: number | null;
  readonly branches: { readonly bound: number; readonly wanted: number };
  readonly nodes: readonly string[];
  readonly message: string;
}

export async function status(asked: Asked): Promise<number> {
  const unions = await findUnions(asked, asked.words[0]);
  const rows = unions.map(statusRow);
  if (asked.json) printJson(rows);
  else if (rows.length === 0) print(['no unions; look in all namespaces with -A']);
  else print(formatStatusRows(rows, asked.everywhere));
  return 0;
}

export function statusRow({ volume, attachments, usage }: Union): UnionStatusRow {
  const { metadata, spec, status: observed } = volume;
  const branches = observed?.branches ?? [];
  return {
    namespace: spec.claim?.namespace ?? null,
    claim: spec.claim?.name ?? null,
    volume: metadata.name,
    phase: metadata.deletionTimestamp ? 'Deleting' : (observed?.phase ?? 'Pending'),
    capacityBytes: Number(observed?.capacityBytes ?? 0),
    usedBytes: usage === undefined ? null : usage.branches.reduce((sum, { usedBytes }) => sum + usedBytes, 0),
    branches: { bound: branches.filter(({ phase }) => phase === 'Bound').length, wanted: spec.branches.length },
    nodes: attachments.map((attachment) => attachment.spec.node).sort(),
    message: messageOf(volume, usage),
  };
}

/** The first trouble there is. */
function messageOf({ status: observed }: Union['volume'], usage: Union['usage']): string {
  for (const type of UNION_CONDITIONS) {
    const found = findCondition(observed?.conditions, type);
    if (found?.status === 'False') return found.message;
  }
  const ill = usage?.branches.filter(({ health }) => health !== 'ok') ?? [];
  return ill.map(({ id, health }) => `branch ${id} is ${health}`).join('; ');
}

export function formatStatusRows(rows: readonly UnionStatusRow[], everywhere: boolean): readonly string[] {
  const header = ['CLAIM', 'PHASE', 'BRANCHES', 'NODES', 'SIZE', 'USED', '', 'MESSAGE'];
  const lines = rows.map(({ namespace, claim, volume, phase, branches, nodes, capacityBytes, usedBytes, message }) => [
    claim === null ? volume : everywhere ? `${namespace}/${claim}` : claim,
    phase,
    branches.bound === branches.wanted ? String(branches.wanted) : `${branches.bound} of ${branches.wanted}`,
    nodes.join(',') || '-',
    formatBytes(capacityBytes),
    usedBytes === null ? '-' : formatBytes(usedBytes),
    '',
    message,
  ]);
  // The message last, at the left: columns of numbers end before it.
  const table = formatTable(
    [header, ...lines].map((line) => line.slice(0, -2)),
    4,
  );
  return table.map((line, index) => `${line}  ${index === 0 ? 'MESSAGE' : lines[index - 1]!.at(-1)}`.trimEnd());
}
