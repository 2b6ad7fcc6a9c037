/** What the session's main thread gives its threads, and what they tell it. */
import type { Finding } from '../branch/health.ts';
import type { ProbedBranch } from '../branch/probe.ts';
import type { OpsConfig } from '../ops/context.ts';
import type { Remainder } from '../ops/drain-progress.ts';
import type { Cleared } from '../ops/retire.ts';

export interface ReaderData {
  readonly thread: number;
  /** Descriptors are the process's: the numbers are enough. */
  readonly stateFd: number;
  readonly deviceFd: number;
  readonly config: OpsConfig;
  /** Of meter.ts, for all readers. */
  readonly meters: SharedArrayBuffer;
  /** The CPU of its own, or -1, and those that the server may use. */
  readonly cpu: number;
  readonly cpus: readonly number[];
  /** Of seat.ts, for all readers. */
  readonly callers: SharedArrayBuffer;
}

interface LogMessage {
  readonly kind: 'log';
  readonly level: 'error' | 'warn';
  readonly event: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export type ReaderMessage =
  /** INIT was answered, or what a dead server had begun is finished. */
  { readonly kind: 'serving' } | LogMessage;

export interface ErrandData {
  readonly thread: number;
  readonly stateFd: number;
  readonly config: OpsConfig;
}

export type Errand =
  /** At the branch and its space, of which the figures go to its record. */
  | { readonly kind: 'look'; readonly index: number; readonly branch: ProbedBranch }
  | { readonly kind: 'change'; readonly branch: ProbedBranch }
  | { readonly kind: 'reopen'; readonly branch: ProbedBranch }
  /** Of ops/relearn.ts; `device` is a descriptor of the connection. */
  | { readonly kind: 'relearn'; readonly index: number; readonly branch: ProbedBranch; readonly device: number }
  /** Of ops/let-go.ts. */
  | { readonly kind: 'letGo'; readonly index: number; readonly mountId: number; readonly device: number }
  /** A pass of ops/drain.ts and, if it leaves nothing and `renames` is still what the branch's record says, retireBranch. */
  | {
      readonly kind: 'drain';
      readonly index: number;
      readonly renames: number;
      readonly progress: SharedArrayBuffer;
      readonly device: number;
    }
  /** clearBranch of ops/retire.ts. */
  | {
      readonly kind: 'clear';
      readonly index: number;
      readonly hidden: readonly string[];
      readonly volumeId: string | undefined;
      readonly device: number;
    };

export interface ErrandAnswer {
  readonly finding: Finding;
  /** A new descriptor of the branch's root, the receiver's. */
  readonly root?: number;
  /** Of a close look: intents that are not completed, by path. */
  readonly intents?: readonly string[];
  /** Of a pass over a branch that is to be removed. */
  readonly remainder?: Remainder;
  readonly cleared?: Cleared;
}

export type ErrandMessage =
  /** From now on it may be waiting for its branch. */
  { readonly kind: 'begun' } | { readonly kind: 'answer'; readonly answer: ErrandAnswer } | LogMessage;
