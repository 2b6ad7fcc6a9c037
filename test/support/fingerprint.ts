/** What a union knows and has, without what differs from run to run: to compare a run that was interrupted with one that was not. */

import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { H } from '../../fuse/inode/handle-table.ts';
import { F, INODE, ROOT } from '../../fuse/inode/inode-table.ts';
import { WORD } from '../../fuse/inode/layout.ts';
import { D } from '../../fuse/inode/name-index.ts';
import type { Context } from '../../fuse/ops/context.ts';
import { DT_DIR } from '../../fuse/sys/constants.ts';
import { lgetxattr } from './xattr-of.ts';

export function fingerprint(context: Context, branches: readonly string[]): readonly string[] {
  return [
    ...branches.flatMap((path, index) => describeBranch(path, `b${index}`)),
    ...describeNames(context, ROOT, '/'),
    ...describeInodes(context),
    ...describeHandles(context),
  ];
}

function describeBranch(path: string, shown: string): string[] {
  return readdirSync(path)
    .sort()
    .filter((name) => name !== '.union' || readdirSync(join(path, name)).length > 0)
    .flatMap((name) => {
      const file = join(path, name);
      const here = name.replace(/^(open|dir|hidden|replaced)-.*/, '$1');
      const { mode, nlink, size, uid } = lstatSync(file);
      const line = `${shown}/${here} mode ${mode.toString(8)} uid ${uid}`;
      if ((mode & 0o170000) === 0o040000) return [line, ...describeBranch(file, `${shown}/${here}`)];
      const content =
        (mode & 0o170000) === 0o100000
          ? readFileSync(file, 'latin1')
          : (mode & 0o170000) === 0o120000
            ? readlinkSync(file)
            : '';
      return [`${line} links ${nlink} size ${size} ${content} ${lgetxattr(file)}`];
    });
}

function describeNames(context: Context, slot: number, path: string): string[] {
  const { inodes, names, u8 } = context;
  const lines: string[] = [];
  for (let dentry = inodes.get(slot, F.firstChild); dentry !== 0; dentry = names.get(dentry, D.nextSibling)) {
    const at = names.get(dentry, D.name);
    const name = Buffer.from(u8.subarray(at, at + names.nameLength(dentry))).toString('latin1');
    const child = names.get(dentry, D.inode);
    lines.push(
      `${path}${name} on ${names.get(dentry, D.maskLow)} ${child === 0 ? 'unknown' : ofInode(context, child)}`,
    );
    if (child !== 0 && inodes.kind(child) === DT_DIR) lines.push(...describeNames(context, child, `${path}${name}/`));
  }
  return lines.sort();
}

function ofInode({ inodes }: Context, slot: number): string {
  // What was learned by the way, once more or less often.
  const flags = inodes.get(slot, F.flags) & ~(INODE.missed | INODE.complete | INODE.capabilitiesKnown);
  const isDirectory = inodes.kind(slot) === DT_DIR;
  const counts = isDirectory
    ? `subdirectories ${inodes.get(slot, F.subdirectories)} children ${inodes.get(slot, F.children)} live ${inodes.get(slot, F.liveChildren)} listers ${inodes.get(slot, F.listers)} mask ${inodes.get(slot, F.maskLow)}`
    : `opens ${inodes.get(slot, F.opens)} writers ${inodes.get(slot, F.writers)} branch ${inodes.get(slot, F.branch)}`;
  // Of a file that nobody has open a server may know more than the next one.
  const isNeeded = inodes.kind(slot) === DT_DIR || inodes.get(slot, F.opens) !== 0;
  const pinned = isNeeded && inodes.get(slot, F.pinned) !== 0;
  return `lookups ${inodes.get(slot, F.lookups)} flags ${flags.toString(16)} pinned ${pinned} ${counts}`;
}

function describeInodes(context: Context): string[] {
  const { inodes, u32 } = context;
  const lines: string[] = [];
  for (let slot = 1; slot < u32[WORD.inodeBump]!; slot++)
    if (inodes.isUsed(slot)) lines.push(`inode ${inodes.get(slot, F.dentry) !== 0} ${ofInode(context, slot)}`);
  lines.push(`inodes ${u32[WORD.inodeCount]} names ${u32[WORD.dentryCount]} links ${u32[WORD.linkCount]}`);
  return lines.sort();
}

function describeHandles({ handles, u32 }: Context): string[] {
  const lines = [`handles ${u32[WORD.handleCount]}`];
  for (let handle = 1; handle < u32[WORD.handleBump]!; handle++)
    if (handles.isUsed(handle)) lines.push(`handle flags ${handles.get(handle, H.flags)}`);
  return lines;
}
