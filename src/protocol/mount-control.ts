/**
 * What commands ask the server of `union-csi mount` on its control socket (host/mount-control.ts), JSON lines as in
 * server-control.ts. Both sides parse; neither trusts the other's version.
 */
import { err, ok, type Result } from '../base/result.ts';
import type { BranchMode } from './resources.ts';

export type MountControlRequest =
  | { readonly op: 'status' }
  /** Another server, of the program as it is installed now, is to take over. */
  | { readonly op: 'upgrade' }
  /** Changes a branch; what is left out stays. */
  | {
      readonly op: 'branch.set';
      readonly path: string;
      readonly mode?: BranchMode;
      readonly minFreeSpaceBytes?: number;
    }
  | {
      readonly op: 'branch.add';
      readonly path: string;
      readonly mode: BranchMode;
      readonly minFreeSpaceBytes: number;
    }
  /** Moves its files to others and takes it out of the union: as long as it is asked again every second or so. Answers a Removal. */
  | { readonly op: 'branch.remove'; readonly path: string };

const REMOVAL_PHASES = ['moving', 'waiting', 'removed', 'failed'] as const;

/** As fuse/index.ts's Removal tells it. */
export interface RemovalProgress {
  readonly phase: (typeof REMOVAL_PHASES)[number];
  readonly message: string;
  readonly movedFiles: number;
  readonly movedBytes: number;
  /** Some of what cannot be moved just now; how many there are, and how many of them only have to be closed. */
  readonly left: readonly { readonly path: string; readonly why: string }[];
  readonly leftCount: number;
  readonly openCount: number;
  /** Files that other branches hide, which stay on it, and what stays in its `.union`. */
  readonly hiddenCount: number;
  readonly kept: readonly string[];
}

export const BRANCH_HEALTHS = ['ok', 'full', 'read-only', 'slow', 'hanging', 'failing', 'gone', 'foreign'] as const;
export type BranchHealth = (typeof BRANCH_HEALTHS)[number];

export function isBranchHealth(value: unknown): value is BranchHealth {
  return BRANCH_HEALTHS.some((known) => known === value);
}

export interface MountedBranch {
  readonly path: string;
  readonly mode: BranchMode;
  readonly minFreeSpaceBytes: number;
  /** As fuse/index.ts's BranchState tells it. */
  readonly health: BranchHealth;
  /** What is wrong; empty when nothing is. */
  readonly message: string;
  readonly totalBytes: number;
  readonly usedBytes: number;
  readonly availableBytes: number;
  /** Inodes in use on its filesystem. */
  readonly files: number;
}

export interface MountStatus {
  readonly mountpoint: string;
  readonly pid: number;
  readonly uptimeSeconds: number;
  /** As options: `category.create=mfs`, `func.mkdir=all`. */
  readonly policies: readonly string[];
  readonly cache: 'exclusive' | 'shared';
  readonly readOnly: boolean;
  readonly branches: readonly MountedBranch[];
  /** Requests of the kernel since the start. */
  readonly operations: number;
  /** Files that the kernel knows now, and of those open handles. */
  readonly knownInodes: number;
  readonly openHandles: number;
  readonly indexedNames: number;
  /** Names that the kernel asked for; of those, how many were answered from memory, and for how many all branches were asked. */
  readonly namesAsked: number;
  readonly namesRemembered: number;
  readonly namesUnknown: number;
  readonly indexBytes: number;
  /** Files that are moving from a full branch to another, and that did since the start. */
  readonly movesUnderway: number;
  readonly filesMoved: number;
  /** Paths of intents in the branches: what changes several of them just now, or could not be finished. */
  readonly intents: readonly string[];
}

const MODES: readonly BranchMode[] = ['RW', 'RO', 'NC'];

