/**
 * Moving a file to another branch while it is in use. Whoever moves it holds its lock: until the end nobody changes its data,
 * attributes or names, and everybody can read it. All handles of it go through the server.
 *
 *   1. it is copied to `.union/move-…` of the other branch: data with holes, owner, mode, extended attributes, times; fsynced.
 *      Links, fifos, sockets and devices are made anew: whoever uses them has the kernel's, not the branch's
 *   2. the intent log says what follows, so that it is completed after a crash from here on; before, the copy is thrown away
 *   3. the copy gets all names of the file and loses its own, the original loses its names, and in the tables the inode is
 *      on the other branch: its handles' descriptors become descriptors of the copy in the same moment (dup3)
 *   4. all of that is synced, the inode number goes with the file (inode/number-table.ts), the intent is removed
 *
 * From 2 on directories keep their places (the tree lock): that takes some syncs of directories, not the copying. A file that has no
 * name is switched without a record: only a successor of this server can ask for it, by the link of nameless.ts, which it gets.
 */
import { DRAFT_PREFIX } from '../branch/intent.ts';
import { F } from '../inode/inode-table.ts';
import { STATX } from '../protocol/abi.ts';
import {
  DT_LNK,
  DT_REG,
  EBUSY,
  EMLINK,
  ENOSPC,
  EPERM,
  O_CLOEXEC,
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
  STATX_ATTR_APPEND,
  STATX_ATTR_IMMUTABLE,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { copyAttributes } from './copy-attributes.ts';
import { copyData } from './copy-data.ts';
import { allNames } from './find-links.ts';
import { openLower } from './lower-file.ts';
import { ownDirectory } from './own-directory.ts';
import { makeDirectoryOn } from './parents.ts';
import { statDescriptor, writeText } from './scratch.ts';
import { inoAt, type Move, switchNamed, switchNameless } from './switch-branch.ts';

/** Of the scratch for values. */
const VALUE_BYTES = 64 * 1024;

/**
 * Moves a file of which `begin` in move.ts made sure that it can be. Answers 0 or a negated errno, and then the file is where it
 * was and as it was. Under the file's lock.
 */
export function relocate(context: Context, slot: number, to: number): number {
  const from = context.inodes.get(slot, F.branch);
  const stat = context.statCopy(slot, from, context.stat);
  if (stat < 0) return stat;
  if (!context.numbers.hasRoom) return -ENOSPC;
  if ((context.u32[(context.stat + STATX.attributes) >>> 2]! & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) !== 0)
    return -EPERM;
  const links = context.statLinks;
  const names = links === 0 ? [] : allNames(context, slot, links);
  // A link that is not shown, or not to be found, would be left behind.
  if (names.length !== links) return -EMLINK;
  for (const { parent } of names) {
    const made = makeDirectoryOn(context, parent, to);
    if (made < 0) return made;
  }
  return moveCopy(context, { slot, from, to, names });
}

function moveCopy(context: Context, place: Pick<Move, 'slot' | 'from' | 'to' | 'names'>): number {
  context.actAs(0, 0);
  const own = ownDirectory(context, place.to);
  if (own < 0) return own;
  const draft = place.names.length === 0 ? '' : `${DRAFT_PREFIX}${place.slot}-${Date.now().toString(36)}`;
  const isRegular = context.inodes.kind(place.slot) === DT_REG;
  const descriptor = isRegular ? openDraft(context, own, draft) : makeSpecial(context, place.slot, own, draft);
  const copy = isRegular ? copyFile : copySpecial;
  let result = descriptor < 0 ? descriptor : copy(context, place.slot, descriptor);
  if (result === 0) {
    context.onMoveStep('copied');
    const move = { ...place, draft, descriptor, ino: inoAt(context, context.stat2) };
    result = draft === '' ? switchNameless(context, move) : switchNamed(context, move);
  }
  if (descriptor >= 0) libc.close(descriptor);
  if (result < 0 && draft !== '') libc.unlinkat(own, context.base + writeText(context, context.path, draft), 0);
  libc.close(own);
  return result;
}

function openDraft(context: Context, own: number, draft: string): number {
  const name = context.base + writeText(context, context.path, draft === '' ? '.' : draft);
  const how = draft === '' ? O_TMPFILE : O_CREAT | O_EXCL | O_NOFOLLOW;
  return libc.openat(own, name, how | O_RDWR | O_CLOEXEC, 0o600);
}

/** Everything of the file into the draft, whose struct statx is left in `stat2`. */
function copyFile(context: Context, slot: number, draft: number): number {
  const { stat, stat2, u32 } = context;
  const source = openLower(context, slot, context.branchOf(slot), O_RDONLY | O_CLOEXEC);
  if (source < 0) return source;
  let result = statDescriptor(context, source, stat);
  const word = (stat + STATX.size) >>> 2;
  if (result === 0) result = copyData(context, source, draft, u32[word]! + u32[word + 1]! * 0x100000000);
  if (result === 0) result = copyAttributes(context, source, draft, stat);
  if (result === 0) result = libc.fsync(draft);
  libc.close(source);
  return result < 0 ? result : statDescriptor(context, draft, stat2);
}

/** Something that is neither a file nor a directory as the draft, empty as it is. Answers an O_PATH descriptor of it, or a negated errno. */
function makeSpecial(context: Context, slot: number, own: number, draft: string): number {
  const { base, emptyName, stat, u32, value } = context;
  // One without a name is nobody's but the kernel's already.
  if (draft === '') return -EBUSY;
  const source = openLower(context, slot, context.branchOf(slot), 'path');
  if (source < 0) return source;
  let result = statDescriptor(context, source, stat);
  const name = base + writeText(context, context.path, draft);
  if (result === 0 && context.inodes.kind(slot) === DT_LNK) {
    const length = libc.readlinkat(source, base + emptyName, base + value, VALUE_BYTES - 1);
    context.u8[value + Math.max(0, length)] = 0;
    result = length < 0 ? length : libc.symlinkat(base + value, own, name);
  } else if (result === 0) {
    const [major, minor] = [u32[(stat + STATX.rdevMajor) >>> 2]!, u32[(stat + STATX.rdevMinor) >>> 2]!];
    result = libc.mknodat(own, name, context.statMode, deviceNumber(major, minor));
  }
  libc.close(source);
  return result < 0 ? result : libc.openat(own, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
}

/** Owner, mode and the rest of it, behind O_PATH descriptors. What syncs the intent syncs that it is there. */
function copySpecial(context: Context, slot: number, draft: number): number {
  const { stat, stat2 } = context;
  const source = openLower(context, slot, context.branchOf(slot), 'path');
  if (source < 0) return source;
  let result = statDescriptor(context, source, stat);
  if (result === 0) result = copyAttributes(context, source, draft, stat);
  libc.close(source);
  return result < 0 ? result : statDescriptor(context, draft, stat2);
}

/** As the kernel's mknod takes it: makedev(3). */
function deviceNumber(major: number, minor: number): number {
  return (minor & 0xff) + ((major & 0xfff) << 8) + (minor >>> 8) * 0x100000;
}
