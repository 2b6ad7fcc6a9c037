/**
 * Takes the union's own records off a branch that is given back. Only what is known to be ours goes: files that were set
 * aside (`hidden-…`) are somebody's, and an intent that was not completed tells what to do with theirs.
 */
import { readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { UnionFsError } from '../errors.ts';
import { OWN_DIRECTORY } from './branches.ts';
import { readIdentity } from './identity.ts';

const IDENTITY = 'branch.json';
/** Links of files that were open without a name, drafts, and numbers, which can be told from those of others (inode/lost-numbers.ts). */
const OWN_FILES = /^(branch\.json\.new|numbers|open-\d+-\d+|intent-.*\.new|move-.*)$/;
const DRAFT_DIRECTORIES = /^dir-/;

/** The names in `.union` that stay. Throws UnionFsError when the branch is another union's. Nobody may serve the branch. */
export function releaseBranch(path: string, volumeId: string): readonly string[] {
  const own = join(path, OWN_DIRECTORY);
  const names = listNames(own);
  if (names === undefined) return [];
  const identity = readIdentity(join(own, IDENTITY));
  if (identity !== undefined && identity.volumeId !== volumeId) {
    const message = `${path} is a branch of union ${identity.volumeId}, not of ${volumeId}; its records stay`;
    throw new UnionFsError('EPERM', message);
  }
  for (const name of names) {
    if (OWN_FILES.test(name)) rmSync(join(own, name), { force: true });
    if (DRAFT_DIRECTORIES.test(name)) removeEmpty(join(own, name));
  }
  // Last: until then the branch is known to be ours, and this can be done again.
  rmSync(join(own, IDENTITY), { force: true });
  removeEmpty(own);
  return listNames(own) ?? [];
}

function listNames(directory: string): readonly string[] | undefined {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function removeEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST', 'ENOENT', 'ENOTDIR'].includes(codeOf(error))) throw error;
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}
