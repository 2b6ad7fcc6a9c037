/**
 * What a union's server process does when asked on its control socket (protocol/server-control.ts), without the socket.
 *
 *   waiting --serve--> serving --unmounted--> ended --serve--> serving …
 *   failed: the branches cannot be opened; each status tries again, since a volume may come back.
 *
 * Invariants: branches are open in waiting and serving only, so that after `stop` lower volumes can be unmounted; before
 * `serve` nothing is changed on them, for they may be in the midst of what a dead server left in the state memory; the mount
 * itself is never touched; while it serves nothing but the unmount ends it, for applications would lose their files.
 */
import { closeSync } from 'node:fs';
import { assertNever } from '../base/assert.ts';
import { type ErrorCode, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { FedBranch } from '../protocol/feeding.ts';
import type { ServerBranch } from '../protocol/server-config.ts';
import type { MountFacts, ServedBranch, ServerAnswer, ServerStatus } from '../protocol/server-control.ts';
import { parseServerRequest } from '../protocol/server-control.ts';
import { type DescriptorRequest, WithDescriptors } from './descriptor-server.ts';
import type { FedBranches } from './fed-branches.ts';

/** The part of fuse/index.ts's Session that is used here. */
export interface ServedSession {
  readonly ended: Promise<void>;
  /** Finishes what was read, and reads no more; then the process is to be killed. */
  handOver(): Promise<void>;
}

/** The part of fuse/index.ts's Union that is used here. */
export interface ServedUnion {
  /** Resolves when the mount answers. The descriptors stay the caller's, to be closed after the end. */
  serve(options: {
    devices: readonly number[];
    log: Logger;
    onHealth?: (() => void) | undefined;
  }): Promise<ServedSession>;
  branches(): Promise<readonly ServedBranch[]>;
  addBranch(branch: ServerBranch): Promise<void>;
  close(): Promise<void>;
}

export interface OpenOptions {
  /** Nothing is to be changed on the branches. */
  readonly readOnly: boolean;
  /** State memory that it is to be served with; the union's when it could be opened, else still the caller's. */
  readonly state?: number;
}

export interface UnionServerOptions {
  readonly volumeId: string;
  /** Opens all branches or throws an error that names the one that cannot be. */
  readonly open: (options: OpenOptions) => ServedUnion;
  /** What it is given while it runs; `open` opens these branches too. */
  readonly fed: FedBranches;
  /** Why a union cannot be served with this state memory; undefined when it can. */
  readonly unreadable: (state: number) => string | undefined;
  /** Whether the filesystem of a mounted device still exists. */
  readonly isMounted: (device: number) => boolean;
  /** Ends the process at once. */
  readonly die: () => void;
  /** Called when the health of a branch has changed. */
  readonly onHealth?: () => void;
  readonly log: Logger;
}

type State =
  | { readonly kind: 'waiting'; readonly union: ServedUnion }
  | {
      readonly kind: 'serving';
      readonly union: ServedUnion;
      readonly session: ServedSession;
      /** And everything closed. */
      readonly ended: Promise<void>;
    }
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'ended' };

export class UnionServer {
  readonly #options: UnionServerOptions;
  #state: State;
  /** Set while a serve request is under way: the one request that takes time and changes the state. */
  #starting: Promise<unknown> | undefined;
  /** While serving: what it serves with, as it came. */
  #custody: { readonly descriptors: readonly number[]; readonly facts: MountFacts } | undefined;
  /** Of the mount that it serves, or begins to: while the descriptor is open. */
  #device: number | undefined;

  /** The process is to end when nobody needs it any more: said to those who ask. */
  isLeaving = false;

  constructor(options: UnionServerOptions) {
    this.#options = options;
    this.#state = this.#open({ readOnly: true });
  }

  get serving(): boolean {
    return this.#starting !== undefined || this.#state.kind === 'serving';
  }

