/**
 * The union filesystem as a library. `openUnion` opens the branches, `openDevice` and `mountDevice` make the mount,
 * `union.serve` answers the kernel until it is unmounted:
 *
 *     const union = openUnion({ branches: [...], policies: { create: 'pfrd', action: 'epall', search: 'ff' }, ... });
 *     const device = openDevice();
 *     mountDevice({ deviceFd: device, mountpoint: '/mnt/union', fsname: 'union', readOnly: false });
 *     const session = await union.serve({ devices: [device, ...cloneDevice(device)], log });
 *     await session.ended;
 *     union.close();
 *
 * Never touch the mount from the process that serves it, not even with statfs: it would wait for itself.
 */
import { type BranchMode, type BranchOptions, closeBranches, openBranches } from './branch/branches.ts';
import { Space } from './branch/space.ts';
import { UnionFsError } from './errors.ts';
import { F, InodeTable, ROOT } from './inode/inode-table.ts';
import { MAX_READERS, State, WORD } from './inode/state.ts';
import type { OpsLogger } from './ops/context.ts';
import { createPolicyNames, isCreatePolicyName } from './policy/create.ts';
import { DT_DIR } from './sys/constants.ts';
import * as libc from './sys/libc.ts';
import { type Session, startSession } from './transport/session.ts';

export { MAX_BRANCHES } from './branch/branches.ts';
export { createPolicyNames, isCreatePolicyName } from './policy/create.ts';
export { cloneDevice, FILESYSTEM_TYPE, mountDevice, openDevice, unmount } from './transport/device.ts';
export type { BranchMode, BranchOptions, OpsLogger, Session };
export { UnionFsError };

export interface UnionOptions {
  /** Checked against, and written to, each branch's `.union/branch.json`; without it branches have no identity. */
  readonly volumeId?: string;
  /** In order: of equal names the first branch's shows. */
  readonly branches: readonly BranchOptions[];
  /** Only `create` chooses in this version: a file is on one branch, and a directory changes on all. */
  readonly policies: { readonly create: string; readonly action: string; readonly search: string };
  /** File data past the server where kernel and branch can. */
  readonly passthrough: boolean;
  /** `shared` when others write to the branches too. */
  readonly cache: 'exclusive' | 'shared';
  readonly readOnly?: boolean;
}

export interface BranchState {
  readonly id: string;
  readonly path: string;
  readonly mode: BranchMode;
  readonly totalBytes: number;
  readonly usedBytes: number;
  readonly availableBytes: number;
  /** Inodes in use on the branch's filesystem. */
  readonly files: number;
}

export interface UnionStatus {
  readonly branches: readonly BranchState[];
  /** Files that the kernel knows now. */
  readonly inodes: number;
  readonly openHandles: number;
  /** Requests served since the start. */
  readonly requests: number;
}

const MAIN_THREAD = MAX_READERS - 1;

/** Opens the branches of a union. Throws UnionFsError that names the branch or the option. */
export function openUnion(options: UnionOptions): Union {
  const { create } = options.policies;
  if (!isCreatePolicyName(create))
    throw new UnionFsError('EINVAL', `unknown create policy "${create}"; known are ${createPolicyNames.join(' ')}`);
  return new Union(options, create);
}

export class Union {
  readonly #options: UnionOptions;
  readonly #create: Parameters<typeof startSession>[0]['config']['createPolicy'];
  readonly #branches;
  readonly #state: State;
  readonly #space: Space;
  readonly #scratch: number;

  constructor(options: UnionOptions, create: Parameters<typeof startSession>[0]['config']['createPolicy']) {
    this.#options = options;
    this.#create = create;
    this.#branches = openBranches(options.branches, options.volumeId);
    this.#state = State.create(MAIN_THREAD);
    this.#scratch = this.#state.threadArea(MAIN_THREAD).scratch;
    this.#space = new Space(this.#state, this.#branches, this.#scratch);
    makeRoot(this.#state, this.#branches.length);
  }

  /**
   * Answers the kernel's requests, with a reader thread for each of `devices`: a mounted descriptor and its clones. Resolves
   * after INIT. The descriptors stay the caller's, to be closed after the end.
   */
  serve({ devices, log }: { readonly devices: readonly number[]; readonly log: OpsLogger }): Promise<Session> {
    const { passthrough, cache, readOnly = false } = this.#options;
    return startSession({
      state: this.#state,
      scratch: this.#scratch + 128,
      branches: this.#branches,
      config: { createPolicy: this.#create, passthrough, cache, readOnly },
      devices,
      log,
    });
  }

  status(): UnionStatus {
    const rows = this.#space.rows();
    return {
      branches: this.#branches.map(({ id, path, mode, index }) => {
        const { totalBytes, usedBytes, availableBytes, files, freeFiles } = rows[index]!;
        return { id, path, mode, totalBytes, usedBytes, availableBytes, files: files - freeFiles };
      }),
      inodes: new InodeTable(this.#state).count,
      openHandles: this.#state.u32[WORD.handleCount]!,
      requests: this.#state.u32[WORD.requests]!,
    };
  }

  /** Closes the branches. After the session has ended. */
  close(): void {
    closeBranches(this.#branches);
    libc.close(this.#state.fd);
  }
}

/** The root is on every branch and never forgotten. */
function makeRoot(state: State, branches: number): void {
  const inodes = new InodeTable(state);
  inodes.allocate(DT_DIR);
  inodes.set(ROOT, F.lookups, 1);
  inodes.set(ROOT, F.inoLow, 1);
  for (let branch = 0; branch < branches; branch++) inodes.addBranch(ROOT, branch);
}
