/**
 * The union filesystem as a library. `openUnion` opens the branches, `openDevice` and `mountDevice` make the mount,
 * `union.serve` answers the kernel until it is unmounted:
 *
 *     const union = openUnion({ branches: [...], policies: { create: 'pfrd', action: 'epall', search: 'ff' }, ... });
 *     const device = openDevice();
 *     mountDevice({ deviceFd: device, mountpoint: '/mnt/union', fsname: 'union', readOnly: false });
 *     const session = await union.serve({ devices: [device, ...cloneDevice(device)], log });
 *     await session.ended;
 *     await union.close();
 *
 * Never touch the mount from the process that serves it, not even with statfs: it would wait for itself.
 */
import { type BranchMode, type BranchOptions, closeBranches, openBranch, openBranches } from './branch/branches.ts';
import { GATE, Gate } from './branch/gate.ts';
import { type Health, PATIENCE, type Patience } from './branch/health.ts';
import { finishIntents } from './branch/intent.ts';
import { openKnown } from './branch/probe.ts';
import { Space } from './branch/space.ts';
import { BranchTable } from './branch/table.ts';
import { UnionFsError } from './errors.ts';
import { InodeTable } from './inode/inode-table.ts';
import { MAIN_THREAD, WORD } from './inode/layout.ts';
import { assignLostNumbers } from './inode/lost-numbers.ts';
import { requestCount } from './inode/progress.ts';
import { appendBranch, makeRoot, restoreBranch } from './inode/root.ts';
import { createStateMemory, State } from './inode/state.ts';
import { Context, type OpsLogger } from './ops/context.ts';
import { closeFiles } from './ops/let-go.ts';
import { removeStaleLinks } from './ops/nameless.ts';
import { isPolicyName, type PolicyName, policyNames } from './policy/create.ts';
import { type Policies, type PolicySettings, resolvePolicies } from './policy/functions.ts';
import type { PreparedReaders } from './reader-threads.ts';
import * as libc from './sys/libc.ts';
import type { Restriction } from './transport/device.ts';
import { type Removal, Removals } from './transport/drain.ts';
import { Errands } from './transport/errands.ts';
import { createMeterMemory, type Measurements, readMeters } from './transport/meter.ts';
import { type Session, startSession } from './transport/session.ts';
import { takeOver } from './transport/takeover.ts';
import { Watch } from './transport/watch.ts';

export { OWN_DIRECTORY } from './branch/branches.ts';
export { readIdentity } from './branch/identity.ts';
export { releaseBranch } from './branch/release.ts';
export { type FileContent, FileError, serveFile } from './file/file-server.ts';
export { MAX_BRANCHES } from './inode/layout.ts';
export { createStateMemory } from './inode/state.ts';
export { unreadableState } from './inode/versions.ts';
export { policyNames } from './policy/create.ts';
export { policyFunctions, withoutEffect } from './policy/functions.ts';
export {
  cloneDevice,
  defaultReaders,
  FILESYSTEM_TYPE,
  isMounted,
  mountDevice,
  openDevice,
  unmount,
} from './transport/device.ts';
export { LATENCY_BOUNDS_SECONDS } from './transport/meter.ts';
export { refuseRequests } from './transport/refusal.ts';
export type { BranchMode, BranchOptions, Measurements, OpsLogger, PolicySettings, Removal, Restriction, Session };
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
  /** How long a branch may take to answer; left out, as long as a snapshot may freeze it. */
  readonly patience?: Patience;
}

export interface ServeOptions {
  readonly devices: readonly number[];
  readonly log: OpsLogger;
  /** Started before (`prepareReaders`), at most one for each descriptor: then serving begins at once. */
  readonly readers?: PreparedReaders | undefined;
  /** Called when the health of a branch, of which `status` tells, is another: but for `full`. */
  readonly onHealth?: (() => void) | undefined;
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
  /**
   * `full`: below its reserve; `read-only`: its filesystem takes no changes; `slow`: it has not answered for a while, and
   * gets no new files; what needs a branch that is `hanging`, `failing`, `gone` or `foreign` is answered EIO.
   */
  readonly health: Health | 'full';
  /** What is wrong; empty when nothing is. */
  readonly message: string;
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

const DRAINING = 'its files move to other branches: union-csi branch remove goes on with it, branch set ends it';

/** A branch that has not told how full it is by then is told of as it was. */
const REFRESH_LIMIT_MS = 250;

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
  readonly #branches: BranchTable;
  readonly #state: State;
  readonly #space: Space;
  readonly #scratch: number;
  readonly #config: Parameters<typeof startSession>[0]['config'];
  readonly #errands: Errands;
  readonly #watch: Watch;
  readonly #log: { current: OpsLogger } = { current: { error: () => {}, warn: () => {} } };
  readonly #meters = createMeterMemory();
  #device = -1;
  /** What the state memory says to be open is this process's: no more a dead server's. */
  #isServed = false;
  readonly #removals: Removals;
  /** The memory is a dead server's. */
  readonly #isTakenOver: boolean;
  /** Branches that the mount has not yet: they are added to it when it is served. */
  #added: readonly BranchOptions[] = [];

