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
import { readdirSync } from 'node:fs';
import {
  type BranchMode,
  type BranchOptions,
  closeBranches,
  OWN_DIRECTORY,
  openBranch,
  openBranches,
} from './branch/branches.ts';
import { finishIntents, listIntents } from './branch/intent.ts';
import { Space, type SpaceRow } from './branch/space.ts';
import { BranchTable } from './branch/table.ts';
import { UnionFsError } from './errors.ts';
import { InodeTable } from './inode/inode-table.ts';
import { MAX_READERS, WORD } from './inode/layout.ts';
import { appendBranch, makeRoot } from './inode/root.ts';
import { createStateMemory, State } from './inode/state.ts';
import { Context, type OpsLogger } from './ops/context.ts';
import { removeStaleLinks } from './ops/nameless.ts';
import { isPolicyName, type PolicyName, policyNames } from './policy/create.ts';
import { type Policies, type PolicySettings, resolvePolicies } from './policy/functions.ts';
import * as libc from './sys/libc.ts';
import type { Restriction } from './transport/device.ts';
import { createMeterMemory, type Measurements, readMeters } from './transport/meter.ts';
import { type PreparedReaders, type Session, startSession } from './transport/session.ts';
import { takeOver } from './transport/takeover.ts';

export { OWN_DIRECTORY } from './branch/branches.ts';
export { readIdentity } from './branch/identity.ts';
export { releaseBranch } from './branch/release.ts';
export { MAX_BRANCHES } from './inode/layout.ts';
export { createStateMemory } from './inode/state.ts';
export { policyNames } from './policy/create.ts';
export { policyFunctions, withoutEffect } from './policy/functions.ts';
export { cloneDevice, FILESYSTEM_TYPE, mountDevice, openDevice, unmount } from './transport/device.ts';
export { LATENCY_BOUNDS_SECONDS } from './transport/meter.ts';
export { prepareReaders } from './transport/session.ts';
export type { BranchMode, BranchOptions, Measurements, OpsLogger, PolicySettings, Restriction, Session };
export { UnionFsError };

export interface UnionOptions {
  /** Checked against, and written to, each branch's `.union/branch.json`; without it branches have no identity. */
  readonly volumeId?: string;
  /** In order: of equal names the first branch's shows. */
  readonly branches: readonly BranchOptions[];
  /** By mergerfs's names; SEMANTICS.md tells what each decides. */
  readonly policies: PolicySettings;
  /**
   * What happens to a file that grows when its branch is full: it moves to the branch that a policy chooses, by default (true) the
   * one of new files; or (false) its writer is told ENOSPC.
   */
  readonly moveOnNoSpace?: boolean | string;
  /** File data past the server where kernel and branch can. */
  readonly passthrough: boolean;
  /** `shared` when others write to the branches too. */
  readonly cache: 'exclusive' | 'shared';
  readonly readOnly?: boolean;
  /**
   * Descriptor of state memory (`createStateMemory`), taken over: what a dead server of the same mount left in it is gone on with.
   * Its process must have ended, to the last thread.
   */
  readonly state?: number;
}

export interface ServeOptions {
  readonly devices: readonly number[];
  readonly log: OpsLogger;
  /** One for each descriptor, started before (`prepareReaders`): then serving begins at once. */
  readonly readers?: PreparedReaders | undefined;
}

export interface BranchState {
  readonly id: string;
  readonly path: string;
  readonly mode: BranchMode;
  readonly minFreeSpaceBytes: number;
  readonly totalBytes: number;
  readonly usedBytes: number;
  readonly availableBytes: number;
  /** Inodes in use on the branch's filesystem. */
  readonly files: number;
  /** `full`: below its reserve; `read-only`: the lower filesystem; `failing`: it does not tell its space. */
  readonly health: 'ok' | 'full' | 'read-only' | 'failing';
}

export interface UnionStatus {
  readonly branches: readonly BranchState[];
  /** Files that the kernel knows now. */
  readonly inodes: number;
  readonly openHandles: number;
  /** Names that the index knows, and what it and the tables take of memory. */
  readonly names: number;
  readonly indexBytes: number;
  /** Requests served since the start. */
  readonly requests: number;
  /** Files that are moving to another branch, and that did since the start. */
  readonly moves: { readonly underway: number; readonly done: number };
  /** Paths of intents: what is being done on several branches just now, or was left unfinished by an error. */
  readonly intents: readonly string[];
}

const MAIN_THREAD = MAX_READERS - 1;

/** Opens the branches of a union. Throws UnionFsError that names the branch or the option. */
export function openUnion(options: UnionOptions): Union {
  return new Union(options, resolvePolicies(options.policies));
}

function movePolicyOf({ moveOnNoSpace = true }: UnionOptions, { create }: Policies): PolicyName | undefined {
  if (typeof moveOnNoSpace === 'boolean') return moveOnNoSpace ? create : undefined;
  if (isPolicyName(moveOnNoSpace)) return moveOnNoSpace;
  const known = policyNames.join(' ');
  throw new UnionFsError('EINVAL', `unknown policy "${moveOnNoSpace}" for moveonenospc; known are ${known}`);
}

export class Union {
  readonly #options: UnionOptions;
  readonly #policies: Policies;
  readonly #movePolicy: PolicyName | undefined;
  readonly #branches: BranchTable;
  readonly #state: State;
  readonly #space: Space;
  readonly #scratch: number;
  readonly #meters = createMeterMemory();
  /** The memory is a dead server's. */
  readonly #isTakenOver: boolean;

