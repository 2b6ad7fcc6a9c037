/**
 * How a branch that was added while a union is mounted comes to its server: the node plugin asks the branch's feeder (`lend`) for the
 * directory, and gives it to the server (`feed`) as a descriptor. Requests as in server-control.ts; the names of volume and
 * socket are those of the server's pod too.
 */
import { err, ok, type Result } from '../base/result.ts';
import type { BranchMode, FeederStatus } from './resources.ts';

/** What a server is told of the branch whose directory it is given. */
export interface FedBranch {
  readonly id: string;
  readonly mode: BranchMode;
  readonly minFreeSpaceBytes: number;
}

export interface FeedRequest {
  readonly op: 'feed';
  readonly branch: FedBranch;
}

/** To a feeder. `stop`: what it lent is not used any more. */
export interface FeederRequest {
  readonly op: 'lend' | 'stop';
}

export function fedBranch({ branch, mode, minFreeSpaceBytes }: FeederStatus): FedBranch {
  return { id: branch, mode, minFreeSpaceBytes: Number(minFreeSpaceBytes) };
}

export function parseFedBranch(value: unknown): Result<FedBranch, string> {
  const { id, mode, minFreeSpaceBytes } = (value ?? {}) as Readonly<Record<keyof FedBranch, unknown>>;
  // It becomes the name of a file.
  if (typeof id !== 'string' || !/^[a-z0-9][a-z0-9-]*$/.test(id)) return err('branch.id must be the id of a branch');
  if (mode !== 'RW' && mode !== 'RO' && mode !== 'NC') return err('branch.mode must be RW, RO or NC');
  if (!Number.isSafeInteger(minFreeSpaceBytes)) return err('branch.minFreeSpaceBytes must be a number of bytes');
  return ok({ id, mode, minFreeSpaceBytes: Number(minFreeSpaceBytes) });
}

export function parseFeederRequest(value: unknown): Result<FeederRequest, string> {
  const { op } = (value ?? {}) as { readonly op?: unknown };
  return op === 'lend' || op === 'stop' ? ok({ op }) : err(`unknown op ${JSON.stringify(op)}; known are lend, stop`);
}
