/** What can be wrong on the branches of a union, and how it is told. Pure. */
import { assertNever } from '../../base/assert.ts';
import { formatBytes } from '../../base/units.ts';

export interface CheckedBranch {
  readonly path: string;
  /** Whether `--repair` may change it: not of mode RO. */
  readonly writable: boolean;
}

export interface Copy {
  readonly branch: CheckedBranch;
  /** In words: file, directory, link, special file. */
  readonly type: string;
}

/** Mode, owner and group of a directory. */
export interface Ownership {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** Paths in the union begin with /. Lower paths are bytes: a name need not be UTF-8. */
export type Finding =
  /** A name that is not a directory everywhere: the first copy shows. */
  | { readonly kind: 'duplicate'; readonly path: string; readonly shown: Copy; readonly hidden: readonly Copy[] }
  /** Copies of a directory with different owners or modes: that of the first branch shows. */
  | {
      readonly kind: 'ownership';
      readonly path: string;
      readonly branch: CheckedBranch;
      readonly lowerPath: Buffer;
      readonly has: Ownership;
      readonly shown: Ownership;
    }
  | {
      readonly kind: 'xattrs';
      readonly path: string;
      readonly branch: CheckedBranch;
      readonly names: readonly string[];
    }
  /** What a server was making when it was killed. */
  | {
      readonly kind: 'draft';
      readonly branch: CheckedBranch;
      readonly lowerPath: Buffer;
      readonly isDirectory: boolean;
    }
  /** What was begun on several branches and not ended. */
  | { readonly kind: 'intent'; readonly lowerPath: Buffer; readonly since: Date }
  /** A file that another one hid, moved away when that one was removed or replaced. */
  | { readonly kind: 'set-aside'; readonly lowerPath: Buffer; readonly bytes: number; readonly since: Date }
  | { readonly kind: 'stranger'; readonly lowerPath: Buffer }
  | { readonly kind: 'identity'; readonly message: string }
  | { readonly kind: 'unreadable'; readonly lowerPath: Buffer; readonly message: string };

/** One line. */
export function describeFinding(finding: Finding): string {
  switch (finding.kind) {
    case 'duplicate':
      return describeDuplicate(finding.path, finding.shown, finding.hidden);
    case 'ownership': {
      const { path, branch, has, shown } = finding;
      return `${path}: ${describeOwnership(has)} on ${branch.path}, but the union shows ${describeOwnership(shown)}`;
    }
    case 'xattrs': {
      const { path, branch, names } = finding;
      return `${path}: ${names.join(', ')} on ${branch.path} is not what the union shows; set it again through the union`;
    }
    case 'draft':
      return `${finding.lowerPath}: left by a server that was killed; nothing is lost with it`;
    case 'intent':
      return `${finding.lowerPath}: what a server began on several branches at ${finding.since.toISOString()} and did not end; mount the union with all its branches, writable, and it is completed`;
    case 'set-aside': {
      const { lowerPath, bytes, since } = finding;
      const day = since.toISOString().slice(0, 10);
      return `${lowerPath}: ${formatBytes(bytes)}, hidden by another file of its name until ${day}; move it where it belongs, or remove it`;
    }
    case 'stranger':
      return `${finding.lowerPath}: not made by a union; move it to another place`;
    case 'identity':
      return finding.message;
    case 'unreadable':
      return `${finding.lowerPath}: cannot be looked at: ${finding.message}`;
    default:
      return assertNever(finding);
  }
}

function describeDuplicate(path: string, shown: Copy, hidden: readonly Copy[]): string {
  const others = hidden.map(({ branch, type }) => `the ${type} on ${branch.path}`).join(' and ');
  return `${path}: the ${shown.type} on ${shown.branch.path} shows and hides ${others}; rename or remove one of them on its branch`;
}

export function describeOwnership({ mode, uid, gid }: Ownership): string {
  return `mode ${mode.toString(8).padStart(4, '0')} owner ${uid}:${gid}`;
}
