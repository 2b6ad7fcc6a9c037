/**
 * Repairs what a check found, where that loses nothing: what is removed is empty, and what is changed the union did not show.
 * Safe while the union is mounted.
 */
import { chmodSync, chownSync, rmdirSync, rmSync } from 'node:fs';
import { describeOwnership, type Finding } from './findings.ts';

/** What was done, or undefined for what a person must decide. */
export function repairFinding(finding: Finding): string | undefined {
  if (finding.kind === 'draft' && finding.branch.writable) {
    if (finding.isDirectory)
      rmdirSync(finding.lowerPath); // fails if it is no longer empty
    else rmSync(finding.lowerPath);
    return `removed ${finding.lowerPath}`;
  }
  if (finding.kind === 'ownership' && finding.branch.writable) {
    const { lowerPath, has, shown } = finding;
    chownSync(lowerPath, shown.uid, shown.gid);
    chmodSync(lowerPath, shown.mode); // after the owner, whose change clears bits
    return `changed ${lowerPath} from ${describeOwnership(has)} to ${describeOwnership(shown)}`;
  }
  return undefined;
}