  /** Answers one request; takes over its descriptors. */
  async handle(
    { message, descriptors }: DescriptorRequest,
    signal: AbortSignal,
  ): Promise<ServerAnswer | WithDescriptors> {
    const request = parseServerRequest(message);
    if (request.ok && request.value.op === 'serve' && descriptors.length > 1) {
      return await this.#serve(descriptors, request.value, signal);
    }
    if (request.ok && request.value.op === 'feed' && descriptors.length === 1) {
      return await this.#feed(request.value.branch, descriptors[0]!);
    }
    if (request.ok && request.value.op === 'check' && descriptors.length > 0) return this.#check(descriptors);
    closeAll(descriptors);
    if (!request.ok) return refusal('INVALID_ARGUMENT', request.error);
    const { op } = request.value;
    switch (op) {
      case 'status':
        return await this.#status();
      case 'stop':
        return await this.#stop(signal);
      case 'serve':
        return refusal(
          'INVALID_ARGUMENT',
          'no descriptors came with serve; send those of the state memory and of the mounted /dev/fuse',
        );
      case 'check':
        return refusal('INVALID_ARGUMENT', 'no descriptor came with check; send that of the state memory');
      case 'make-way':
        return await this.#makeWay();
      case 'custody':
        return this.#giveBack();
      case 'feed':
        return refusal('INVALID_ARGUMENT', 'no descriptor came with feed; send that of the directory of the branch');
      default:
        return assertNever(op);
    }
  }

  /** Resolves when nothing is served any more. */
  async idle(): Promise<void> {
    while (this.#starting !== undefined || this.#state.kind === 'serving') {
      await this.#starting;
      if (this.#state.kind === 'serving') await this.#state.ended;
    }
  }

  /** Closes the branches; not while serving. */
  async close(): Promise<void> {
    const state = this.#state;
    if (state.kind === 'serving') return;
    this.#state = { kind: 'ended' };
    if (state.kind === 'waiting') await state.union.close();
  }

  #open(options: OpenOptions): State {
    try {
      return { kind: 'waiting', union: this.#options.open(options) };
    } catch (error) {
      this.#options.log.error('server.cannot_open', { error: messageOf(error) });
      return { kind: 'failed', message: messageOf(error) };
    }
  }

  async #status(): Promise<ServerStatus> {
    if (this.#state.kind === 'failed') this.#state = this.#open({ readOnly: true });
    const state = this.#state;
    return {
      ok: true,
      volume: this.#options.volumeId,
      state: state.kind,
      leaving: this.isLeaving,
      ...(state.kind === 'failed' && { message: state.message }),
      branches: state.kind === 'waiting' || state.kind === 'serving' ? await state.union.branches() : [],
      pid: process.pid,
    };
  }

  #check(descriptors: readonly number[]): ServerAnswer {
    const unreadable = this.#options.unreadable(descriptors[0]!);
    closeAll(descriptors);
    return unreadable === undefined ? { ok: true } : refusal('FAILED_PRECONDITION', unreadable);
  }

  async #makeWay(): Promise<ServerAnswer> {
    const { volumeId, die } = this.#options;
    if (this.#state.kind !== 'serving') return refusal('FAILED_PRECONDITION', `volume ${volumeId} is not served`);
    await this.#state.session.handOver();
    setImmediate(die); // after the answer was sent
    return { ok: true };
  }

