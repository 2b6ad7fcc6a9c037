/** `union-csi status`: what the server of a mounted union says of itself and its branches. */

import { systemClock } from '../base/clock.ts';
import { formatBytes } from '../base/units.ts';
import { askMountStatus, findUnion } from '../host/mount-control.ts';
import type { MountedBranch, MountStatus } from '../protocol/mount-control.ts';
import { parseFlags, UsageError } from './flags.ts';
import { formatTable } from './table.ts';

export const statusHelp = `usage: union-csi status [--json] MOUNTPOINT

Tells how a union that union-csi mount made is doing. Needs root.
  --json  the same as one JSON object; sizes in bytes

For each branch: mode, health, size of its filesystem, what is used and available of it, its reserve (no new
files when less is available) and the inodes in use. Health is
  ok         files can be made, read and written as the mode allows
  full       less is available than the reserve
  read-only  its filesystem is mounted, or was remounted, read only
  slow       it has not answered for a while: its files wait, new ones are made elsewhere
  hanging    it does not answer: what needs it gets an error, until it does
  failing    its filesystem is broken: what needs it gets an error, until it works again
  gone       it is not mounted any more: the same, until it is
  foreign    another filesystem is mounted in its place, and is left alone

Unfinished is what changes several branches at once just now, such as a file that moves. What stays so met
an error; it is completed when the union is mounted again.

Operations are requests of the kernel, not calls of programs: most calls are answered from its caches, and
the data of open files goes past the server. They are counted for half a second to tell how many there are
per second. Names asked are those that the kernel did not know; the rest of them was looked at on one branch.
`;

export interface StatusReport extends MountStatus {
  readonly operationsPerSecond: number;
}

const SAMPLE_MS = 500;

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseFlags(statusHelp, {
    args: argv,
    allowPositionals: true,
    options: { json: { type: 'boolean' } },
  });
  const [mountpoint, extra] = positionals;
  if (mountpoint === undefined) throw new UsageError('the mountpoint is missing: union-csi status MOUNTPOINT');
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}; see --help`);
  const mount = findUnion(mountpoint);
  const { signal } = new AbortController(); // ends with the process
  const first = await askMountStatus(mount, signal);
  await systemClock.sleep(SAMPLE_MS, signal);
  const report = withRate(first, await askMountStatus(mount, signal));
  process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : formatStatus(report));
  return 0;
}

/** The second of two samples, with what happened between them as a rate. */
export function withRate(first: MountStatus, second: MountStatus): StatusReport {
  const seconds = second.uptimeSeconds - first.uptimeSeconds;
  const rate = seconds > 0 ? (second.operations - first.operations) / seconds : 0;
  return { ...second, operationsPerSecond: Math.round(rate) };
}

export function formatStatus(report: StatusReport): string {
  const { mountpoint, pid, uptimeSeconds, policies, cache, readOnly, branches } = report;
  const rules = [...policies, `cache=${cache}`, ...(readOnly ? ['ro'] : [])];
  const header = ['branch', 'mode', 'health', 'size', 'used', 'available', 'reserve', 'inodes'];
  const count = (amount: number) => amount.toLocaleString('en-US');
  return [
    `${mountpoint}: served by process ${pid} for ${formatDuration(uptimeSeconds)}, ${rules.join(',')}`,
    '',
    ...formatTable([header, ...branches.map(branchRow)], 3),
    '',
    ...complaints(branches),
    `operations     ${count(report.operations)}, ${count(report.operationsPerSecond)} per second now`,
    `open handles   ${count(report.openHandles)}`,
    `known inodes   ${count(report.knownInodes)}`,
    `indexed names  ${count(report.indexedNames)}, ${formatBytes(report.indexBytes)} with all tables`,
    `names asked    ${count(report.namesAsked)}: ${shares(report)}`,
    `moved files    ${count(report.filesMoved)} from full branches, ${count(report.movesUnderway)} moving now`,
    ...report.intents.map((path) => `unfinished     ${path}`),
    '',
  ].join('\n');
}

/** The cache rates: what the index and the attributes in memory save. */
function shares({ namesAsked, namesRemembered, namesUnknown }: StatusReport): string {
  const percent = (part: number) => `${namesAsked === 0 ? 0 : Math.round((100 * part) / namesAsked)} %`;
  return `${percent(namesRemembered)} from memory, ${percent(namesUnknown)} by asking every branch`;
}

function branchRow(branch: MountedBranch): readonly string[] {
  const sizes = [branch.totalBytes, branch.usedBytes, branch.availableBytes, branch.minFreeSpaceBytes];
  return [branch.path, branch.mode, branch.health, ...sizes.map(formatBytes), branch.files.toLocaleString('en-US')];
}

function complaints(branches: readonly MountedBranch[]): readonly string[] {
  const lines = branches
    .filter(({ message }) => message !== '')
    .map(({ path, health, message }) => `${path} is ${health === 'ok' ? 'leaving' : health}: ${message}`);
  return lines.length === 0 ? [] : [...lines, ''];
}

/** The two largest units: 3 d 4 h, 12 min 5 s. */
export function formatDuration(seconds: number): string {
  const units = [
    [86_400, 'd'],
    [3_600, 'h'],
    [60, 'min'],
    [1, 's'],
  ] as const;
  let rest = Math.floor(seconds);
  const parts: string[] = [];
  for (const [size, name] of units) {
    const amount = Math.floor(rest / size);
    rest -= amount * size;
    if (amount > 0 || (parts.length === 0 && size === 1)) parts.push(`${amount} ${name}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(' ');
}
