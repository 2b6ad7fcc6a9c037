/**
 * The intent log: what is about to be done on more than one branch, written to one of them before the first step and removed
 * after the last. After a crash in between, `finishIntents` completes it when the union is opened again: a directory is under
 * its old name on all branches or under its new one, of a replaced file only the new one is left, and a file that was moving to
 * another branch (ops/relocate.ts) is there under all its names, and only there.
 *
 * An intent is a file `intent-….json` in a branch's `.union`. It names files by lower inode numbers as well, so that what was done
 * is told from what was not, and completing it twice is harmless. Names are bytes, in base64.
 */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { UnionFsError } from '../errors.ts';
import {
  AT_REMOVEDIR,
  AT_SYMLINK_NOFOLLOW,
  EEXIST,
  EIO,
  ENOENT,
  errnoName,
  isNoSpace,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  RENAME_EXCHANGE,
  STATX_WANTED,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { type OpenBranch, OWN_DIRECTORY } from './branches.ts';
import { recordNumbers } from './numbers.ts';

/** A place on a branch: names from its root down, in base64. */
export type Place = readonly string[];

export type IntentStep =
  /** The file `ino` goes from one place to another, where it may replace something. */
  | { readonly kind: 'move'; readonly branch: string; readonly from: Place; readonly to: Place; readonly ino: string }
  /** Two files change places. */
  | {
      readonly kind: 'exchange';
      readonly branch: string;
      readonly from: Place;
      readonly to: Place;
      readonly ino: string;
    }
  /** The file `ino`, which is replaced on another branch, goes. */
  | { readonly kind: 'remove'; readonly branch: string; readonly at: Place; readonly ino: string }
  /** The file `ino` gets another name. If it no longer has the first one, this was done. */
  | { readonly kind: 'link'; readonly branch: string; readonly from: Place; readonly to: Place; readonly ino: string }
  /** The lower inode `ino` shows this number from now on (branch/numbers.ts). */
  | { readonly kind: 'number'; readonly branch: string; readonly ino: string; readonly number: string };

const PREFIX = 'intent-';
/** Files that are being copied to a branch, until they have their names. */
export const DRAFT_PREFIX = 'move-';

/** Writes an intent to a branch so that it survives a power failure. Returns its path, for `removeIntent`. Throws what fs throws. */
export function writeIntent(branch: OpenBranch, steps: readonly IntentStep[]): string {
  const own = join(branch.path, OWN_DIRECTORY);
  mkdirSync(own, { recursive: true, mode: 0o700 });
  const path = join(own, `${PREFIX}${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}.json`);
  const draft = openSync(`${path}.new`, 'wx', 0o600);
  try {
    writeFileSync(draft, `${JSON.stringify(steps)}\n`);
    fsyncSync(draft);
    renameSync(`${path}.new`, path);
  } catch (error) {
    rmSync(`${path}.new`, { force: true }); // no space, most likely
    throw error;
  } finally {
    closeSync(draft);
  }
  syncDirectory(own);
  return path;
}

/** Also after a power failure it must not come again: files that are made later can have the same numbers. */
export function removeIntent(path: string): void {
  rmSync(path, { force: true });
  syncDirectory(dirname(path));
}

/** Intents of these branches that are not completed: paths. A branch that cannot be read has none to tell of. */
export function listIntents(branches: readonly Pick<OpenBranch, 'path'>[]): readonly string[] {
  return branches.flatMap(({ path }) => {
    const own = join(path, OWN_DIRECTORY);
    return listNames(own)
      .filter(isIntent)
      .map((name) => join(own, name));
  });
}

function isIntent(name: string): boolean {
  return name.startsWith(PREFIX) && name.endsWith('.json');
}

function syncDirectory(path: string): void {
  const directory = openSync(path, 'r');
  fsyncSync(directory);
  closeSync(directory);
}

/** Completes what a crash interrupted, and answers the steps. Throws UnionFsError that names the intent when that cannot be done. */
export function finishIntents(branches: readonly OpenBranch[]): readonly IntentStep[] {
  const finished: IntentStep[] = [];
  for (const branch of branches) {
    if (branch.mode === 'RO') continue;
    const own = join(branch.path, OWN_DIRECTORY);
    for (const name of listNames(own)) {
      if (isIntent(name)) finished.push(...finish(join(own, name), branches));
    }
    for (const name of listNames(own))
      if (name.startsWith(PREFIX) || name.startsWith(DRAFT_PREFIX)) rmSync(join(own, name), { force: true });
  }
  return finished;
}

function listNames(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // no directory of ours, no intents
  }
}