  #giveBack(): ServerAnswer | WithDescriptors {
    if (this.#custody === undefined) {
      return refusal('FAILED_PRECONDITION', `volume ${this.#options.volumeId} is not served; send it descriptors`);
    }
    const { descriptors, facts } = this.#custody;
    return new WithDescriptors({ ok: true, ...facts } satisfies ServerAnswer, descriptors);
  }

  /** A union that is not served yet is opened with it when it is. */
  async #feed(fed: FedBranch, descriptor: number): Promise<ServerAnswer> {
    const branch = this.#options.fed.add(fed, descriptor);
    await this.#starting;
    if (this.#state.kind !== 'serving') return { ok: true };
    const { union } = this.#state;
    if ((await union.branches()).some(({ id }) => id === branch.id)) return { ok: true };
    try {
      await union.addBranch(this.#custody?.facts.readOnly ? { ...branch, mode: 'RO' } : branch);
      this.#options.log.info('server.branch_added', { branch: branch.id });
      return { ok: true };
    } catch (error) {
      return refusal('UNAVAILABLE', `cannot add the branch: ${messageOf(error)}`);
    }
  }

  async #serve(descriptors: readonly number[], facts: MountFacts, signal: AbortSignal): Promise<ServerAnswer> {
    const patience = patienceOf(signal);
    while (this.serving) {
      const obstacle = await this.#obstacle(patience);
      if (obstacle === undefined) continue;
      closeAll(descriptors);
      return obstacle;
    }
    const { volumeId, isMounted } = this.#options;
    // Whoever asked may have given up meanwhile.
    if (!isMounted(descriptors[1]!)) {
      closeAll(descriptors);
      return refusal('UNAVAILABLE', `volume ${volumeId} was unmounted meanwhile; mount it again`);
    }
    const started = this.#start(descriptors, facts).finally(() => {
      this.#starting = undefined;
    });
    this.#starting = started;
    return await started;
  }

  async #start(descriptors: readonly number[], { device, readOnly }: MountFacts): Promise<ServerAnswer> {
    const [memory = -1, ...devices] = descriptors;
    this.#device = devices[0];
    // What was opened for status may be old.
    await this.close();
    const opened = this.#open({ readOnly, state: memory });
    this.#state = opened;
    if (opened.kind !== 'waiting') {
      this.#letGo(descriptors);
      return refusal('UNAVAILABLE', opened.kind === 'failed' ? opened.message : 'the server is closing');
    }
    const { union } = opened;
    try {
      const { log, onHealth } = this.#options;
      const session = await union.serve({ devices, log, onHealth });
      this.#custody = { descriptors, facts: { device, readOnly } };
      this.#state = { kind: 'serving', union, session, ended: this.#closeAfter(union, devices, session.ended) };
      this.#options.log.info('server.serving');
      return { ok: true };
    } catch (error) {
      this.#state = { kind: 'ended' };
      this.#letGo(devices);
      await union.close();
      return refusal('UNAVAILABLE', `cannot serve volume ${this.#options.volumeId}: ${messageOf(error)}`);
    }
  }

  async #closeAfter(union: ServedUnion, devices: readonly number[], ended: Promise<void>): Promise<void> {
    try {
      await ended;
      this.#options.log.info('server.ended');
    } catch (error) {
      this.#options.log.error('server.session_failed', { error: messageOf(error) });
    }
    this.#letGo(devices);
    await union.close();
    this.#state = { kind: 'ended' };
  }

  /**
   * What keeps it from serving the next mount, or from stopping, after a while; undefined when nothing does, or not yet. The unmount
   * ends a session a moment before we learn of it, also one that is just beginning for a caller who has given up, and closing takes a
   * while: that is to be waited for, but not a mount that is still used. Others wait as well: whoever goes on looks first.
   */
  async #obstacle(patience: AbortSignal): Promise<ServerAnswer | undefined> {
    const { volumeId, isMounted } = this.#options;
    await Promise.race([this.idle(), aborted(AbortSignal.any([patience, AbortSignal.timeout(UNMOUNTED_LIMIT_MS)]))]);
    if (!this.serving) return undefined;
    if (this.#device !== undefined && isMounted(this.#device))
      return refusal('FAILED_PRECONDITION', `volume ${volumeId} is still mounted; unmount it first`);
    if (patience.aborted)
      return refusal('UNAVAILABLE', `volume ${volumeId} is unmounted, but not closed yet; repeat the call`);
    return undefined;
  }

  /** The mount is over for us. */
  #letGo(descriptors: readonly number[]): void {
    this.#custody = undefined;
    this.#device = undefined;
    closeAll(descriptors);
  }

  async #stop(signal: AbortSignal): Promise<ServerAnswer> {
    const patience = patienceOf(signal);
    while (this.serving) {
      const obstacle = await this.#obstacle(patience);
      if (obstacle !== undefined) return obstacle;
    }
    await this.close();
    this.#options.fed.close();
    return { ok: true };
  }
}

const UNMOUNTED_LIMIT_MS = 2_000;
/** Callers wait for longer (csi/union-link.ts). */
const CLOSED_LIMIT_MS = 8_000;

function patienceOf(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(CLOSED_LIMIT_MS)]);
}

function closeAll(descriptors: readonly number[]): void {
  for (const descriptor of descriptors) closeSync(descriptor);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function refusal(code: ErrorCode, message: string): ServerAnswer {
  return { ok: false, code, message };
}
