/** Files of the model filesystem, and what changes in them: content, attributes, access control lists. */
import { type Acl, type Facts, type Kind, UMASK } from './operations.ts';

interface Attributes {
  readonly id: number;
  mode: number;
  uid: number;
  gid: number;
  /** Seconds, or undefined when nobody has set it since the last change. */
  mtime: number | undefined;
  acl: Acl | undefined;
  readonly xattrs: Map<string, string>;
}

export interface FileNode extends Attributes {
  readonly kind: 'file';
  bytes: Buffer;
  links: number;
  /** Made without a name: it may still be given one. */
  unnamed: boolean;
}

export interface DirectoryNode extends Attributes {
  readonly kind: 'directory';
  readonly children: Map<string, Node>;
  defaultAcl: Acl | undefined;
  /** By rmdir, or by a rename of another one to its place: somebody may have it open. */
  removed: boolean;
}

export interface LinkNode extends Attributes {
  readonly kind: 'link';
  readonly target: string;
  links: number;
}

export interface FifoNode extends Attributes {
  readonly kind: 'fifo';
  links: number;
}

export type Node = FileNode | DirectoryNode | LinkNode | FifoNode;

const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o010;

/** Attributes of what is made in a directory, asked for with all of `mode`'s bits. */
export function inherit(parent: DirectoryNode, id: number, kind: Kind, mode: number): Attributes {
  const isDirectory = kind === 'directory';
  const setgid = (parent.mode & S_ISGID) !== 0;
  const common = { id, uid: 0, gid: setgid ? parent.gid : 0, mtime: undefined, xattrs: new Map<string, string>() };
  const high = setgid && isDirectory ? S_ISGID : 0;
  const from = parent.defaultAcl;
  if (from === undefined || kind === 'link')
    return { ...common, mode: high | (kind === 'link' ? 0o777 : mode & ~UMASK), acl: undefined };
  const acl = {
    ...from,
    owner: from.owner & (mode >> 6),
    mask: from.mask & (mode >> 3),
    other: from.other & mode,
  };
  return { ...common, mode: high | modeOf(acl), acl };
}

function modeOf({ owner, mask, other }: Acl): number {
  return (owner << 6) | (mask << 3) | other;
}

export function setAcl(node: Node, acl: Acl): void {
  node.acl = acl;
  node.mode = (node.mode & ~0o777) | modeOf(acl);
}

export function changeMode(node: Node, mode: number): void {
  node.mode = mode;
  if (node.acl) node.acl = { ...node.acl, owner: (mode >> 6) & 7, mask: (mode >> 3) & 7, other: mode & 7 };
}

/** Also by root, what is no directory loses its set-id bits. */
export function changeOwner(node: Node, uid: number, gid: number): void {
  node.uid = uid;
  node.gid = gid;
  if (node.kind === 'directory') return;
  const kept = (node.mode & S_IXGRP) !== 0 ? ~(S_ISUID | S_ISGID) : ~S_ISUID;
  node.mode &= kept;
}

export function write(file: FileNode, offset: number, bytes: Buffer): void {
  if (bytes.length === 0) return; // and no longer, whatever the offset
  if (file.bytes.length < offset + bytes.length) resize(file, offset + bytes.length);
  bytes.copy(file.bytes, offset);
  file.mtime = undefined;
}

export function resize(file: FileNode, size: number): void {
  const bytes = Buffer.alloc(size);
  file.bytes.copy(bytes);
  file.bytes = bytes;
  file.mtime = undefined;
}

export function describeNode(node: Node): Facts {
  const { kind, mode, uid, gid, mtime } = node;
  const size = node.kind === 'file' ? node.bytes.length : node.kind === 'link' ? node.target.length : undefined;
  return {
    kind,
    mode,
    uid,
    gid,
    links: node.kind === 'directory' ? 2 + subdirectories(node) : node.links,
    ...(size !== undefined && { size }),
    id: String(node.id),
    ...(mtime !== undefined && { mtime }),
  };
}

function subdirectories(node: DirectoryNode): number {
  return [...node.children.values()].filter(({ kind }) => kind === 'directory').length;
}
