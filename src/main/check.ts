/** `union-csi check`: what is wrong on the branches of a union, and `--repair`. */
import { messageOf } from '../base/errors.ts';
import { err, ok, type Result } from '../base/result.ts';
import { type CheckedBranch, describeFinding, type Finding } from '../host/branch-check/findings.ts';
import { repairFinding } from '../host/branch-check/repair.ts';
import { type ScanCount, scanBranches } from '../host/branch-check/scan.ts';
import { askMountStatus, findUnion } from '../host/mount-control.ts';
import { unionAt } from '../host/mounter.ts';
import { realMountPath } from '../host/real-path.ts';
import { parseFlags, UsageError } from './flags.ts';
import { resolveBranches } from './mount-checks.ts';
import { parseBranch } from './mount-options.ts';

export const checkHelp = `usage: union-csi check [--repair] MOUNTPOINT
       union-csi check [--repair] BRANCH…

Looks through the branches of a union, mounted or not; BRANCH as for union-csi mount, in the same order.
It finds
  - names that are on several branches and not directories: only the first shows
  - copies of a directory with another owner, mode or extended attributes than the union shows
  - under .union/ of a branch: files that were hidden, remains of a server that was killed, what
    it had begun on several branches and not ended, records of another volume

  --repair  do what loses nothing, and say it: owner and mode of copies as the union shows them, empty
            remains removed. Never on branches of mode RO. All else is left to you, with what can be done

Exits with 0 when nothing is wrong, or everything was repaired; with 1 when something is left.
Example: union-csi check '/mnt/disk*'
`;

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseFlags(checkHelp, {
    args: argv,
    allowPositionals: true,
    options: { repair: { type: 'boolean' } },
  });
  if (positionals.length === 0) throw new UsageError('name a mountpoint or branches; see --help');
  const branches = await findBranches(positionals);
  const left = report(branches, values.repair ?? false, (line) => void process.stdout.write(`${line}\n`));
  return left === 0 ? 0 : 1;
}

async function findBranches(written: readonly string[]): Promise<readonly CheckedBranch[]> {
  const [only, second] = written;
  if (second === undefined && unionAt(realMountPath(only!) ?? '') !== undefined) {
    const status = await askMountStatus(findUnion(only!), new AbortController().signal);
    return status.branches.map(({ path, mode }) => ({ path, writable: mode !== 'RO' && !status.readOnly }));
  }
  const patterns = written.flatMap((list) => list.split(':').filter(Boolean)).map(parseBranch);
  return resolveBranches(patterns, 0).map(({ path, mode }) => ({ path, writable: mode !== 'RO' }));
}

/** Writes the report line by line as it is made; answers how many problems are left. */
function report(branches: readonly CheckedBranch[], repair: boolean, write: (line: string) => void): number {
  const count: ScanCount = { directories: 0, files: 0 };
  let found = 0;
  let repaired = 0;
  for (const finding of scanBranches(branches, count, Date.now())) {
    found++;
    write(describeFinding(finding));
    const outcome = repair ? tryRepair(finding) : undefined;
    if (outcome === undefined) continue;
    if (outcome.ok) repaired++;
    write(`  ${outcome.ok ? outcome.value : outcome.error}`);
  }
  const looked = `${plural(count.directories, 'directory', 'directories')} and ${plural(count.files, 'file')}`;
  const result = found === 0 ? 'nothing is wrong' : plural(found, 'problem');
  const done = repair && found > 0 ? `, ${repaired} repaired` : '';
  write(`${looked} on ${plural(branches.length, 'branch', 'branches')}: ${result}${done}`);
  return found - repaired;
}

function tryRepair(finding: Finding): Result<string, string> | undefined {
  try {
    const done = repairFinding(finding);
    return done === undefined ? undefined : ok(done);
  } catch (error) {
    return err(`not repaired: ${messageOf(error)}`);
  }
}

function plural(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString('en-US')} ${count === 1 ? one : many}`;
}
