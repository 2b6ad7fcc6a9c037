/**
 * Whether a pool's directory is on the disk that it was on. One that is not mounted leaves an empty directory behind, in which all replicas
 * would be made anew, while those that count lie on the disk. So a file in the directory has an id, which the BlockPool's status has, too.
 */
import { randomUUID } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UnionError } from '../../base/errors.ts';
import { syncDirectory } from '../../host/block/replica-files.ts';
import { errnoCode } from '../../host/syscalls.ts';
import type { BlockPool } from '../../protocol/block-resources.ts';

const FILE = '.block-pool';

/** Fails with FAILED_PRECONDITION when the BlockPool tells of another disk than the directory. One that tells of none is content with any. */
export async function expectDisk(directory: string, pool: BlockPool | undefined): Promise<void> {
  const expected = pool?.status?.diskId;
  if (pool === undefined || expected === undefined) return;
  const found = await diskIn(directory);
  if (found === expected) return;
  const { name } = pool.metadata;
  const what =
    found === undefined ? 'is not on the disk that it was on, which may not be mounted' : `has the disk ${found}`;
  throw new UnionError(
    'FAILED_PRECONDITION',
    `${directory} ${what}: bring back the disk ${expected}, or, if it is gone for good, delete BlockPool ${name} and its replicas are made anew`,
  );
}

/** The id of the directory's disk, which gets one if it has none. */
export async function identifyDisk(directory: string): Promise<string> {
  const found = await diskIn(directory);
  if (found !== undefined) return found;
  const id = randomUUID();
  const unfinished = join(directory, `${FILE}.new`);
  await writeFile(unfinished, `${id}\n`, { mode: 0o600, flush: true });
  await rename(unfinished, join(directory, FILE));
  await syncDirectory(directory);
  return id;
}

async function diskIn(directory: string): Promise<string | undefined> {
  try {
    return (await readFile(join(directory, FILE), 'utf8')).trim();
  } catch (error) {
    if (errnoCode(error) !== 'ENOENT') throw error;
    return undefined;
  }
}