/** The error is a message for the peer. */
export function parseMountControlRequest(value: unknown): Result<MountControlRequest, string> {
  if (!isRecord(value)) return err('a request must be a JSON object');
  const { op, path, minFreeSpaceBytes } = value;
  if (op === 'status' || op === 'upgrade') return ok({ op });
  if (op !== 'branch.set' && op !== 'branch.add' && op !== 'branch.remove') {
    return err(`unknown op ${JSON.stringify(op)}; known are status, upgrade, branch.set, branch.add, branch.remove`);
  }
  const mode = MODES.find((known) => known === value.mode);
  if (typeof path !== 'string') return err(`path of ${op} must be a string`);
  if (op === 'branch.remove') return ok({ op, path });
  if (mode === undefined && (op === 'branch.add' || value.mode !== undefined)) {
    return err(`mode of ${op} must be one of ${MODES.join(', ')}`);
  }
  if (!isAmount(minFreeSpaceBytes)) {
    if (op === 'branch.add' || minFreeSpaceBytes !== undefined) {
      return err(`minFreeSpaceBytes of ${op} must be a number of bytes`);
    }
  }
  if (op === 'branch.add') return ok({ op, path, mode: mode!, minFreeSpaceBytes: Number(minFreeSpaceBytes) });
  return ok({
    op,
    path,
    ...(mode !== undefined && { mode }),
    ...(isAmount(minFreeSpaceBytes) && { minFreeSpaceBytes }),
  });
}

/** Undefined when it is no status that this version can read. */
export function parseMountStatus(value: unknown): MountStatus | undefined {
  if (!isRecord(value)) return undefined;
  const { mountpoint, policies, cache, readOnly, branches } = value;
  const { pid, uptimeSeconds, operations, knownInodes, openHandles, indexedNames, indexBytes } = value;
  const { namesAsked, namesRemembered, namesUnknown } = value;
  const names = { indexedNames, namesAsked, namesRemembered, namesUnknown };
  const { movesUnderway, filesMoved, intents } = value;
  const counts = { operations, knownInodes, openHandles, indexBytes, ...names, movesUnderway, filesMoved };
  const numbers = { pid, uptimeSeconds, ...counts };
  if (typeof mountpoint !== 'string' || !isTexts(policies) || typeof readOnly !== 'boolean') {
    return undefined;
  }
  if ((cache !== 'exclusive' && cache !== 'shared') || !Array.isArray(branches) || !areAmounts(numbers)) {
    return undefined;
  }
  if (!isTexts(intents)) return undefined;
  return { mountpoint, policies, cache, readOnly, branches: branches.filter(isMountedBranch), ...numbers, intents };
}

/** Undefined when it is nothing that this version can read. */
export function parseRemovalProgress(value: unknown): RemovalProgress | undefined {
  if (!isRecord(value)) return undefined;
  const { message, left, kept, movedFiles, movedBytes, leftCount, openCount, hiddenCount } = value;
  const phase = REMOVAL_PHASES.find((known) => known === value.phase);
  const counts = { movedFiles, movedBytes, leftCount, openCount, hiddenCount };
  if (phase === undefined || typeof message !== 'string' || !isTexts(kept) || !areAmounts(counts)) return undefined;
  if (!Array.isArray(left)) return undefined;
  return { phase, message, left: left.filter(isLeftFile), kept, ...counts };
}

function isLeftFile(value: unknown): value is RemovalProgress['left'][number] {
  return isRecord(value) && typeof value.path === 'string' && typeof value.why === 'string';
}

function isMountedBranch(value: unknown): value is MountedBranch {
  if (!isRecord(value)) return false;
  const { path, mode, health, message, minFreeSpaceBytes, totalBytes, usedBytes, availableBytes, files } = value;
  return (
    typeof path === 'string' &&
    MODES.some((known) => known === mode) &&
    isBranchHealth(health) &&
    typeof message === 'string' &&
    areAmounts({ minFreeSpaceBytes, totalBytes, usedBytes, availableBytes, files })
  );
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((text) => typeof text === 'string');
}

function areAmounts<K extends string>(values: Readonly<Record<K, unknown>>): values is Readonly<Record<K, number>> {
  return Object.values(values).every(isAmount);
}

function isAmount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}

interface Fields {
  readonly [name: string]: unknown;
}

function isRecord(
  value: unknown,
): value is Fields &
  Readonly<Record<keyof MountStatus | keyof MountedBranch | keyof RemovalProgress | 'op' | 'why', unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