  constructor(options: UnionOptions, policies: Policies) {
    this.#options = options;
    const { passthrough, cache, readOnly = false, volumeId, patience = PATIENCE } = options;
    this.#config = { policies, movePolicy: movePolicyOf(options, policies), passthrough, cache, readOnly };
    this.#state = State.open(options.state ?? createStateMemory(), MAIN_THREAD);
    this.#branches = new BranchTable(this.#state);
    this.#scratch = this.#state.threadArea(MAIN_THREAD).scratch;
    this.#space = new Space(this.#state, this.#branches, new Gate(this.#state, MAIN_THREAD), this.#scratch);
    this.#errands = new Errands({ state: this.#state, config: this.#config, log: this.#log });
    this.#watch = new Watch({ state: this.#state, table: this.#branches, errands: this.#errands, volumeId, patience });
    const { readOnly: isReadOnly } = this.#config;
    this.#removals = new Removals({
      state: this.#state,
      table: this.#branches,
      errands: this.#errands,
      watch: this.#watch,
      volumeId,
      isReadOnly,
    });
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
    assignLostNumbers(this.#state, this.#branches);
    for (const branch of this.#branches.list()) this.#watch.add(branch);
    this.#state.publish();
  }

  /**
   * The branches that a dead server had: some may have been added, and others have new rules, since the mount. One that is not there
   * is out, as if it had gone now.
   */
  #openAgain(): void {
    this.#state.recover();
    const known = this.#branches.list();
    const ids = [...known.map(({ id }) => id), ...this.#branches.removedIds()];
    this.#added = this.#options.branches.filter(({ id }) => !ids.includes(id));
    const { volumeId } = this.#options;
    for (const branch of known) {
      const { id, path, index } = branch;
      const { root, finding } = openKnown({ id, path, volumeId, fingerprint: this.#branches.fingerprint(index) });
      this.#branches.setRoot(index, root);
      this.#watch.add(branch, finding);
    }
  }

  /**
   * Answers the kernel's requests, with a reader thread for each of `devices`: a mounted descriptor and its clones. Resolves
   * after INIT. The descriptors stay the caller's, to be closed after the end.
   */
  async serve({ devices, log, readers, onHealth }: ServeOptions): Promise<Session> {
    this.#log.current = log;
    this.#device = devices[0]!;
    this.#watch.onHealth = onHealth;
    if (this.#isTakenOver)
      takeOver(
        new Context({ state: this.#state, thread: MAIN_THREAD, device: devices[0]!, config: this.#config, log }),
      );
    this.#isServed = true;
    const session = await startSession({
      state: this.#state,
      scratch: this.#scratch + 512,
      config: this.#config,
      meters: this.#meters,
      watch: this.#watch,
      devices,
      log,
      readers,
    });
    void this.#addLate(log);
    return session;
  }

  /** What is on them may take a while to learn. */
  async #addLate(log: OpsLogger): Promise<void> {
    for (const branch of this.#added) {
      await this.addBranch(branch).catch((error: Error) => log.error('branch_not_added', { error: error.message }));
    }
  }

  /** Looks at the branches, for `status`: how full they are, and what they have not completed. A branch that hangs is not waited for. */
  refresh(): Promise<void> {
    return this.#watch.refreshFigures(REFRESH_LIMIT_MS);
  }

  /** How the union is; of the branches what was last seen: no branch is asked. */
  status(): UnionStatus {
    const { u32 } = this.#state;
    return {
      branches: this.#branches.list().map(({ id, path, mode, minFreeSpaceBytes, index, isDraining }) => {
        const { totalBytes, usedBytes, availableBytes, files, freeFiles } = this.#space.row(index);
        const { health, message } = this.#watch.healthOf(index);
        const isFull = health === 'ok' && availableBytes < minFreeSpaceBytes;
        return {
          ...{ id, path, mode, minFreeSpaceBytes, totalBytes, usedBytes, availableBytes },
          files: files - freeFiles,
          health: isFull ? 'full' : health,
          message: message || (isDraining ? DRAINING : ''),
        };
      }),
      inodes: new InodeTable(this.#state).count,
      openHandles: u32[WORD.handleCount]!,
      names: u32[WORD.dentryCount]!,
      indexBytes: this.#state.indexBytes(),
      requests: requestCount(this.#state),
      moves: { underway: u32[WORD.movesStarted]! - u32[WORD.movesEnded]!, done: u32[WORD.movesDone]! },
      intents: this.#branches.list().flatMap(({ index }) => this.#watch.intentsOf(index)),
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
    const { index } = this.#branches.find(id);
    this.#removals.checkFree(id);
    restoreBranch(this.#state, index);
    this.#branches.set(index, rules);
  }

  /**
   * Moves what is on a branch to others, and takes it out of the union when nothing of it is left there but what others hide: as
   * long as this is called again every second or so, until the answer says `removed`. Throws UnionFsError.
   */
  removeBranch(id: string): Removal {
    return this.#removals.ask(id, { device: this.#device, log: this.#log.current });
  }

  /**
   * Adds a branch behind the others, at once and for all readers; resolves when what is on it shows. Of its files, those
   * whose names earlier branches have stay hidden. Throws UnionFsError.
   */
  async addBranch(options: BranchOptions): Promise<void> {
    const known = this.#branches.list();
    if (known.some(({ id }) => id === options.id))
      throw new UnionFsError('EEXIST', `the union has a branch ${options.id} already`);
    const { count } = this.#branches;
    const branch = openBranch(options, { others: known, index: count, volumeId: this.#options.volumeId });
    // No new files before it is known which names it has.
    this.#branches.setGate(branch.index, GATE.avoided);
    appendBranch(this.#state, this.#branches, branch);
    assignLostNumbers(this.#state, this.#branches);
    await this.#watch.welcome(this.#branches.entries[branch.index]!);
  }

  /** Closes the branches, and what is open on them. After the session has ended. */
  async close(): Promise<void> {
    // Descriptors that somebody waits with stay: their numbers must not become another's.
    if (!(await this.#errands.close())) return;
    if (this.#isServed) closeFiles(this.#state);
    closeBranches(this.#branches.list());
    libc.close(this.#state.fd);
  }
}
