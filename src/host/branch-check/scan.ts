/**
 * Looks through the branches of a union for what is wrong, without changing anything. It reads the branches themselves, so
 * that it works whether they are mounted as a union or not.
 * Names are handled as latin1, which keeps any bytes; memory is that of one directory of each depth.
 */
import { type Dirent, lstatSync, readdirSync, type Stats } from 'node:fs';
import { messageOf } from '../../base/errors.ts';
import { readXattrs } from '../xattrs.ts';
import type { CheckedBranch, Copy, Finding, Ownership } from './findings.ts';
import { scanOwnDirectories } from './own-directory.ts';

/** How much was looked at; grows with the scan. */
export interface ScanCount {
  directories: number;
  files: number;
}

/** Hidden at a branch's root (filesystem.md). */
const HIDDEN = ['.union', 'lost+found'];

/** `now`: milliseconds since the epoch. What is younger than a minute under `.union` may be at work. */
export function* scanBranches(branches: readonly CheckedBranch[], count: ScanCount, now: number): Generator<Finding> {
  yield* scanOwnDirectories(branches, now);
  yield* scanDirectory('', branches, count);
}

/** `path`: in the union, latin1, without a slash at the end; `branches`: those that have it as a directory, in order. */
function* scanDirectory(path: string, branches: readonly CheckedBranch[], count: ScanCount): Generator<Finding> {
  count.directories++;
  if (branches.length > 1) yield* compareCopies(path, branches);
  const names = new Map<string, Copy[]>();
  for (const branch of branches) {
    for (const entry of yield* entriesOf(branch, path)) {
      if (path === '' && HIDDEN.includes(entry.name)) continue;
      const copies = names.get(entry.name) ?? [];
      copies.push({ branch, type: typeOf(entry) });
      names.set(entry.name, copies);
    }
  }
  for (const [name, copies] of [...names].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const [shown] = copies as [Copy, ...Copy[]];
    const merged = shown.type === DIRECTORY ? copies.filter(({ type }) => type === DIRECTORY) : [shown];
    const hidden = copies.filter((copy) => !merged.includes(copy));
    if (hidden.length > 0) yield { kind: 'duplicate', path: displayed(`${path}/${name}`), shown, hidden };
    if (shown.type !== DIRECTORY) count.files++;
    else {
      yield* scanDirectory(
        `${path}/${name}`,
        merged.map(({ branch }) => branch),
        count,
      );
    }
  }
}

function* entriesOf(branch: CheckedBranch, path: string): Generator<Finding, readonly Dirent[]> {
  const lowerPath = lowerPathOf(branch, path);
  try {
    return readdirSync(lowerPath, { withFileTypes: true, encoding: 'latin1' });
  } catch (error) {
    yield { kind: 'unreadable', lowerPath, message: messageOf(error) };
    return [];
  }
}

/** Each copy of a directory with the first, whose attributes the union shows. Times are not compared: the latest shows. */
function* compareCopies(path: string, [first, ...others]: readonly CheckedBranch[]): Generator<Finding> {
  if (first === undefined) return;
  const original = yield* attributesOf(first, path);
  if (original === undefined) return;
  for (const branch of others) {
    const copy = yield* attributesOf(branch, path);
    if (copy === undefined) continue;
    const has = ownershipOf(copy.stat);
    const shown = ownershipOf(original.stat);
    const place = { path: displayed(path === '' ? '/' : path), branch };
    if (has.mode !== shown.mode || has.uid !== shown.uid || has.gid !== shown.gid) {
      yield { kind: 'ownership', ...place, lowerPath: lowerPathOf(branch, path), has, shown };
    }
    const names = differing(original.xattrs, copy.xattrs);
    if (names.length > 0) yield { kind: 'xattrs', ...place, names };
  }
}

interface Attributes {
  readonly stat: Stats;
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

function* attributesOf(branch: CheckedBranch, path: string): Generator<Finding, Attributes | undefined> {
  const lowerPath = lowerPathOf(branch, path);
  try {
    return { stat: lstatSync(lowerPath), xattrs: readXattrs(lowerPath) };
  } catch (error) {
    yield { kind: 'unreadable', lowerPath, message: messageOf(error) };
    return undefined;
  }
}

function differing(a: ReadonlyMap<string, Buffer>, b: ReadonlyMap<string, Buffer>): readonly string[] {
  const isSame = (name: string) => a.get(name)?.equals(b.get(name) ?? Buffer.from('\0none')) ?? false;
  return [...new Set([...a.keys(), ...b.keys()])].filter((name) => !isSame(name)).sort();
}

function ownershipOf({ mode, uid, gid }: Stats): Ownership {
  return { mode: mode & 0o7777, uid, gid };
}

const DIRECTORY = 'directory';

function typeOf(entry: Dirent): string {
  if (entry.isDirectory()) return DIRECTORY;
  if (entry.isFile()) return 'file';
  return entry.isSymbolicLink() ? 'link' : 'special file';
}

function lowerPathOf(branch: CheckedBranch, path: string): Buffer {
  return Buffer.concat([Buffer.from(branch.path), Buffer.from(path, 'latin1')]);
}

function displayed(path: string): string {
  return Buffer.from(path, 'latin1').toString();
}
