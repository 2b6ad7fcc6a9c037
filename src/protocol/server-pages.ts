/** What a server pod answers over HTTP (main/union-pages.ts), as `kubectl union` reads it. Neither side trusts the other's version. */

/** Where a server pod serves its health, metrics and pages. */
export const SERVER_PORT = 9808;

/** A file or directory on one branch. */
export interface Copy {
  readonly branch: string;
  readonly kind: 'directory' | 'file' | 'link' | 'special';
  readonly sizeBytes: number;
}

export interface BranchUsage {
  readonly id: string;
  readonly mode: string;
  /** ok, full, read-only or failing. */
  readonly health: string;
  readonly totalBytes: number;
  readonly usedBytes: number;
  readonly availableBytes: number;
  readonly minFreeSpaceBytes: number;
  readonly files: number;
}

export interface UnionUsage {
  readonly branches: readonly BranchUsage[];
  readonly requests: number;
  readonly openHandles: number;
  readonly inodes: number;
}

/** Undefined: not an answer that this version can read. */
export function parseUsage(value: unknown): UnionUsage | undefined {
  if (!isRecord(value)) return undefined;
  const { branches, requests, openHandles, inodes } = value;
  if (!Array.isArray(branches) || !areNumbers({ requests, openHandles, inodes })) return undefined;
  return {
    branches: branches.filter(isBranchUsage),
    requests: Number(requests),
    openHandles: Number(openHandles),
    inodes: Number(inodes),
  };
}

export function parseCopies(value: unknown): readonly Copy[] | undefined {
  if (!isRecord(value) || !Array.isArray(value.copies)) return undefined;
  return value.copies.filter(isCopy);
}

const KINDS: readonly unknown[] = ['directory', 'file', 'link', 'special'];

function isCopy(value: unknown): value is Copy {
  return (
    isRecord(value) &&
    typeof value.branch === 'string' &&
    KINDS.includes(value.kind) &&
    typeof value.sizeBytes === 'number'
  );
}

function isBranchUsage(value: unknown): value is BranchUsage {
  if (!isRecord(value)) return false;
  const { id, mode, health, totalBytes, usedBytes, availableBytes, minFreeSpaceBytes, files } = value;
  return (
    [id, mode, health].every((text) => typeof text === 'string') &&
    areNumbers({ totalBytes, usedBytes, availableBytes, minFreeSpaceBytes, files })
  );
}

function areNumbers(values: Readonly<Record<string, unknown>>): boolean {
  return Object.values(values).every((value) => typeof value === 'number');
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
