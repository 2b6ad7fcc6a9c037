/**
 * What is under `.union/` of branches (fuse/branch/, fuse/ops/parents.ts, fuse/ops/relocate.ts): `branch.json` says whom a branch
 * belongs to, `numbers` which inodes show another number; `dir-*`, `move-*` and `branch.json.new` are being made, `intent-*` tells
 * what is being done on several branches, `hidden-*` were moved out of the way.
 */
import { type Dirent, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { OWN_DIRECTORY, readIdentity } from '../../../fuse/index.ts';
import { messageOf } from '../../base/errors.ts';
import { errnoCode } from '../syscalls.ts';
import type { CheckedBranch, Finding } from './findings.ts';

/** Drafts live for milliseconds; what is this old was left behind. */
const DRAFT_LIMIT_MS = 60_000;
const RECORD = 'branch.json';
const NUMBERS = 'numbers';

export function* scanOwnDirectories(branches: readonly CheckedBranch[], now: number): Generator<Finding> {
  yield* compareIdentities(branches);
  for (const branch of branches) {
    const directory = join(branch.path, OWN_DIRECTORY);
    const entries = yield* entriesOf(directory);
    const isBegun = entries.some(({ name }) => isIntent(name));
    for (const entry of entries) {
      // What an intent is going to use.
      if (isBegun && entry.name.startsWith('move-')) continue;
      const lowerPath = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(entry.name, 'latin1')]);
      const finding = examine(branch, entry, lowerPath, now);
      if (finding !== undefined) yield finding;
    }
  }
}

function* entriesOf(directory: string): Generator<Finding, readonly Dirent[]> {
  try {
    return readdirSync(directory, { withFileTypes: true, encoding: 'latin1' });
  } catch (error) {
    if (errnoCode(error) !== 'ENOENT') {
      yield { kind: 'unreadable', lowerPath: Buffer.from(directory), message: messageOf(error) };
    }
    return [];
  }
}

function isIntent(name: string): boolean {
  return name.startsWith('intent-') && name.endsWith('.json');
}

function examine(branch: CheckedBranch, entry: Dirent, lowerPath: Buffer, now: number): Finding | undefined {
  if (entry.name === RECORD || entry.name === NUMBERS) return undefined;
  const stat = lstatSync(lowerPath, { throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  if (entry.name.startsWith('hidden-')) {
    return { kind: 'set-aside', lowerPath, bytes: stat.size, since: stat.ctime };
  }
  const isDirectory = entry.isDirectory();
  const isDraft = isDirectory ? entry.name.startsWith('dir-') && isEmpty(lowerPath) : isDraftFile(entry.name);
  if (!isDraft && !isIntent(entry.name)) return { kind: 'stranger', lowerPath };
  if (now - stat.ctimeMs < DRAFT_LIMIT_MS) return undefined;
  return isIntent(entry.name)
    ? { kind: 'intent', lowerPath, since: stat.mtime }
    : { kind: 'draft', branch, lowerPath, isDirectory };
}

function isDraftFile(name: string): boolean {
  return name === `${RECORD}.new` || name.startsWith('move-') || /^intent-.*\.new$/.test(name);
}

function isEmpty(directory: Buffer): boolean {
  return readdirSync(directory, { encoding: 'latin1' }).length === 0;
}

/** Branches without any record are those of `union-csi mount`; with some, all must be of one volume and each another branch. */
function* compareIdentities(branches: readonly CheckedBranch[]): Generator<Finding> {
  const owners = new Map<string, string>();
  const without: string[] = [];
  let volume: { readonly id: string; readonly of: string } | undefined;
  for (const { path } of branches) {
    try {
      const identity = readIdentity(join(path, OWN_DIRECTORY, RECORD));
      if (identity === undefined) {
        without.push(path);
        continue;
      }
      const { volumeId, branchId } = identity;
      volume ??= { id: volumeId, of: path };
      if (volumeId !== volume.id) {
        const message = `${path} belongs to volume ${volumeId}, ${volume.of} to volume ${volume.id}; they are no branches of one union`;
        yield { kind: 'identity', message };
      }
      const other = owners.get(`${volumeId}/${branchId}`);
      if (other !== undefined) {
        const message = `${path} and ${other} both say that they are branch ${branchId}; one is a copy of the other`;
        yield { kind: 'identity', message };
      }
      owners.set(`${volumeId}/${branchId}`, path);
    } catch (error) {
      yield { kind: 'identity', message: messageOf(error) };
    }
  }
  if (volume === undefined) return;
  for (const path of without) {
    const message = `${path} says of no volume that it belongs to it, ${volume.of} belongs to volume ${volume.id}; is it a branch of another union?`;
    yield { kind: 'identity', message };
  }
}
