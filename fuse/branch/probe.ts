/**
 * Looking at a branch to tell how it is. For a thread that may wait: a branch that hangs answers none of these calls.
 * A branch that was lost is opened anew by its path, and is the branch it was only if it says so: by its record
 * (branch/identity.ts), or, in a union without records, by the filesystem's id and the root's inode number.
 */
import { UnionFsError } from '../errors.ts';
import { STATX } from '../protocol/abi.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  EIO,
  ENOENT,
  EROFS,
  errnoName,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  STATX_WANTED,
  UTIME_NOW,
  UTIME_OMIT,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { OWN_DIRECTORY } from './branches.ts';
import type { Finding } from './health.ts';
import { parseIdentity } from './identity.ts';
import type { Fingerprint } from './table.ts';

export interface ProbedBranch {
  readonly id: string;
  readonly path: string;
  /** Descriptor of its root. */
  readonly root: number;
  readonly volumeId: string | undefined;
  /** What `fingerprintOf` said when the branch was opened first. */
  readonly fingerprint: Fingerprint | undefined;
}

const FINE: Finding = { kind: 'ok', message: '' };
const BUFFER_BYTES = 4096;
const STATX_MNT_ID = 0x1000;
/** stx_mnt_id, a word of struct statx. */
const MOUNT_ID = 144;

/** Reads what every branch has: its root, and the record in it. */
export function look({ root, path }: ProbedBranch): Finding {
  const copies = linksOf(root);
  if (copies < 0) return broken(`${path} cannot be looked at`, copies);
  if (copies === 0) return { kind: 'gone', message: `the directory ${path} was removed` };
  const listed = withName('.', (name) => {
    const directory = libc.openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (directory < 0) return directory;
    const bytes = withBuffer((buffer) => libc.getdents64(directory, buffer, BUFFER_BYTES));
    libc.close(directory);
    return bytes;
  });
  if (listed < 0) return broken(`${path} cannot be read`, listed);
  const record = readRecord(root);
  return typeof record === 'number' && record !== -ENOENT ? broken(`${path}/${RECORD} cannot be read`, record) : FINE;
}

/** Changes something that nobody sees: the time of `.union`. Not for a branch of mode RO. */
export function change({ root, path }: ProbedBranch): Finding {
  const result = withBuffer((times) => {
    const words = new Uint32Array(libc.viewOf(times, 32));
    words.fill(0);
    words[2] = UTIME_OMIT;
    words[6] = UTIME_NOW;
    return withName(OWN_DIRECTORY, (name) => {
      const set = libc.utimensat(root, name, times, AT_SYMLINK_NOFOLLOW);
      return set === -ENOENT ? libc.mkdirat(root, name, 0o700) : set;
    });
  });
  if (result === -EROFS)
    return { kind: 'read-only', message: `the filesystem of ${path} takes no changes; see the kernel's log for why` };
  return result === -EIO ? broken(`${path} cannot be written`, result) : FINE;
}

export interface Reopened {
  readonly finding: Finding;
  /** Where the branch is on another mount now: a new descriptor of its root, the caller's. */
  readonly root?: number;
}

