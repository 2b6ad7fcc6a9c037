/**
 * What a server process is told on its command line: `union-csi server --socket PATH --config JSON`.
 * Written by `src/union/server-pod.ts` into the pod's arguments, read by `src/main/server.ts`.
 */
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
