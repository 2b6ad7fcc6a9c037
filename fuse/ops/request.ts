/**
 * One request, from the buffer to the result: new, or begun by a server that died. The journal says how far that came:
 *
 *   not begun    read and nothing else: done as any other
 *   working      what it counted (lookups, a handle) is taken back, then it is done again; the operations look into the journal
 *                where what they did the first time would now be in their way
 *   committed    it is done, and its result is known
 *   replying     the reply was written or not: it is written again, and refused if it was
 */
import { H, HANDLE } from '../inode/handle-table.ts';
import { PHASE } from '../inode/journal.ts';
import { LostLock } from '../inode/lost-lock.ts';
import { IN, OP, OP_COUNT } from '../protocol/abi.ts';
import {
  ECONNABORTED,
  EIO,
  EMFILE,
  ENFILE,
  ENODEV,
  ENOSYS,
  ENOTCONN,
  ENXIO,
  EROFS,
  ESHUTDOWN,
  ESTALE,
  ETIMEDOUT,
  EUCLEAN,
} from '../sys/constants.ts';
import { type Context, NO_REPLY } from './context.ts';
import { closeListing, keepListing } from './directory.ts';
import type { Operation } from './dispatch.ts';
import { closeBacking, forget } from './forget.ts';
import { closeOpened } from './open.ts';

export type Operations = readonly (Operation | undefined)[];

/** Servers that may die of a request before it is refused: the next one shall live. */
const MAX_ATTEMPTS = 10;

/** What makes, renames or removes a name in its directory. */
const NAMING = [OP.SYMLINK, OP.MKNOD, OP.MKDIR, OP.UNLINK, OP.RMDIR, OP.RENAME, OP.RENAME2, OP.LINK, OP.CREATE];
/** By operation code, 1 for these. */
const NAMES = marked(NAMING);
/** The same for what changes something on a branch: a filesystem that is frozen holds them up, and no others. */
const CHANGES = marked([
  ...NAMING,
  OP.SETATTR,
  OP.WRITE,
  OP.FSYNC,
  OP.FSYNCDIR,
  OP.SYNCFS,
  OP.SETXATTR,
  OP.REMOVEXATTR,
  OP.TMPFILE,
  OP.FALLOCATE,
  OP.COPY_FILE_RANGE,
]);
/** What only broken branches answer. */
const SUSPICIOUS = new Set<number>([
  EIO,
  EROFS,
  ENODEV,
  ENXIO,
  ESTALE,
  ENOTCONN,
  ECONNABORTED,
  ETIMEDOUT,
  EUCLEAN,
  ESHUTDOWN,
]);

function marked(opcodes: readonly number[]): Uint8Array {
  const marks = new Uint8Array(OP_COUNT);
  for (const opcode of opcodes) marks[opcode] = 1;
  return marks;
}

/** Performs the request in the buffer. Answers the length of the reply's body, a negated errno, or NO_REPLY. */
export function perform(context: Context, table: Operations): number {
  context.journal.begin(false);
  return operate(context, table);
}

/** Brings a request that a dead server has read (`hasUnfinished`) to its end. The answer is that of `perform`. */
export function resume(context: Context, table: Operations): number {
  const { journal } = context;
  if (journal.closing !== 0) closeBacking(context, journal.closing);
  const { phase, result } = journal;
  if (phase === PHASE.replying) return result;
  if (phase !== PHASE.idle) giveBack(context);
  if (phase === PHASE.committed) return result;
  if (journal.attempts >= MAX_ATTEMPTS) {
    context.log.error('request_given_up', { opcode: opcodeOf(context), node: context.slot, attempts: MAX_ATTEMPTS });
    return -EIO;
  }
  journal.begin(phase === PHASE.working);
  return operate(context, table);
}

/** Takes back what the request had counted, as nobody gets its reply. */
export function giveBack(context: Context): void {
  const { handles, journal } = context;
  const { handle } = journal;
  if (handle !== 0 && (handles.get(handle, H.flags) & HANDLE.directory) !== 0) closeListing(context, handle);
  else if (handle !== 0) closeOpened(context, handle);
  for (let slot = journal.held; slot !== 0; slot = journal.held) forget(context, slot, 1);
}

export function opcodeOf({ u32, request }: Context): number {
  return u32[(request + IN.opcode) >>> 2]!;
}

/** The answer to a request whose inode is not known. */
function withoutInode(context: Context, opcode: number, operation: Operation): number {
  if (opcode === OP.FORGET) return NO_REPLY;
  if (opcode === OP.STATFS) return operation(context);
  // A dead server freed it with its last handle.
  return opcode === OP.RELEASE && context.journal.resuming ? 0 : -EIO;
}

/** Of the directory in which a name changes, and of the one where a rename puts it. */
function keepListings(context: Context, opcode: number): void {
  keepListing(context, context.slot);
  if (opcode === OP.RENAME || opcode === OP.RENAME2) keepListing(context, context.in32(0));
}

function operate(context: Context, table: Operations): number {
  const opcode = opcodeOf(context);
  const operation = table[opcode];
  if (operation === undefined) return -ENOSYS;
  // Only INIT may name no inode.
  if (
    opcode !== OP.INIT &&
    opcode !== OP.BATCH_FORGET &&
    opcode !== OP.INTERRUPT &&
    opcode !== OP.DESTROY &&
    !context.inodes.isUsed(context.slot)
  )
    return withoutInode(context, opcode, operation);
  context.gate.begin(CHANGES[opcode] === 1);
  context.directories.begin(!context.exclusive);
  try {
    if (NAMES[opcode] === 1) keepListings(context, opcode);
    const result = operation(context);
    if (result < 0 && SUSPICIOUS.has(-result)) context.gate.suspect();
    if (result !== -EMFILE && result !== -ENFILE) return result;
    // Descriptors of directories are for speed: without them there is room again.
    context.directories.begin(!context.exclusive);
    return context.directories.makeRoom() ? operation(context) : result;
  } catch (error) {
    context.state.releaseOwnLocks();
    if (error instanceof LostLock) {
      giveBack(context);
      return -EIO;
    }
    context.log.error('operation_failed', {
      opcode,
      node: context.slot,
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
    return opcode === OP.FORGET || opcode === OP.BATCH_FORGET ? NO_REPLY : -EIO;
  }
}
