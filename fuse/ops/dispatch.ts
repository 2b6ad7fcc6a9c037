/** From operation code to operation. What is not here answers ENOSYS, which the kernel remembers where that is useful. */
import { type Policies, refusedFunctions } from '../policy/functions.ts';
import { OP, OP_COUNT } from '../protocol/abi.ts';
import * as attributes from './attributes.ts';
import { type Context, NO_REPLY } from './context.ts';
import * as create from './create.ts';
import * as data from './data.ts';
import * as directory from './directory.ts';
import { init } from './init.ts';
import * as lookup from './lookup.ts';
import * as make from './make.ts';
import * as open from './open.ts';
import { refuseFunctions } from './refusal.ts';
import * as remove from './remove.ts';
import * as rename from './rename.ts';
import { setattr } from './set-attributes.ts';
import * as xattr from './xattr.ts';

export type Operation = (context: Context) => number;

/** By operation code; undefined where there is none. */
export function operations(policies: Policies): (Operation | undefined)[] {
  const table: (Operation | undefined)[] = new Array(OP_COUNT).fill(undefined);
  table[OP.LOOKUP] = lookup.lookup;
  table[OP.FORGET] = lookup.forgetOne;
  table[OP.BATCH_FORGET] = lookup.batchForget;
  table[OP.GETATTR] = attributes.getattr;
  table[OP.SETATTR] = setattr;
  table[OP.STATX] = attributes.statx;
  table[OP.READLINK] = attributes.readlink;
  table[OP.STATFS] = attributes.statfs;
  table[OP.SYMLINK] = make.symlink;
  table[OP.MKNOD] = make.mknod;
  table[OP.MKDIR] = make.mkdir;
  table[OP.LINK] = make.link;
  table[OP.UNLINK] = remove.unlink;
  table[OP.RMDIR] = remove.rmdir;
  table[OP.RENAME] = rename.rename;
  table[OP.RENAME2] = rename.rename2;
  table[OP.CREATE] = create.create;
  table[OP.TMPFILE] = create.tmpfile;
  table[OP.OPEN] = open.open;
  table[OP.RELEASE] = open.release;
  table[OP.READ] = data.read;
  table[OP.WRITE] = data.write;
  table[OP.FLUSH] = data.flush;
  table[OP.FSYNC] = data.fsync;
  table[OP.FALLOCATE] = data.fallocate;
  table[OP.LSEEK] = data.lseek;
  table[OP.COPY_FILE_RANGE] = data.copyFileRange;
  table[OP.FSYNCDIR] = data.fsyncDirectory;
  table[OP.SYNCFS] = data.syncfs;
  table[OP.OPENDIR] = directory.opendir;
  table[OP.READDIR] = directory.readdir;
  table[OP.READDIRPLUS] = directory.readdirplus;
  table[OP.RELEASEDIR] = directory.releasedir;
  table[OP.SETXATTR] = xattr.setxattr;
  table[OP.GETXATTR] = xattr.getxattr;
  table[OP.LISTXATTR] = xattr.listxattr;
  table[OP.REMOVEXATTR] = xattr.removexattr;
  table[OP.INIT] = init;
  // The kernel checks permissions itself (default_permissions); operations are too short to be interrupted.
  table[OP.INTERRUPT] = () => NO_REPLY;
  table[OP.DESTROY] = () => 0;
  refuseFunctions(table, refusedFunctions(policies));
  return table;
}
