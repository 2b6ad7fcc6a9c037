/**
 * A volume whose replicas all live on this machine, or on one that shares its configuration directory: what `union-csi
 * block-serve` serves. Everything can be repeated: whoever comes first makes the volume, each replica makes its own directory.
 */
import { createHash, randomUUID } from 'node:crypto';
import { access, link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UnionError } from '../../base/errors.ts';
import type { Identity } from '../../block/recovery.ts';
import type { Geometry } from '../../block/superblock.ts';
import { type ReplicaId, toEpoch } from '../../block/units.ts';
import { errnoCode } from '../syscalls.ts';
import { ConfigRegister } from './config-register.ts';
import { createReplica, syncDirectory } from './replica-files.ts';

const VOLUME_FILE = 'volume.json';

interface VolumeFile {
  /** 32 hex digits. */
  readonly volume: string;
  readonly geometry: Geometry;
}

export interface LocalReplica {
  readonly identity: Identity;
  readonly files: string;
  readonly register: ConfigRegister;
}

/** Opens replica `id` of the volume, and makes what is not there yet; `geometry` is undefined where it must be there. */
export async function openLocalReplica(options: {
  readonly directory: string;
  readonly configDirectory: string;
  readonly id: ReplicaId;
  readonly members: readonly ReplicaId[];
  readonly geometry: Geometry | undefined;
}): Promise<LocalReplica> {
  const { directory, configDirectory, id, members } = options;
  const { volume, geometry } = await openVolume(configDirectory, options.geometry);
  const register = new ConfigRegister(configDirectory);
  // A conflict: another member has been first.
  await register.replace({ version: 1, epoch: toEpoch(0), primary: members[0]!, inSync: members, members });
  const config = await register.read();
  if (!config.members.includes(id)) {
    throw new UnionError(
      'INVALID_ARGUMENT',
      `${id} is not a member of the volume; members are ${config.members.join(', ')}`,
    );
  }
  // The same at each start, so that one replica's directory in another's place is noticed.
  const replica = createHash('sha256').update(`${volume}/${id}`).digest('hex').slice(0, 32);
  const identity: Identity = { volume, replica, geometry };
  const files = join(directory, 'replica');
  await mkdir(directory, { recursive: true });
  // Nobody has led yet: nothing was ever written. Later, a replica that is missing has lost what it had.
  if (!(await exists(files))) await createReplica(files, identity, config.epoch === 0n ? 'empty' : 'blank');
  return { identity, files, register };
}

async function openVolume(directory: string, geometry: Geometry | undefined): Promise<VolumeFile> {
  const path = join(directory, VOLUME_FILE);
  if (geometry !== undefined && !(await exists(path))) {
    await mkdir(directory, { recursive: true });
    const unfinished = join(directory, `unfinished-${randomUUID()}`);
    const file: VolumeFile = { volume: randomUUID().replaceAll('-', ''), geometry };
    await writeFile(unfinished, `${JSON.stringify(file)}\n`, { flush: true });
    await link(unfinished, path).catch((error: unknown) => {
      if (errnoCode(error) !== 'EEXIST') throw error;
    });
    await rm(unfinished);
    await syncDirectory(directory);
  }
  return JSON.parse(
    await readFile(path, 'utf8').catch(() => {
      throw new UnionError('NOT_FOUND', `there is no volume in ${directory}; give --size to make one`);
    }),
  );
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
