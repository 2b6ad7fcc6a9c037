/**
 * What can be asked of the model filesystem and of a real client alike. Paths are relative, handles and listings numbers of the
 * asker's choice. Answers are JSON.
 */

export type Operation =
  | Making
  | { readonly op: (typeof ON_PATH)[number]; readonly path: string }
  | { readonly op: 'rename' | 'exchange' | 'noreplace' | 'link'; readonly path: string; readonly to: string }
  | { readonly op: 'truncate'; readonly path: string; readonly size: number }
  | { readonly op: 'chmod'; readonly path: string; readonly mode: number }
  | { readonly op: 'chown'; readonly path: string; readonly uid: number; readonly gid: number }
  | { readonly op: 'utimes'; readonly path: string; readonly mtime: number }
  | {
      readonly op: 'setxattr';
      readonly path: string;
      readonly name: string;
      readonly text: string;
      readonly flags: 0 | 1 | 2;
    }
  | { readonly op: 'getxattr' | 'removexattr'; readonly path: string; readonly name: string }
  | { readonly op: 'setacl'; readonly path: string; readonly which: AclKind; readonly acl: Acl }
  | { readonly op: 'open'; readonly path: string; readonly handle: number; readonly how: OpenFlags }
  | { readonly op: 'tmpfile'; readonly path: string; readonly handle: number }
  | OnHandle
  | { readonly op: 'opendir'; readonly path: string; readonly listing: number }
  | { readonly op: 'list'; readonly listing: number; readonly bytes: number }
  | { readonly op: 'rewind' | 'closedir'; readonly listing: number };

export type Making =
  | { readonly op: (typeof MAKING)[number]; readonly path: string }
  | { readonly op: 'create'; readonly path: string; readonly text: string };

export type OnHandle =
  | { readonly op: 'fread' | 'fstat' | 'close' | 'fsync'; readonly handle: number }
  | { readonly op: 'write' | 'mapwrite'; readonly handle: number; readonly offset: number; readonly text: string }
  | { readonly op: 'ftruncate'; readonly handle: number; readonly size: number }
  | { readonly op: 'name'; readonly handle: number; readonly to: string }
  | {
      readonly op: 'fallocate';
      readonly handle: number;
      readonly how: Allocation;
      readonly offset: number;
      readonly size: number;
    }
  | {
      readonly op: 'copy';
      readonly handle: number;
      readonly from: number;
      readonly at: number;
      readonly offset: number;
      readonly size: number;
    };

/** What needs a path and nothing else, and a path that is new at best. */
export const ON_PATH = ['rmdir', 'unlink', 'readdir', 'lstat', 'read', 'readlink', 'listxattr', 'getacl'] as const;
export const MAKING = ['mkdir', 'symlink', 'mkfifo', 'fill'] as const;

export type OpenFlags = 'r' | 'r+' | 'w' | 'wx+' | 'a+';
export type Allocation = 'extend' | 'keep' | 'punch' | 'zero';
export type AclKind = 'access' | 'default';

/** Permission bits of the entries: a user, named, and the mask among them, so that the kernel cannot fold it into the mode. */
export interface Acl {
  readonly owner: number;
  readonly user: number;
  readonly group: number;
  readonly mask: number;
  readonly other: number;
}

/** What lstat tells. Times are whole seconds. */
export interface Facts {
  readonly kind: Kind;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  /** Of files and links. */
  readonly size?: number;
  /** Stands for the file: the model's number, or the inode number and time of birth. */
  readonly id: string;
  /** The model knows it only after it was set. */
  readonly mtime?: number;
}

export type Kind = 'file' | 'directory' | 'link' | 'fifo';

/** An entry of a directory. */
export interface Listed {
  readonly name: string;
  readonly id: string;
}

/** Leads nowhere, also when a file would be made there. */
export const LINK_TARGET = 'no/where';
/** What `fill` makes in its directory. */
export const FILL = Array.from({ length: 25 }, (_, index) => `f${index}`);
/** Masks what clients ask for, where no default ACL says otherwise. */
export const UMASK = 0o022;

/** POSIX ACLs in the form of the extended attributes (include/uapi/linux/posix_acl_xattr.h); the user is number 1. */
export function encodeAcl({ owner, user, group, mask, other }: Acl): Buffer {
  const none = 0xffff_ffff;
  const entries = [
    [1, owner, none],
    [2, user, 1],
    [4, group, none],
    [16, mask, none],
    [32, other, none],
  ] as const;
  const bytes = Buffer.alloc(4 + 8 * entries.length);
  bytes.writeUInt32LE(2, 0);
  for (const [index, [tag, bits, id]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + 8 * index);
    bytes.writeUInt16LE(bits, 6 + 8 * index);
    bytes.writeUInt32LE(id, 8 + 8 * index);
  }
  return bytes;
}

export function decodeAcl(bytes: Buffer): Acl {
  const bits = (entry: number) => bytes.readUInt16LE(6 + 8 * entry);
  return { owner: bits(0), user: bits(1), group: bits(2), mask: bits(3), other: bits(4) };
}
