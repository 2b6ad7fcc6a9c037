/**
 * A program for tests: does the operations of operations.ts on a real filesystem, one for each message, and answers
 * `{ value }` or `{ code }`. A message tells which directory paths are relative to; what was open is closed then.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import {
  copyFileRange,
  FALLOC_KEEP_SIZE,
  FALLOC_PUNCH_HOLE,
  FALLOC_ZERO_RANGE,
  fallocate,
  getXattr,
  linkDescriptor,
  makeFifo,
  mapShared,
  nextEntries,
  O_TMPFILE,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  removeXattr,
  renameWith,
  seek,
  setXattr,
} from '../posix.ts';
import { encodeAcl, FILL, LINK_TARGET, type Listed, type OnHandle, type Operation, UMASK } from './operations.ts';
import { aclsOf, factsOf, listed, ownXattrs } from './reading.ts';

export type Question =
  | { readonly kind: 'do'; readonly operation: Operation }
  | { readonly kind: 'begin'; readonly root: string };
export type Answer = { readonly value: unknown } | { readonly code: string };

const ALLOCATE = {
  extend: 0,
  keep: FALLOC_KEEP_SIZE,
  punch: FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE,
  zero: FALLOC_ZERO_RANGE,
} as const;

let root = '';
/** Descriptors of files and of directories, by the asker's numbers. */
const handles = new Map<number, number>();
const listings = new Map<number, number>();

process.umask(UMASK);
process.on('message', (question: Question) => process.send!(answer(question)));

function answer(question: Question): Answer {
  try {
    if (question.kind === 'do') return { value: perform(question.operation) };
    root = question.root;
    for (const open of [handles, listings]) {
      for (const descriptor of open.values()) closeSync(descriptor);
      open.clear();
    }
    return { value: undefined };
  } catch (error) {
    return { code: (error as NodeJS.ErrnoException).code ?? String(error) };
  }
}

function perform(operation: Operation): unknown {
  switch (operation.op) {
    case 'open':
      return keep(handles, operation.handle, () => openSync(at(operation.path), operation.how, 0o666));
    case 'tmpfile':
      return keep(handles, operation.handle, () => openSync(at(operation.path), O_TMPFILE | constants.O_RDWR, 0o666));
    case 'opendir': {
      const flags = constants.O_RDONLY | constants.O_DIRECTORY;
      return keep(listings, operation.listing, () => openSync(at(operation.path), flags));
    }
    case 'list':
      return listNext(known(listings, operation.listing), operation.bytes);
    case 'rewind':
      return void seek(known(listings, operation.listing), 0, 0);
    case 'closedir':
      closeSync(known(listings, operation.listing));
      return void listings.delete(operation.listing);
    default:
      return 'handle' in operation ? onHandle(operation) : onPath(operation, at(operation.path));
  }
}

/** Nothing only at the end: a call may give no more than `.` and `..`. */
function listNext(descriptor: number, bytes: number): Listed[] {
  for (;;) {
    const entries = nextEntries(descriptor, bytes);
    const names = entries.filter(([name]) => name !== '.' && name !== '..');
    if (names.length > 0 || entries.length === 0) return names.map(([name, number]) => ({ name, id: String(number) }));
  }
}

function at(path: string): string {
  return path === '' ? root : `${root}/${path}`;
}

type OnPath = Extract<Operation, { path: string }>;

function onPath(operation: OnPath, path: string): unknown {
  switch (operation.op) {
    case 'mkdir':
      return mkdirSync(path);
    case 'fill':
      mkdirSync(path);
      for (const name of FILL) writeFileSync(`${path}/${name}`, '', { flag: 'wx' });
      return undefined;
    case 'create':
      return writeFileSync(path, operation.text, { flag: 'wx' });
    case 'symlink':
      return symlinkSync(LINK_TARGET, path);
    case 'mkfifo':
      return makeFifo(path, 0o666);
    case 'rmdir':
      return rmdirSync(path);
    case 'unlink':
      return unlinkSync(path);
    case 'rename':
      return renameSync(path, at(operation.to));
    case 'exchange':
      return renameWith(RENAME_EXCHANGE, path, at(operation.to));
    case 'noreplace':
      return renameWith(RENAME_NOREPLACE, path, at(operation.to));
    case 'link':
      return linkSync(path, at(operation.to));
    case 'truncate':
      return truncateSync(path, operation.size);
    case 'chmod':
      return chmodSync(path, operation.mode);
    case 'chown':
      return lchownSync(path, operation.uid, operation.gid);
    case 'utimes':
      return lutimesSync(path, operation.mtime, operation.mtime);
    default:
      return look(operation, path);
  }
}

function look(operation: OnPath, path: string): unknown {
  switch (operation.op) {
    case 'readdir':
      return listed(path);
    case 'lstat':
      return factsOf(lstatSync(path, { bigint: true }));
    case 'read':
      return readFileSync(path, 'utf8');
    case 'readlink':
      return readlinkSync(path);
    case 'listxattr':
      return ownXattrs(path);
    case 'getxattr':
      return getXattr(path, operation.name);
    case 'removexattr':
      return removeXattr(path, operation.name);
    case 'setxattr':
      return setXattr(path, operation.name, operation.text, operation.flags);
    case 'setacl':
      return setXattr(path, `system.posix_acl_${operation.which}`, encodeAcl(operation.acl).toString('latin1'));
    case 'getacl':
      return aclsOf(path);
    default:
      throw new Error(`unknown operation ${operation.op}`);
  }
}

function keep(open: Map<number, number>, key: number, make: () => number): void {
  if (open.has(key)) throw Object.assign(new Error(), { code: 'EBADF' });
  open.set(key, make());
}

function known(open: ReadonlyMap<number, number>, key: number): number {
  const descriptor = open.get(key);
  if (descriptor === undefined) throw Object.assign(new Error(), { code: 'EBADF' });
  return descriptor;
}

function onHandle(operation: OnHandle): unknown {
  const descriptor = known(handles, operation.handle);
  switch (operation.op) {
    case 'fread': {
      const buffer = Buffer.alloc(1 << 17);
      return buffer.toString('utf8', 0, readSync(descriptor, buffer, 0, buffer.length, 0));
    }
    case 'fstat':
      return factsOf(fstatSync(descriptor, { bigint: true }));
    case 'fsync':
      return fsyncSync(descriptor);
    case 'ftruncate':
      return ftruncateSync(descriptor, operation.size);
    case 'write':
      return void writeSync(descriptor, operation.text, operation.offset);
    case 'mapwrite':
      return mapWrite(descriptor, operation.offset, Buffer.from(operation.text));
    case 'fallocate':
      return fallocate(descriptor, ALLOCATE[operation.how], operation.offset, operation.size);
    case 'copy': {
      const { at: from, offset, size } = operation;
      return copyFileRange(known(handles, operation.from), descriptor, size, { at: from, offset });
    }
    case 'name':
      return linkDescriptor(descriptor, at(operation.to));
    case 'close':
      closeSync(descriptor);
      return void handles.delete(operation.handle);
  }
}

function mapWrite(descriptor: number, offset: number, bytes: Buffer): void {
  const size = fstatSync(descriptor).size;
  const mapping = mapShared(descriptor, size);
  try {
    const start = offset % size;
    mapping.bytes.set(bytes.subarray(0, size - start), start);
  } finally {
    mapping.unmap();
  }
}
