/**
 * When the kernel refuses a reply because its caller was killed meanwhile, it never learns what the reply handed out: handles, and
 * lookups that it would have to forget.
 */
import { DIRENT, direntBytes, ENTRY, OP } from '../protocol/abi.ts';
import type { Context } from './context.ts';
import { releasedir } from './directory.ts';
import { forget } from './forget.ts';
import { release } from './open.ts';

/** Operations whose reply begins with an entry, for which the kernel counts a lookup. */
const ENTRY_REPLIES = new Set<number>([OP.LOOKUP, OP.MKNOD, OP.MKDIR, OP.SYMLINK, OP.LINK, OP.CREATE, OP.TMPFILE]);

/** `result` is the length of the reply's body. */
export function takeBack(context: Context, opcode: number, result: number): void {
  if (result <= 0) return;
  const { u32, out, body } = context;
  if (opcode === OP.READDIRPLUS) {
    forgetEntries(context, result);
    return;
  }
  const opened =
    opcode === OP.OPEN || opcode === OP.OPENDIR
      ? out
      : opcode === OP.CREATE || opcode === OP.TMPFILE
        ? out + ENTRY.size
        : 0;
  if (opened !== 0) {
    u32[body >>> 2] = u32[opened >>> 2]!;
    if (opcode === OP.OPENDIR) releasedir(context);
    else release(context);
  }
  if (ENTRY_REPLIES.has(opcode) && u32[out >>> 2] !== 0) forget(context, u32[out >>> 2]!, 1);
}

/** Each fuse_direntplus that names an inode counts one lookup. */
function forgetEntries(context: Context, length: number): void {
  const { u32, out } = context;
  for (let at = out; at < out + length; ) {
    if (u32[at >>> 2] !== 0) forget(context, u32[at >>> 2]!, 1);
    at += ENTRY.size + direntBytes(u32[(at + ENTRY.size + DIRENT.nameLength) >>> 2]!);
  }
}
