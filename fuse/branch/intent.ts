/**
 * The intent log: what is about to be renamed on more than one branch, written to one of them before the first rename and removed
 * after the last. After a crash in between, `finishIntents` completes it when the union is opened again: a directory is under
 * its old name on all branches or under its new one, and of a replaced file only the new one is left.
 *
 * An intent is a file `intent-….json` in a branch's `.union`. It names files by lower inode numbers as well, so that what was done
 * is told from what was not, and completing it twice is harmless. Names are bytes, in base64.
 */
import { closeSync, fsyncSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { UnionFsError } from '../errors.ts';
import {
  AT_REMOVEDIR,
  AT_SYMLINK_NOFOLLOW,
  ENOENT,
  errnoName,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  RENAME_EXCHANGE,
  STATX_WANTED,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';
import { type OpenBranch, OWN_DIRECTORY } from './branches.ts';

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
  | { readonly kind: 'remove'; readonly branch: string; readonly at: Place; readonly ino: string };

const PREFIX = 'intent-';

/** Writes an intent to a branch so that it survives a power failure. Returns its path, for `removeIntent`. Throws what fs throws. */
export function writeIntent(branch: OpenBranch, steps: readonly IntentStep[]): string {
  const own = join(branch.path, OWN_DIRECTORY);
  const path = join(own, `${PREFIX}${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}.json`);
  const draft = openSync(`${path}.new`, 'wx', 0o600);
  writeSync(draft, `${JSON.stringify(steps)}\n`);
  fsyncSync(draft);
  closeSync(draft);
  renameSync(`${path}.new`, path);
  syncDirectory(own);
  return path;
}

export function removeIntent(path: string): void {
  rmSync(path, { force: true });
}

function syncDirectory(path: string): void {
  const directory = openSync(path, 'r');
  fsyncSync(directory);
  closeSync(directory);
}

/** Completes what a crash interrupted. Throws UnionFsError that names the intent when that cannot be done. */
export function finishIntents(branches: readonly OpenBranch[]): void {
  for (const branch of branches) {
    if (branch.mode === 'RO') continue;
    const own = join(branch.path, OWN_DIRECTORY);
    for (const name of listNames(own)) {
      if (name.startsWith(PREFIX) && name.endsWith('.json')) finish(join(own, name), branches);
      else if (name.startsWith(PREFIX)) rmSync(join(own, name), { force: true });
    }
  }
}

function listNames(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // no directory of ours, no intents
  }
}

function finish(path: string, branches: readonly OpenBranch[]): void {
  const steps: IntentStep[] = JSON.parse(readFileSync(path, 'utf8'));
  for (const step of steps) {
    const branch = branches.find(({ id }) => id === step.branch);
    const result = branch === undefined ? -ENOENT : perform(branch, step);
    if (result >= 0) continue;
    const why = branch === undefined ? `branch ${step.branch} is missing` : errnoName(-result);
    throw new UnionFsError(
      'EIO',
      `cannot complete the rename that ${path} records: ${why}; mount the union with all its branches, writable`,
    );
  }
  rmSync(path);
}

/** One step, unless it was done before. Answers 0 or a negated errno. */
function perform(branch: OpenBranch, step: IntentStep): number {
  if (step.kind === 'remove') return at(branch, step.at, (directory, name) => removeIf(directory, name, step.ino));
  return at(branch, step.from, (from, fromName) =>
    at(branch, step.to, (to, toName) => {
      if (inodeAt(from, fromName) !== step.ino) return 0; // gone from there: done
      return libc.renameat2(from, fromName, to, toName, step.kind === 'exchange' ? RENAME_EXCHANGE : 0);
    }),
  );
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