/** Looks whether a branch that was lost is back. */
export function reopen(branch: ProbedBranch): Reopened {
  const { id, path } = branch;
  const root = withName(path, (name) => libc.openat(AT_FDCWD, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
  if (root < 0) return { finding: { kind: 'gone', message: `${path} cannot be opened: ${errnoName(-root)}` } };
  if (placeOf(root) === placeOf(branch.root)) {
    libc.close(root);
    return { finding: worst(look(branch), () => change(branch)) };
  }
  const again = { ...branch, root };
  const finding = worst(identify(again), () => worst(look(again), () => change(again)));
  if (finding.kind === 'ok' || finding.kind === 'read-only') return { finding, root };
  libc.close(root);
  return { finding: { ...finding, message: `branch ${id}: ${finding.message}` } };
}

/**
 * Opens a branch that another server had, if it is still that branch; else the descriptor is one of nothing, in whose place the branch
 * is opened when it is back. Memory that does not say what the branch was known by takes it by its path.
 */
export function openKnown(branch: Omit<ProbedBranch, 'root'>): { readonly root: number; readonly finding: Finding } {
  const { path, volumeId, fingerprint } = branch;
  const root = withName(path, (name) => libc.openat(AT_FDCWD, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
  const opened: Finding = root < 0 ? { kind: 'gone', message: `${path} cannot be opened: ${errnoName(-root)}` } : FINE;
  const isKnown = fingerprint !== undefined || volumeId !== undefined;
  const finding = isKnown ? worst(opened, () => identify({ ...branch, root })) : opened;
  if (finding.kind === 'ok') return { root, finding };
  if (root >= 0) libc.close(root);
  return { root: withName('/dev/null', (name) => libc.openat(AT_FDCWD, name, O_PATH | O_CLOEXEC, 0)), finding };
}

function worst(first: Finding, second: () => Finding): Finding {
  return first.kind === 'ok' ? second() : first;
}

/** Whether what is at a branch's path now is that branch. */
function identify({ id, path, root, volumeId, fingerprint }: ProbedBranch): Finding {
  if (volumeId === undefined) {
    const [found, expected] = [textOf(fingerprintOf(root)), textOf(fingerprint)];
    if (found === expected) return FINE;
    if (isMountpoint(root))
      return { kind: 'foreign', message: `${path} has filesystem ${found}; the branch's was ${expected}` };
    return { kind: 'gone', message: `nothing is mounted at ${path}` };
  }
  const record = readRecord(root);
  if (typeof record === 'number') {
    if (record !== -ENOENT) return broken(`${path}/${RECORD} cannot be read`, record);
    // A read-only branch never had one.
    if (fingerprint !== undefined && textOf(fingerprintOf(root)) === textOf(fingerprint)) return FINE;
    return { kind: 'gone', message: `${path} has no ${RECORD}; mount the branch there` };
  }
  try {
    const found = parseIdentity(`${path}/${RECORD}`, record);
    if (found.volumeId === volumeId && found.branchId === id) return FINE;
    const what = `${path} holds branch ${found.branchId} of volume ${found.volumeId}`;
    return { kind: 'foreign', message: `${what}; expected is branch ${id} of volume ${volumeId}` };
  } catch (error) {
    return { kind: 'foreign', message: error instanceof UnionFsError ? error.message : String(error) };
  }
}

/** Of the root behind a descriptor; undefined when it does not tell. */
export function fingerprintOf(root: number): Fingerprint | undefined {
  return withBuffer((buffer) => {
    const words = new Uint32Array(libc.viewOf(buffer, BUFFER_BYTES));
    if (libc.fstatfs(root, buffer) < 0) return undefined;
    const [low, high] = [words[14]!, words[15]!];
    return statRoot(root, buffer) < 0 ? undefined : [low, high, words[STATX.ino / 4]!];
  });
}

function textOf(fingerprint: Fingerprint | undefined): string {
  return fingerprint === undefined ? 'unknown' : `${hex(fingerprint[0])}${hex(fingerprint[1])}/${fingerprint[2]}`;
}

function hex(word: number): string {
  return word.toString(16).padStart(8, '0');
}

/** Mount and inode of a descriptor: equal for two that were opened by the same path, unless something was mounted between. */
function placeOf(root: number): string {
  return withBuffer((buffer) => {
    const words = new Uint32Array(libc.viewOf(buffer, BUFFER_BYTES));
    const failed = statRoot(root, buffer);
    return failed < 0 ? `${root}` : `${words[MOUNT_ID / 4]}/${words[STATX.ino / 4]}`;
  });
}

function isMountpoint(root: number): boolean {
  const above = withName('..', (name) => libc.openat(root, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
  if (above < 0) return true;
  const mountOf = (descriptor: number) => placeOf(descriptor).split('/')[0];
  const differs = mountOf(root) !== mountOf(above);
  libc.close(above);
  return differs;
}

/** Names that the root directory has, or a negated errno. */
function linksOf(root: number): number {
  return withBuffer((buffer) => {
    const failed = statRoot(root, buffer);
    return failed < 0 ? failed : new Uint32Array(libc.viewOf(buffer, BUFFER_BYTES))[STATX.nlink / 4]!;
  });
}

function statRoot(root: number, buffer: number): number {
  return withName('', (name) => libc.statx(root, name, AT_EMPTY_PATH, STATX_WANTED | STATX_MNT_ID, buffer));
}

const RECORD = `${OWN_DIRECTORY}/branch.json`;

/** The text of a branch's record, or a negated errno. */
function readRecord(root: number): string | number {
  const file = withName(RECORD, (name) => libc.openat(root, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0));
  if (file < 0) return file;
  const text = withBuffer((buffer) => {
    const bytes = libc.read(file, buffer, BUFFER_BYTES);
    return bytes < 0 ? bytes : Buffer.from(libc.viewOf(buffer, bytes)).toString();
  });
  libc.close(file);
  return text;
}

function broken(what: string, result: number): Finding {
  return { kind: 'failing', message: `${what}: ${errnoName(-result)}` };
}

const withName = libc.withCString;

function withBuffer<T>(use: (address: number) => T): T {
  const address = libc.malloc(BUFFER_BYTES);
  try {
    return use(address);
  } finally {
    libc.free(address);
  }
}
