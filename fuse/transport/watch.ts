/**
 * Watches the branches: looks at one that somebody got an error from or waits for, judges how it is (branch/health.ts), and opens
 * and closes its gate. What may wait is an errand; what is done here never is. A branch that nobody uses is looked at
 * through the kernel's list of mounts only.
 *
 * A branch that was out comes back when a look at it finds it as it should be: the descriptors and names that threads
 * remember of it are dropped before its gate opens.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { OpenBranch } from '../branch/branches.ts';
import { GATE } from '../branch/gate.ts';
import { type Finding, type Health, type Judgement, judge, type Patience } from '../branch/health.ts';
import { type KnownMount, mountIdOf, readMounts } from '../branch/mounts.ts';
import { fingerprintOf, type ProbedBranch } from '../branch/probe.ts';
import type { BranchTable, Fingerprint } from '../branch/table.ts';
import { MAX_READERS, WORD } from '../inode/layout.ts';
import { PROGRESS, progressOf } from '../inode/progress.ts';
import type { State } from '../inode/state.ts';
import type { OpsLogger } from '../ops/context.ts';
import { O_CLOEXEC } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { AwakeClock } from './awake-clock.ts';
import type { Errands } from './errands.ts';
import type { Errand, ErrandAnswer } from './messages.ts';
import type { StuckReader } from './readers.ts';

/** How soon a branch is looked at again. */
const RETRY_MS = 1_000;
/** A request that takes longer is stuck in a call to the branch, which it holds by itself. */
const REQUEST_LIMIT_MS = 5_000;
const MOUNTS_MS = 2_000;
/** More than this between two ticks was not spent awake. */
const LONGEST_MOMENT_MS = 1_000;

interface Watched {
  readonly branch: OpenBranch;
  readonly fingerprint: Fingerprint | undefined;
  /** Undefined where the list of mounts does not have it: the branch is outside of this process's root. */
  mountId: number | undefined;
  finding: Finding;
  judgement: Judgement;
  /** The errands under way, and since when: threads that do them take a moment to start. */
  look: { readonly sinceMs: number | undefined } | undefined;
  change: { readonly sinceMs: number | undefined } | undefined;
  lookedAt: number;
  isSuspect: boolean;
  /** As the last close look found them. */
  intents: readonly string[];
  /** What is known of it was learned without it, or of what it was: `learning` while that is being put right. */
  knowledge: 'true' | 'outdated' | 'learning';
}

const NO_MOUNT = -1;
const FINE: Finding = { kind: 'ok', message: '' };

export interface WatchOptions {
  readonly state: State;
  readonly table: BranchTable;
  readonly errands: Errands;
  readonly volumeId: string | undefined;
  readonly patience: Patience;
}