function finish(path: string, branches: readonly OpenBranch[]): readonly IntentStep[] {
  const steps: IntentStep[] = JSON.parse(readFileSync(path, 'utf8'));
  for (const step of steps) {
    const branch = branches.find(({ id }) => id === step.branch);
    const result = branch === undefined ? -ENOENT : performStep(branch, step);
    if (result >= 0) continue;
    const why = branch === undefined ? `branch ${step.branch} is missing` : errnoName(-result);
    throw new UnionFsError(
      'EIO',
      `cannot complete what ${path} records: ${why}; mount the union with all its branches, writable`,
    );
  }
  for (const step of steps) if (step.kind !== 'number') syncPlaces(branches, step);
  removeIntent(path);
  return steps;
}

/** One step, unless it was done before. Answers 0 or a negated errno. */
export function performStep(branch: OpenBranch, step: IntentStep): number {
  if (step.kind === 'remove') return at(branch, step.at, (directory, name) => removeIf(directory, name, step.ino));
  if (step.kind === 'link') return link(branch, step.from, step.to, step.ino);
  if (step.kind === 'number') return showNumber(branch, step.ino, step.number);
  return at(branch, step.from, (from, fromName) =>
    at(branch, step.to, (to, toName) => {
      if (inodeAt(from, fromName) !== step.ino) return 0; // gone from there: done
      return libc.renameat2(from, fromName, to, toName, step.kind === 'exchange' ? RENAME_EXCHANGE : 0);
    }),
  );
}

/** Nothing else may be under the new name, and a directory that is gone is an error: the file would be lost with its old name. */
function link(branch: OpenBranch, from: Place, to: Place, ino: string): number {
  return at(branch, from, (old, oldName) => {
    if (inodeAt(old, oldName) !== ino) return 0;
    let linked = -ENOENT;
    at(branch, to, (directory, name) => {
      linked = libc.linkat(old, oldName, directory, name, 0);
      if (linked === -EEXIST && inodeAt(directory, name) === ino) linked = 0;
      return linked;
    });
    return linked;
  });
}

/** A branch that is too full for sixteen bytes goes without: its inode's number may then be shown twice. */
function showNumber(branch: OpenBranch, ino: string, number: string): number {
  try {
    recordNumbers(branch, [{ ino: BigInt(ino), number: BigInt(number) }]);
    return 0;
  } catch (error) {
    const result = -Math.abs((error as NodeJS.ErrnoException).errno ?? EIO);
    return isNoSpace(result) ? 0 : result;
  }
}

/** Makes the names that a step changed survive a power failure. */
export function syncPlaces(branches: readonly OpenBranch[], step: Exclude<IntentStep, { kind: 'number' }>): void {
  const branch = branches.find(({ id }) => id === step.branch);
  if (branch === undefined) return;
  for (const place of step.kind === 'remove' ? [step.at] : [step.from, step.to])
    at(branch, place, (directory) => {
      const opened = libc.withCString('.', (dot) => libc.openat(directory, dot, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
      if (opened < 0) return opened;
      const result = libc.fsync(opened);
      libc.close(opened);
      return result;
    });
}

function removeIf(directory: number, name: number, ino: string): number {
  if (inodeAt(directory, name) !== ino) return 0;
  const removed = libc.unlinkat(directory, name, 0);
  return removed < 0 ? libc.unlinkat(directory, name, AT_REMOVEDIR) : removed;
}

/** Runs `use` with a descriptor of the place's directory and the address of its name. A directory that is gone is no place: 0. */
function at(branch: OpenBranch, place: Place, use: (directory: number, name: number) => number): number {
  const names = place.map((name) => Buffer.from(name, 'base64').toString('latin1'));
  let directory = libc.dup(branch.root);
  for (const name of names.slice(0, -1)) {
    const next = libc.withBytes(name, (address) =>
      libc.openat(directory, address, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0),
    );
    libc.close(directory);
    if (next < 0) return next === -ENOENT ? 0 : next;
    directory = next;
  }
  try {
    return libc.withBytes(names.at(-1) ?? '', (address) => use(directory, address));
  } finally {
    libc.close(directory);
  }
}

/** The inode number of a name as text, or undefined when there is none. */
function inodeAt(directory: number, name: number): string | undefined {
  const buffer = libc.malloc(256);
  try {
    if (libc.statx(directory, name, AT_SYMLINK_NOFOLLOW, STATX_WANTED, buffer) < 0) return undefined;
    return String(new BigUint64Array(libc.viewOf(buffer, 256))[4]);
  } finally {
    libc.free(buffer);
  }
}
