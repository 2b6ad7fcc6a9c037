/**
 * What the node plugin and a union's server process say to each other: JSON lines on the server's control socket. Both sides
 * parse; neither trusts the other's version.
 *
 *   status    how it is
 *   serve     goes with descriptors: of the state memory, of the mounted /dev/fuse, and of its clones, one for each further reader.
 *             State memory that was used before is gone on with
 *   check     goes with the descriptor of state memory: could you go on with it?
 *   make-way  finish what was begun, and end: another server goes on
 *   custody   its answer brings those descriptors back, to a node plugin that was started anew
 *   feed      goes with a descriptor: of the directory of a branch that was added since (feeding.ts)
 *   stop      let go of the branches, which the unmount has ended the need for
 *
 * The connection of `serve` and of `custody` is kept: it ends with the last thread of the server, and never before. A line on it
 * says that there is something new in the status.
 */
import { err, ok, type Result } from '../base/result.ts';
import { type FeedRequest, parseFedBranch } from './feeding.ts';
import { type BranchHealth, isBranchHealth } from './mount-control.ts';
import type { BranchMode, IllBranch } from './resources.ts';

/** Name of the socket in the server pod's emptyDir volume of name RUN_VOLUME. */
export const SERVER_SOCKET = 'server.sock';
export const RUN_VOLUME = 'run';

/** What the server is told of its mount, which it does not see. */
export interface MountFacts {
  /** `major:minor`. */
  readonly device: string;
  readonly readOnly: boolean;
}

export type ServerRequest =
  | { readonly op: 'status' }
  | ({ readonly op: 'serve' } & MountFacts)
  | { readonly op: 'custody' }
  | FeedRequest
  | { readonly op: 'check' }
  | { readonly op: 'make-way' }
  | { readonly op: 'stop' };

export interface ServedBranch {
  readonly id: string;
  readonly path: string;
  readonly mode: BranchMode;
  readonly health: BranchHealth;
  /** What is wrong with it; empty when nothing is. */
  readonly message: string;
  readonly totalBytes: number;
  readonly usedBytes: number;
  readonly availableBytes: number;
  readonly files: number;
}

export interface ServerStatus {
  readonly ok: true;
  readonly volume: string;
  /** `failed`: the union cannot be opened or served, see message; `ended`: its session is over, branches are closed at stop. */
  readonly state: 'waiting' | 'serving' | 'failed' | 'ended';
  readonly message?: string;
  /** Its pod is to go, and it waits for the unmount or for a successor. */
  readonly leaving: boolean;
  readonly branches: readonly ServedBranch[];
  readonly pid: number;
}

export interface ServerFailure {
  readonly ok: false;
  readonly code: string;
  readonly message: string;
}

/** Of custody. */
export interface ServerCustody extends MountFacts {
  readonly ok: true;
}

export type ServerAnswer = ServerStatus | ServerCustody | { readonly ok: true } | ServerFailure;

const OPS = ['status', 'serve', 'check', 'make-way', 'custody', 'feed', 'stop'] as const;

/** The error is a message for the peer. */
export function parseServerRequest(value: unknown): Result<ServerRequest, string> {
  if (!isRecord(value)) return err('a request must be a JSON object');
  const op = OPS.find((known) => known === value.op);
  if (op === undefined) return err(`unknown op ${JSON.stringify(value.op)}; known are ${OPS.join(', ')}`);
  if (op === 'feed') return parseFeed(value.branch);
  if (op !== 'serve') return ok({ op });
  const facts = parseFacts(value);
  return facts === undefined ? err('serve must say device and readOnly') : ok({ op, ...facts });
}

function parseFeed(value: unknown): Result<ServerRequest, string> {
  const branch = parseFedBranch(value);
  return branch.ok ? ok({ op: 'feed', branch: branch.value }) : branch;
}

/** An answer to serve, feed or stop. */
export function parseAcknowledgement(value: unknown): Result<undefined, ServerFailure> {
  if (isRecord(value) && value.ok === true) return ok(undefined);
  return err(parseFailure(value));
}

export function parseServerCustody(value: unknown): Result<ServerCustody, ServerFailure> {
  if (!isRecord(value) || value.ok !== true) return err(parseFailure(value));
  const facts = parseFacts(value);
  if (facts !== undefined) return ok({ ok: true, ...facts });
  return err({ ok: false, code: 'INTERNAL', message: 'the server does not say what it gives back' });
}

function parseFacts({ device, readOnly }: Fields): MountFacts | undefined {
  return typeof device === 'string' && typeof readOnly === 'boolean' ? { device, readOnly } : undefined;
}

const STATES = ['waiting', 'serving', 'failed', 'ended'] as const;

export function parseServerStatus(value: unknown): Result<ServerStatus, ServerFailure> {
  if (!isRecord(value) || value.ok !== true) return err(parseFailure(value));
  const { volume, pid, message, branches } = value;
  const state = STATES.find((known) => known === value.state);
  if (typeof volume !== 'string' || typeof pid !== 'number' || state === undefined || !Array.isArray(branches)) {
    return err({
      ok: false,
      code: 'INTERNAL',
      message: 'the server answered with a status that this version cannot read',
    });
  }
  return ok({
    ok: true,
    volume,
    state,
    ...(typeof message === 'string' && { message }),
    leaving: value.leaving === true,
    branches: branches.filter(isServedBranch),
    pid,
  });
}

/** Those of which files have errors, or that take no changes. One that is full or slow is as it should be, or soon will be. */
export function illBranchesOf({ branches }: ServerStatus): readonly IllBranch[] {
  const well: readonly BranchHealth[] = ['ok', 'full', 'slow'];
  return branches
    .filter(({ health }) => !well.includes(health))
    .map(({ id, health, message }) => ({ id, health, message }));
}

function parseFailure(value: unknown): ServerFailure {
  if (isRecord(value) && value.ok === false && typeof value.message === 'string') {
    return { ok: false, code: typeof value.code === 'string' ? value.code : 'INTERNAL', message: value.message };
  }
  return { ok: false, code: 'INTERNAL', message: 'the server answered with something that is no answer' };
}

function isServedBranch(value: unknown): value is ServedBranch {
  return (
    isRecord(value) &&
    typeof value.id === 'string' &&
    typeof value.path === 'string' &&
    isBranchHealth(value.health) &&
    typeof value.message === 'string' &&
    (value.mode === 'RW' || value.mode === 'RO' || value.mode === 'NC') &&
    [value.totalBytes, value.usedBytes, value.availableBytes, value.files].every((amount) => typeof amount === 'number')
  );
}

interface Fields {
  readonly [name: string]: unknown;
}

function isRecord(value: unknown): value is Fields & Record<'ok' | 'op' | 'message' | 'code', unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
