/**
 * All names of a file. The index knows those that somebody has looked up; of a file with more links than that the others are
 * searched for on its branch, by listing its directories. Rare, and as slow as that.
 */
import { OWN_DIRECTORY } from '../branch/branches.ts';
import { F, ROOT } from '../inode/inode-table.ts';
import { D } from '../inode/name-index.ts';
import { DT_DIR, DT_UNKNOWN, ENOENT, O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import type { Context } from './context.ts';
import { forget } from './forget.ts';
import { kindAt } from './inode-number.ts';
import { findChild } from './tree.ts';

const RAW_BYTES = 64 * 1024;
/** struct linux_dirent64. */
const RAW = { ino: 0, length: 16, type: 18, name: 19 } as const;

/** A name below a directory's inode, copied: it outlives changes of the index. */
export interface Name {
  readonly parent: number;
  readonly bytes: Uint8Array;
}

/** The names that the index knows of a file. */
export function knownNames({ inodes, names, state, u8 }: Context, slot: number): Name[] {
  const found: Name[] = [];
  state.lock();
  for (let dentry = inodes.get(slot, F.dentry); dentry !== 0; dentry = names.get(dentry, D.alias)) {
    const at = names.get(dentry, D.name);
    found.push({ parent: names.get(dentry, D.parent), bytes: u8.slice(at, at + names.nameLength(dentry)) });
  }
  state.unlock();
  return found;
}

/** Puts a name where operations can read it; answers its position. Valid until the next one. */
export function placeName({ childName, u8 }: Context, bytes: Uint8Array): number {
  u8.set(bytes, childName);
  u8[childName + bytes.length] = 0;
  return childName;
}

/** The names of a file with `links` links: as many as can be found. */
export function allNames(context: Context, slot: number, links: number): Name[] {
  const known = knownNames(context, slot);
  if (known.length >= links) return known;
  const { branches, inodes } = context;
  const ino = [inodes.get(slot, F.lowerLow), inodes.get(slot, F.lowerHigh)] as const;
  const root = libc.dup(branches[inodes.get(slot, F.branch)]!.root);
  const paths: Uint8Array[][] = [];
  searchDirectory(context, root, [], { ino, links, paths });
  libc.close(root);
  for (const path of paths) lookUp(context, path);
  return knownNames(context, slot);
}

interface Search {
  readonly ino: readonly [low: number, high: number];
  readonly links: number;
  /** What was found. */
  readonly paths: Uint8Array[][];
}

/** Depth first; a directory that cannot be read has no names to tell. */
function searchDirectory(context: Context, parent: number, path: Uint8Array[], search: Search): void {
  const position = placeName(context, path.at(-1) ?? Buffer.from('.'));
  const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  const descriptor = libc.openat(parent, context.base + position, flags, 0);
  if (descriptor < 0) return;
  const below: Uint8Array[] = [];
  readNames(context, descriptor, ({ name, kind, inoLow, inoHigh }) => {
    if (path.length === 0 && Buffer.from(name).toString('latin1') === OWN_DIRECTORY) return;
    if (kind === DT_DIR) below.push(name);
    else if (inoLow === search.ino[0] && inoHigh === search.ino[1]) search.paths.push([...path, name]);
  });
  for (const name of below) {
    if (search.paths.length >= search.links) break;
    searchDirectory(context, descriptor, [...path, name], search);
  }
  libc.close(descriptor);
}

interface LowerName {
  readonly name: Uint8Array;
  readonly kind: number;
  readonly inoLow: number;
  readonly inoHigh: number;
}

/** Reads a lower directory from a descriptor, its names copied. Answers 0 or a negated errno. */
export function readNames(context: Context, descriptor: number, take: (entry: LowerName) => void): number {
  for (;;) {
    const bytes = libc.getdents64(descriptor, context.base + context.raw, RAW_BYTES);
    if (bytes <= 0) return bytes;
    // All of them first: whoever takes one may use the same memory.
    for (const entry of copyNames(context, descriptor, bytes)) take(entry);
  }
}

function copyNames(context: Context, descriptor: number, bytes: number): readonly LowerName[] {
  const { base, raw, u8 } = context;
  const view = new DataView(u8.buffer, u8.byteOffset);
  const entries: LowerName[] = [];
  for (let at = raw; at < raw + bytes; at += view.getUint16(at + RAW.length, true)) {
    const name = u8.slice(at + RAW.name, at + RAW.name + context.lengthAt(at + RAW.name));
    const text = Buffer.from(name).toString('latin1');
    if (text === '.' || text === '..') continue;
    let kind = u8[at + RAW.type]!;
    if (kind === DT_UNKNOWN && context.statName(descriptor, base + at + RAW.name, context.stat2) === 0)
      kind = kindAt(context, context.stat2);
    const [inoLow, inoHigh] = [view.getUint32(at + RAW.ino, true), view.getUint32(at + RAW.ino + 4, true)];
    entries.push({ name, kind, inoLow, inoHigh });
  }
  return entries;
}

/** Enters a path into the index. Its inodes are not held: whoever finds the name there holds them. */
function lookUp(context: Context, path: readonly Uint8Array[]): number {
  const held: number[] = [];
  let result = 0;
  for (const name of path) {
    const child = findChild(context, held.at(-1) ?? ROOT, placeName(context, name), name.length);
    result = child > 0 ? 0 : child || -ENOENT;
    if (result < 0) break;
    held.push(child);
  }
  for (const slot of held.reverse()) forget(context, slot, 1);
  return result;
}