  constructor(options: UnionOptions, policies: Policies) {
    this.#options = options;
    this.#policies = policies;
    this.#movePolicy = movePolicyOf(options, policies);
    this.#state = State.open(options.state ?? createStateMemory(), MAIN_THREAD);
    this.#branches = new BranchTable(this.#state);
    this.#scratch = this.#state.threadArea(MAIN_THREAD).scratch;
    this.#space = new Space(this.#state, this.#branches, this.#scratch);
    this.#isTakenOver = this.#state.isPublished;
    if (this.#isTakenOver) this.#openAgain();
    else this.#openFirst();
  }

  #openFirst(): void {
    const { branches, volumeId, readOnly } = this.#options;
    const opened = openBranches(branches, volumeId);
    if (!readOnly) {
      finishIntents(opened);
      removeStaleLinks(opened, () => false);
    }
    makeRoot(this.#state);
    for (const branch of opened) appendBranch(this.#state, this.#branches, branch);
    this.#state.publish();
  }

  /** The branches that a dead server had: some may have been added, and others have new rules, since the mount. */
  #openAgain(): void {
    this.#state.recover();
    const known = this.#branches.list();
    const missing = this.#options.branches.find(({ id }) => !known.some((branch) => branch.id === id));
    if (missing !== undefined)
      throw new UnionFsError(
        'EINVAL',
        `the mount has no branch ${missing.id}; unmount it, and mount it with this branch`,
      );
    const opened = openBranches(known, this.#options.volumeId);
    for (const { index, root } of opened) this.#branches.setRoot(index, root);
  }

  /**
   * Answers the kernel's requests, with a reader thread for each of `devices`: a mounted descriptor and its clones. Resolves
   * after INIT. The descriptors stay the caller's, to be closed after the end.
   */
  serve({ devices, log, readers }: ServeOptions): Promise<Session> {
    const { passthrough, cache, readOnly = false } = this.#options;
    const config = { policies: this.#policies, movePolicy: this.#movePolicy, passthrough, cache, readOnly };
    if (this.#isTakenOver)
      takeOver(new Context({ state: this.#state, thread: MAIN_THREAD, device: devices[0]!, config, log }));
    return startSession({
      state: this.#state,
      scratch: this.#scratch + 512,
      config,
      meters: this.#meters,
      devices,
      log,
      readers,
    });
  }

  status(): UnionStatus {
    const rows = this.#space.freshRows();
    const { u32 } = this.#state;
    return {
      branches: this.#branches.list().map(({ id, path, mode, minFreeSpaceBytes, index }) => {
        const row = rows[index]!;
        const { totalBytes, usedBytes, availableBytes } = row;
        const files = row.files - row.freeFiles;
        const health = healthOf(row);
        return { id, path, mode, minFreeSpaceBytes, totalBytes, usedBytes, availableBytes, files, health };
      }),
      inodes: new InodeTable(this.#state).count,
      openHandles: u32[WORD.handleCount]!,
      names: u32[WORD.dentryCount]!,
      indexBytes: this.#state.indexBytes(),
      requests: this.#state.requestCount(),
      moves: { underway: u32[WORD.movesStarted]! - u32[WORD.movesEnded]!, done: u32[WORD.movesDone]! },
      intents: listIntents(this.#branches.list()),
    };
  }

  /** What the readers did since the union was opened, and how long it took. */
  measurements(): Measurements {
    return readMeters(this.#meters);
  }

  /**
   * Changes what a branch is for, at once and for all readers. Files that are open for writing on a branch stay so when it
   * becomes RO. Throws UnionFsError when the union has no such branch.
   */
  setBranch(id: string, rules: { readonly mode: BranchMode; readonly minFreeSpaceBytes: number }): void {
    const branch = this.#branches.list().find((known) => known.id === id);
    if (branch === undefined) throw new UnionFsError('ENOENT', `the union has no branch ${id}`);
    this.#branches.set(branch.index, rules);
  }

  /**
   * Adds a branch behind the others, at once and for all readers. It must be empty but for what is hidden: then whatever the
   * readers and the kernel know of names stays true. Throws UnionFsError.
   */
  addBranch(options: BranchOptions): void {
    const known = this.#branches.list();
    if (known.some(({ id }) => id === options.id))
      throw new UnionFsError('EEXIST', `the union has a branch ${options.id} already`);
    const file = readdirSync(options.path).find((name) => !HIDDEN.includes(name));
    if (file !== undefined)
      throw new UnionFsError(
        'ENOTEMPTY',
        `branch ${options.path} holds ${file}; only an empty directory can be added while mounted: unmount, and mount with it`,
      );
    appendBranch(this.#state, this.#branches, openBranch(options, known, this.#options.volumeId));
  }

  /** Closes the branches. After the session has ended. */
  close(): void {
    closeBranches(this.#branches.list());
    libc.close(this.#state.fd);
  }
}

/** Names in a branch's root that the union does not show. */
const HIDDEN = [OWN_DIRECTORY, 'lost+found'];

function healthOf(row: SpaceRow): BranchState['health'] {
  if (!row.answers) return 'failing';
  if (row.readOnlyFilesystem) return 'read-only';
  return row.availableBytes < row.minFreeSpaceBytes ? 'full' : 'ok';
}
