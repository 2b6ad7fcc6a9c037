/**
 * Who a branch belongs to: `.union/branch.json` in its root, {volumeId, branchId, generation}. A branch of another volume, or
 * another branch of this one, is refused: files would appear under the wrong tree, and writes would go to the wrong place.
 * Read-only branches have no record of ours; their identity is the claim's.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { UnionFsError } from '../errors.ts';

export interface Identity {
  readonly volumeId: string;
  readonly branchId: string;
  readonly generation: number;
}

/** Checks the record of the branch at `path`, and writes it where there is none and the branch is writable. */
export function claimBranch(branch: { id: string; path: string; mode: string }, volumeId: string): void {
  const file = `${branch.path}/.union/branch.json`;
  const found = readIdentity(file);
  if (found !== undefined) {
    if (found.volumeId === volumeId && found.branchId === branch.id) return;
    throw new UnionFsError(
      'FOREIGN_BRANCH',
      `branch ${branch.id} of volume ${volumeId}: the directory ${branch.path} belongs to branch ${found.branchId} of volume ${found.volumeId}; give each volume its own branches`,
    );
  }
  if (branch.mode === 'RO') return;
  try {
    mkdirSync(`${branch.path}/.union`, { mode: 0o700, recursive: true });
    const identity: Identity = { volumeId, branchId: branch.id, generation: 1 };
    const draft = openSync(`${file}.new`, 'w', 0o600);
    writeSync(draft, `${JSON.stringify(identity)}\n`);
    fsyncSync(draft);
    closeSync(draft);
    renameSync(`${file}.new`, file);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'EIO';
    throw new UnionFsError(
      code,
      `branch ${branch.id}: cannot write ${file}: ${code}; make the branch writable or give it mode RO`,
      {
        cause,
      },
    );
  }
}

/** What a branch's record says; undefined where there is none. Throws UnionFsError that names the file. */
export function readIdentity(file: string): Identity | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new UnionFsError(code ?? 'EIO', `cannot read ${file}: ${code}; the branch's filesystem may be damaged`, {
      cause,
    });
  }
  return parseIdentity(file, text);
}

/** The record in `text`. Throws UnionFsError that names the file it is from. */
export function parseIdentity(file: string, text: string): Identity {
  try {
    const value = JSON.parse(text) as Partial<Identity>;
    if (typeof value.volumeId === 'string' && typeof value.branchId === 'string')
      return { volumeId: value.volumeId, branchId: value.branchId, generation: value.generation ?? 1 };
  } catch {
    // Falls through to the one error for a record that says nothing.
  }
  throw new UnionFsError(
    'EIO',
    `${file} is not a branch record; move it away if the branch is known to belong to this volume`,
  );
}
