/**
 * Access modes: a union can do what every branch can. On several nodes each has a server of its own, so every branch
 * must be mountable on all of them; on one node a branch needs no more than ReadWriteOnce.
 * Source: kubernetes.md, section 3, "Access".
 */
import { ok, type Result } from '../base/result.ts';
import type { AccessMode, BranchMode } from '../protocol/resources.ts';
import { type PlanError, refuse } from './plan-error.ts';

export const ACCESS_MODES: readonly AccessMode[] = [
  'ReadWriteOnce',
  'ReadWriteOncePod',
  'ReadOnlyMany',
  'ReadWriteMany',
];

/**
 * Provisioners whose filesystems mount on one node at a time. A class does not say what its driver can, so without this
 * a claim of them would stay pending until its driver refuses it; an unknown driver is asked and answers itself.
 */
const SINGLE_NODE_PROVISIONERS: readonly string[] = [
  'loop.embedded.union.csi.dev',
  'directory.embedded.union.csi.dev',
  'kubernetes.io/no-provisioner',
  'topolvm.io',
  'local.csi.openebs.io',
  'ebs.csi.aws.com',
  'disk.csi.azure.com',
  'pd.csi.storage.gke.io',
  'rbd.csi.ceph.com',
];

/** A branch as far as access is concerned; `modes` are its claim's, or undefined where only its driver knows. */
export interface BranchAccess {
  /** As messages name it: `storage class "fast"`, `claim "data"`. */
  readonly name: string;
  readonly mode: BranchMode;
  readonly modes: readonly AccessMode[] | undefined;
}

export function modesOfProvisioner(provisioner: string): readonly AccessMode[] | undefined {
  return SINGLE_NODE_PROVISIONERS.includes(provisioner) ? ['ReadWriteOnce', 'ReadWriteOncePod'] : undefined;
}

/** What a union of these branches supports: the intersection. */
export function supportedAccessModes(branches: readonly BranchAccess[]): readonly AccessMode[] {
  return ACCESS_MODES.filter((mode) => branches.every((branch) => supports(branch, mode)));
}

/** Refuses modes that some branch cannot serve, naming the first such branch. */
export function checkAccessModes(
  requested: readonly AccessMode[],
  branches: readonly BranchAccess[],
): Result<void, PlanError> {
  for (const mode of requested) {
    const unable = branches.find((branch) => !supports(branch, mode));
    if (!unable) continue;
    const has = unable.modes?.join(', ') || 'nothing';
    return refuse(
      'INVALID_ARGUMENT',
      `access mode ${mode} needs it of every branch, and ${unable.name} supports only ${has}; ` +
        `ask for ${supportedAccessModes(branches).join(' or ') || 'other branches'}`,
    );
  }
  return ok(undefined);
}

/** The access mode that new lower claims ask for. */
export function lowerAccessMode(requested: readonly AccessMode[]): AccessMode {
  return requested.some(isMultiNode) ? 'ReadWriteMany' : 'ReadWriteOnce';
}

export function isMultiNode(mode: AccessMode): boolean {
  return mode === 'ReadWriteMany' || mode === 'ReadOnlyMany';
}

function supports(branch: BranchAccess, requested: AccessMode): boolean {
  const { modes } = branch;
  if (modes === undefined || modes.includes('ReadWriteMany')) return true;
  const many = modes.includes('ReadOnlyMany');
  if (requested === 'ReadOnlyMany') return many;
  if (requested === 'ReadWriteMany') return many && branch.mode === 'RO';
  const once = modes.includes('ReadWriteOnce') || modes.includes('ReadWriteOncePod');
  return once || (many && branch.mode === 'RO');
}