export class Watch {
  readonly #options: WatchOptions;
  readonly #watched = new Map<number, Watched>();
  readonly #clock = new AwakeClock(LONGEST_MOMENT_MS);
  #mountsReadAt = -MOUNTS_MS;
  #device = -1;
  /** Called when the health of a branch has changed. */
  onHealth: (() => void) | undefined;

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  /** The connection that is served from now on. */
  begin(device: number): void {
    this.#device = device;
    // Of branches that had gone before, the kernel may have files for us: nothing else is on their mounts.
    for (const watched of this.#watched.values()) if (isOut(watched.finding)) void this.#letGo(watched, NO_MOUNT);
  }

  /** A branch just opened, or in vain: what was found of it. Before anybody uses it. */
  add(branch: OpenBranch, finding = FINE, judgement = this.#judgeFirst(finding)): void {
    const mountId = mountIdOf(branch.root);
    const { table } = this.#options;
    table.setGate(branch.index, judgement.gate);
    const known = table.fingerprint(branch.index) ?? fingerprintOf(branch.root);
    if (known !== undefined) table.setFingerprint(branch.index, known);
    this.#watched.set(branch.index, {
      branch,
      fingerprint: known,
      mountId: finding === FINE && readMounts().has(mountId) ? mountId : undefined,
      finding,
      judgement,
      look: undefined,
      change: undefined,
      lookedAt: -RETRY_MS,
      isSuspect: false,
      intents: [],
      knowledge: 'true',
    });
  }

  #judgeFirst(finding: Finding): Judgement {
    return judge({ finding, lookMs: 0, changeMs: 0, waiting: 0 }, this.#options.patience);
  }

  /** A branch that nobody uses any more; resolves when nothing of it is being looked at. */
  async remove(index: number): Promise<void> {
    const watched = this.#watched.get(index);
    this.#watched.delete(index);
    while (watched?.look !== undefined || watched?.change !== undefined) await delay(10);
  }

  /** A branch that was added while others are used: it gets new files when it is known what is on it. */
  async welcome(branch: OpenBranch): Promise<void> {
    this.add(branch, FINE, { health: 'ok', gate: GATE.avoided, message: '' });
    const watched = this.#watched.get(branch.index)!;
    await this.learn(branch.index);
    if (watched.knowledge !== 'true' || watched.judgement.gate !== GATE.avoided) return;
    watched.judgement = { health: 'ok', gate: 0, message: '' };
    this.#options.table.setGate(branch.index, 0);
  }

  /** How a branch is, and what is wrong with it. */
  healthOf(index: number): { readonly health: Health; readonly message: string } {
    return this.#watched.get(index)?.judgement ?? { ...FINE, health: 'ok' };
  }

  /** Intents of a branch that were not completed when it was last looked at closely: paths. */
  intentsOf(index: number): readonly string[] {
    return this.#watched.get(index)?.intents ?? [];
  }

  /** To be called every moment, with the readers that wait. */
  tick(stuck: readonly StuckReader[], log: OpsLogger): void {
    this.#clock.tick(performance.now());
    const { now } = this.#clock;
    const { state } = this.#options;
    const suspects = [WORD.suspectLow, WORD.suspectHigh].map((word) => Atomics.exchange(state.i32, word, 0));
    this.#readMounts(
      now,
      suspects.some((mask) => mask !== 0),
    );
    for (const watched of this.#watched.values()) {
      const { index } = watched.branch;
      const waiting = stuck.filter(({ branch }) => branch === index);
      if (((suspects[index >> 5]! >>> (index & 31)) & 1) === 1) watched.isSuspect = true;
      this.#look(watched, now, waiting.length > 0);
      this.#judge(watched, waiting.length, now, log);
    }
  }

  /** Looks at every branch that answers, and asks for its space; resolves when all have told it, or the limit has passed. */
  async refreshFigures(limitMs: number): Promise<void> {
    const asked = [...this.#watched.values()]
      .filter(
        ({ judgement, look }) => (judgement.health === 'ok' || judgement.health === 'read-only') && look === undefined,
      )
      .map((watched) => this.#sendLook(watched));
    const { promise, resolve } = Promise.withResolvers<void>();
    const limit = setTimeout(resolve, limitMs);
    await Promise.race([Promise.all(asked), promise]);
    clearTimeout(limit);
  }

  #readMounts(now: number, isUrgent: boolean): void {
    const isQuiet = !isUrgent && [...this.#watched.values()].every(({ judgement }) => judgement.health === 'ok');
    if (now - this.#mountsReadAt < (isQuiet ? MOUNTS_MS : RETRY_MS)) return;
    this.#mountsReadAt = now;
    const mounts = readMounts();
    for (const watched of this.#watched.values()) {
      if (watched.mountId === undefined) continue;
      if (isOut(watched.finding)) {
        if (!mounts.has(watched.mountId)) void this.#letGo(watched, watched.mountId);
        continue;
      }
      const finding = findingOf(watched.branch, mounts.get(watched.mountId));
      if (finding !== undefined) watched.finding = finding;
    }
  }

  /** Sends whom it takes to tell how the branch is. */
  #look(watched: Watched, now: number, isWaited: boolean): void {
    const isDue = now - watched.lookedAt >= RETRY_MS && watched.look === undefined;
    const isDoubtful = isWaited || watched.isSuspect || watched.judgement.health !== 'ok';
    if (isOut(watched.finding)) {
      if (isDue) void this.#reopen(watched);
    } else if (isDoubtful && isDue) {
      watched.isSuspect = false;
      void this.#sendLook(watched);
      if (watched.branch.mode !== 'RO' && watched.change === undefined) void this.#sendChange(watched);
    }
  }

  async #sendLook(watched: Watched): Promise<void> {
    watched.lookedAt = this.#clock.now;
    const { index } = watched.branch;
    const answer = await this.#run({ kind: 'look', index, branch: this.#probed(watched) }, watched, 'look');
    watched.intents = answer?.intents ?? watched.intents;
    if (answer !== undefined) take(watched, answer.finding);
  }

  async #sendChange(watched: Watched): Promise<void> {
    const answer = await this.#run({ kind: 'change', branch: this.#probed(watched) }, watched, 'change');
    if (answer === undefined || isOut(watched.finding)) return;
    if (answer.finding.kind !== 'ok' || watched.finding.kind === 'read-only') watched.finding = answer.finding;
  }

  async #reopen(watched: Watched): Promise<void> {
    watched.lookedAt = this.#clock.now;
    const answer = await this.#run({ kind: 'reopen', branch: this.#probed(watched) }, watched, 'look');
    if (answer?.root !== undefined) {
      // In place: whoever still holds the number has the new root from now on, never somebody else's file.
      libc.dup3(answer.root, watched.branch.root, O_CLOEXEC);
      libc.close(answer.root);
      watched.mountId = mountIdOf(watched.branch.root);
    }
    if (answer === undefined) return;
    watched.finding = answer.finding;
  }

  /** Undefined when the errand could not be done; that says nothing of the branch. */
  async #run(errand: Errand, watched: Watched, kind: 'look' | 'change'): Promise<ErrandAnswer | undefined> {
    watched[kind] = { sinceMs: undefined };
    const onBegun = () => {
      watched[kind] = { sinceMs: this.#clock.now };
    };
    const answer = await this.#options.errands.run(errand, onBegun).catch(() => undefined);
    watched[kind] = undefined;
    return answer;
  }

  #probed({ branch: { id, path, root }, fingerprint }: Watched): ProbedBranch {
    return { id, path, root, fingerprint, volumeId: this.#options.volumeId };
  }

  #judge(watched: Watched, waiting: number, now: number, log: OpsLogger): void {
    const { finding, look, change, branch } = watched;
    const lookMs = now - (look?.sinceMs ?? now);
    const sight = { finding, lookMs, changeMs: now - (change?.sinceMs ?? now), waiting };
    const was = watched.judgement;
    const judgement = this.#untilLearned(watched, judge(sight, this.#options.patience));
    watched.judgement = judgement;
    if (judgement.gate !== was.gate) this.#options.table.setGate(branch.index, judgement.gate);
    if (judgement.health === was.health) return;
    const { health, message } = judgement;
    const level = health === 'ok' || health === 'slow' || health === 'read-only' ? 'warn' : 'error';
    log[level]('branch_health', { branch: branch.path, health, was: was.health, ...(message !== '' && { message }) });
    this.onHealth?.();
  }

  /** A branch that is out, of which the mount is gone too: nothing may keep the filesystem from ending. */
  async #letGo(watched: Watched, mountId: number): Promise<void> {
    watched.mountId = undefined;
    const { state, errands } = this.#options;
    await requestsEnded(state);
    const errand: Errand = { kind: 'letGo', index: watched.branch.index, mountId, device: this.#device };
    await errands.run(errand).catch(() => undefined);
  }

  /** Nobody enters a branch that was out before it is known again what is on it. */
  #untilLearned(watched: Watched, judgement: Judgement): Judgement {
    if ((judgement.gate & GATE.closed) !== 0) watched.knowledge = 'outdated';
    else if (watched.knowledge === 'outdated') void this.learn(watched.branch.index);
    return watched.knowledge === 'true' || (judgement.gate & GATE.closed) !== 0 ? judgement : watched.judgement;
  }

  /** Learns what is on a branch. */
  async learn(index: number): Promise<void> {
    const watched = this.#watched.get(index)!;
    watched.knowledge = 'learning';
    const errand: Errand = { kind: 'relearn', index, branch: this.#probed(watched), device: this.#device };
    // It takes as long as there are directories: that says nothing of the branch.
    const answer = await this.#options.errands.run(errand).catch(() => undefined);
    if (answer !== undefined) take(watched, answer.finding);
    watched.knowledge = answer?.finding.kind === 'ok' && watched.knowledge === 'learning' ? 'true' : 'outdated';
  }
}

