/**
 * Files and directories that lost their last name while somebody uses them. They are reached by a pinned O_PATH descriptor, which
 * dies with the server; so a file gets a further link `open-SLOT-GENERATION` in its branch's `.union` for as long, by
 * which a successor finds it. What a crash of the machine leaves of these is removed when the union is mounted again.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type OpenBranch, OWN_DIRECTORY } from '../branch/branches.ts';
import { F, INODE } from '../inode/inode-table.ts';
import { D } from '../inode/name-index.ts';
import { AT_EMPTY_PATH, AT_REMOVEDIR, DT_DIR, EEXIST, O_CLOEXEC, O_NOFOLLOW, O_PATH } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { ownDirectory } from './own-directory.ts';
import { writeText } from './scratch.ts';

const PREFIX = 'open-';

/** Pins an inode that is about to lose a name by which its handles may need it, unless it has another known name. */
export function keepOpen(context: Context, slot: number): number {
  const { inodes } = context;
  const isDirectory = inodes.kind(slot) === DT_DIR;
  return isDirectory || inodes.get(slot, F.opens) !== 0 ? pin(context, slot, !isDirectory) : 0;
}

/**
 * The same for a file whose name becomes another's. Who has just looked the name up is about to open what it was: told ESTALE, the kernel
 * looks once more, and whoever replaces the file all the time may have done so again by then. It need not outlive this server.
 */
export function keepReplaced(context: Context, slot: number): number {
  const { inodes } = context;
  const kept = keepOpen(context, slot);
  if (kept === 0 && inodes.kind(slot) !== DT_DIR && inodes.get(slot, F.lookups) !== 0) pin(context, slot, false);
  return kept;
}

function pin(context: Context, slot: number, isLinked: boolean): number {
  const { inodes, names } = context;
  const isDirectory = inodes.kind(slot) === DT_DIR;
  if (inodes.get(slot, F.pinned) !== 0) return 0;
  const dentry = inodes.get(slot, F.dentry);
  if (dentry !== 0 && names.get(dentry, D.alias) !== 0) return 0;
  const branch = context.branchOf(slot);
  const located = context.locate(slot, branch);
  if (located < 0) return located;
  const descriptor = isDirectory
    ? libc.dup(context.atDescriptor)
    : libc.openat(context.atDescriptor, context.atName, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
  if (descriptor < 0) return descriptor;
  context.state.changes.begin(slot);
  if (isLinked) linkOpen(context, slot, branch, descriptor);
  inodes.set(slot, F.pinned, descriptor + 1);
  context.state.changes.end();
  return 0;
}

/** Gives the file behind a descriptor its link. Where links are not to be had, the file lives as long as this server. */
export function linkOpen(context: Context, slot: number, branch: number, descriptor: number): void {
  const { base, emptyName, inodes } = context;
  const own = ownDirectory(context, branch);
  if (own < 0) return;
  const name = nameOf(context, slot, inodes.get(slot, F.generation));
  // First, so that whoever counts its links knows of this one.
  inodes.setFlag(slot, INODE.kept);
  const linked = libc.linkat(descriptor, base + emptyName, own, name, AT_EMPTY_PATH);
  libc.close(own);
  if (linked < 0 && linked !== -EEXIST) inodes.clearFlag(slot, INODE.kept);
}

/** The inode has a name after all. Who was about to use the descriptor is told so as if the name had changed: it looks again. */
export function unpin(context: Context, slot: number): void {
  const { inodes, state } = context;
  const pinned = inodes.get(slot, F.pinned);
  if (pinned === 0) return;
  state.changes.begin(slot);
  // In this order, as there may be no one to go on: a link that nobody knows of would stay.
  if (inodes.has(slot, INODE.kept))
    unlinkOpen(context, slot, inodes.get(slot, F.generation), inodes.get(slot, F.branch));
  inodes.set(slot, F.pinned, 0);
  inodes.clearFlag(slot, INODE.kept);
  libc.close(pinned - 1);
  state.changes.end();
}

/** Takes the link of an inode, which may be gone already, away: with it goes the file. */
export function unlinkOpen(context: Context, slot: number, generation: number, branch: number): void {
  const own = ownDirectory(context, branch);
  if (own < 0) return;
  libc.unlinkat(own, nameOf(context, slot, generation), 0);
  libc.close(own);
}

/** Address of the link's name. */
function nameOf(context: Context, slot: number, generation: number): number {
  return context.base + writeText(context, context.path, `${PREFIX}${slot}-${generation}`);
}

/** A successor's descriptor of what a dead server had pinned, into the inode's record. */
export function pinAgain(context: Context, slot: number): void {
  const { inodes } = context;
  const isDirectory = inodes.kind(slot) === DT_DIR;
  const descriptor = isDirectory ? openGhost(context, slot) : openLink(context, slot);
  // It was about to be unpinned, having a name again; or nobody had it open.
  const isNamed = inodes.get(slot, F.dentry) !== 0;
  const isFree = descriptor < 0 && (isNamed || (!isDirectory && inodes.get(slot, F.opens) === 0));
  if (isFree) inodes.clearFlag(slot, INODE.kept);
  // Without one, what is asked of the inode fails, and only that.
  inodes.set(slot, F.pinned, isFree ? 0 : descriptor < 0 ? LOST : descriptor + 1);
}

/** Pinned by a descriptor that is gone: what is asked of the inode fails. */
export const LOST = 0x7fffffff;

function openLink(context: Context, slot: number): number {
  const { inodes } = context;
  const own = ownDirectory(context, inodes.get(slot, F.branch));
  if (own < 0) return own;
  const name = nameOf(context, slot, inodes.get(slot, F.generation));
  const descriptor = libc.openat(own, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
  libc.close(own);
  return descriptor;
}

/** A removed directory is as good as any other: empty, and without a name. */
function openGhost(context: Context, slot: number): number {
  const own = ownDirectory(context, context.branchOf(slot));
  if (own < 0) return own;
  const name = nameOf(context, slot, context.inodes.get(slot, F.generation));
  libc.mkdirat(own, name, 0o755);
  const descriptor = libc.openat(own, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
  libc.unlinkat(own, name, AT_REMOVEDIR);
  libc.close(own);
  return descriptor;
}

/** A removed directory in use, pinned on a branch that is to be removed, is pinned on another one. */
export function pinElsewhere(context: Context, slot: number, branch: number): void {
  const { inodes } = context;
  const pinned = inodes.get(slot, F.pinned);
  inodes.set(slot, F.maskLow, branch < 32 ? (1 << branch) >>> 0 : 0);
  inodes.set(slot, F.maskHigh, branch < 32 ? 0 : 1 << (branch - 32));
  const descriptor = openGhost(context, slot);
  if (descriptor < 0 || pinned === LOST) return;
  libc.dup3(descriptor, pinned - 1, O_CLOEXEC);
  libc.close(descriptor);
}

/** Removes the links of inodes that are not in use, from all branches that can be written. */
export function removeStaleLinks(
  branches: readonly OpenBranch[],
  isInUse: (slot: number, generation: number) => boolean,
): void {
  for (const branch of branches) {
    if (branch.mode === 'RO') continue;
    for (const name of listNames(join(branch.path, OWN_DIRECTORY))) {
      const [slot, generation] = name.slice(PREFIX.length).split('-').map(Number);
      if (!name.startsWith(PREFIX) || isInUse(slot!, generation!)) continue;
      libc.withCString(`${OWN_DIRECTORY}/${name}`, (path) => libc.unlinkat(branch.root, path, 0));
    }
  }
}

function listNames(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // no directory of ours, no links
  }
}
