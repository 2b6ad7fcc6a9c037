/** Functions with the policy `erofs`: their operations answer EROFS before anything is looked at. */
import type { FunctionName } from '../policy/functions.ts';
import { FATTR, OP, SETATTR_IN } from '../protocol/abi.ts';
import { EROFS } from '../sys/constants.ts';
import type { Context } from './context.ts';

type Operation = (context: Context) => number;

/** Operations that are one function each; of SETATTR the request tells which. */
const OPERATIONS: Readonly<Partial<Record<FunctionName, readonly number[]>>> = {
  link: [OP.LINK],
  removexattr: [OP.REMOVEXATTR],
  rename: [OP.RENAME, OP.RENAME2],
  rmdir: [OP.RMDIR],
  setxattr: [OP.SETXATTR],
  unlink: [OP.UNLINK],
  getxattr: [OP.GETXATTR],
  listxattr: [OP.LISTXATTR],
  open: [OP.OPEN],
  readlink: [OP.READLINK],
};

/** Replaces the refused functions' operations in a table by code. */
export function refuseFunctions(table: (Operation | undefined)[], refused: readonly FunctionName[]): void {
  for (const name of refused) for (const code of OPERATIONS[name] ?? []) table[code] = () => -EROFS;
  const setattr = table[OP.SETATTR];
  const isChange = (['truncate', 'chown', 'chmod', 'utimens'] as const).some((name) => refused.includes(name));
  if (!isChange || setattr === undefined) return;
  table[OP.SETATTR] = (context) =>
    refused.includes(functionOf(context.in32(SETATTR_IN.valid))) ? -EROFS : setattr(context);
}

/** What the caller asked for; the kernel adds times to a change of size, and a mode to one of owner. */
function functionOf(valid: number): FunctionName {
  if ((valid & FATTR.SIZE) !== 0) return 'truncate';
  if ((valid & (FATTR.UID | FATTR.GID)) !== 0) return 'chown';
  return (valid & FATTR.MODE) !== 0 ? 'chmod' : 'utimens';
}