/** Waits until every request that is under way now has ended; those that are stuck are not waited for: false. */
export async function requestsEnded({ u32 }: State): Promise<boolean> {
  const words = Array.from({ length: MAX_READERS }, (_, thread) => progressOf(thread));
  const begun = words.map((word) => u32[word + PROGRESS.begun]!);
  const isEnded = (word: number, index: number) =>
    u32[word + PROGRESS.begun] !== begun[index] || u32[word + PROGRESS.ended] === begun[index];
  const deadline = performance.now() + REQUEST_LIMIT_MS;
  while (!words.every(isEnded)) {
    if (performance.now() > deadline) return false;
    await delay(10);
  }
  return true;
}

function isOut({ kind }: Finding): boolean {
  return kind === 'failing' || kind === 'gone' || kind === 'foreign';
}

/** A look says nothing of whether a filesystem takes changes. */
function take(watched: Watched, finding: Finding): void {
  if (isOut(watched.finding) || (watched.finding.kind === 'read-only' && finding.kind === 'ok')) return;
  watched.finding = finding;
}

function findingOf({ path, mode }: OpenBranch, mount: KnownMount | undefined): Finding | undefined {
  if (mount === undefined) return { kind: 'gone', message: `${path} is not mounted any more` };
  if (mount.isShutDown)
    return { kind: 'failing', message: `the filesystem of ${path} was shut down; see the kernel's log for why` };
  if (mount.isReadOnly && mode !== 'RO')
    return { kind: 'read-only', message: `the filesystem of ${path} takes no changes; see the kernel's log for why` };
  return undefined;
}
