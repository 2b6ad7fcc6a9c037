/**
 * What a server process is told on its command line: `union-csi server --socket PATH --config JSON`.
 * Written by `src/union/server-pod.ts` into the pod's arguments, read by `src/main/server.ts`.
 */
import { err, ok, type Result } from '../base/result.ts';
import type { BranchMode, PolicySpec } from './resources.ts';

export interface ServerBranch {
  readonly id: string;
  /** Where the lower volume is mounted in the server's own mount namespace: `/branches/ID`. */
  readonly path: string;
  readonly mode: BranchMode;
  /** Below 2^53: JSON number. */
  readonly minFreeSpaceBytes: number;
}

export interface ServerConfig {
  readonly volumeId: string;
  readonly branches: readonly ServerBranch[];
  readonly policies: PolicySpec;
  /** File data bypasses the server; needs CAP_SYS_ADMIN. */
  readonly passthrough: boolean;
  /** `shared`: others write to the branches too (another node's server, or a claim adopted as shared), so nothing is cached. */
  readonly cache: 'exclusive' | 'shared';
}

/** The error names the field that is wrong. */
export function parseServerConfig(text: string): Result<ServerConfig, string> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return err('not JSON');
  }
  if (!isRecord(value)) return err('not a JSON object');
  const { volumeId, branches, policies, passthrough, cache } = value;
  if (!isText(volumeId)) return err('volumeId must be a text');
  if (!Array.isArray(branches) || branches.length === 0) return err('branches must be a list with at least one branch');
  const wrong = branches.findIndex((branch) => !isServerBranch(branch));
  if (wrong >= 0) return err(`branches[${wrong}] must have id, path, mode (RW, RO or NC) and minFreeSpaceBytes`);
  if (!isPolicies(policies)) return err('policies must have create, action and search');
  if (typeof passthrough !== 'boolean') return err('passthrough must be true or false');
  if (cache !== 'exclusive' && cache !== 'shared') return err('cache must be exclusive or shared');
  return ok({ volumeId, branches: branches.filter(isServerBranch), policies, passthrough, cache });
}

function isServerBranch(value: unknown): value is ServerBranch {
  return (
    isRecord(value) &&
    isText(value.id) &&
    isText(value.path) &&
    (value.mode === 'RW' || value.mode === 'RO' || value.mode === 'NC') &&
    typeof value.minFreeSpaceBytes === 'number' &&
    Number.isSafeInteger(value.minFreeSpaceBytes) &&
    value.minFreeSpaceBytes >= 0
  );
}

function isPolicies(value: unknown): value is PolicySpec {
  return isRecord(value) && isText(value.create) && isText(value.action) && isText(value.search);
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
