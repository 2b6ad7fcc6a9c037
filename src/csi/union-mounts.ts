/**
 * The mounts that NodeStage and NodePublish make, as steps that can be repeated. All looks are at mountinfo: who is mounted at a
 * path is told by file system type, source (the volume id) and device number, never by the directory's content.
 */
import { chmodSync, lstatSync, mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import { messageOf, UnionError } from '../base/errors.ts';
import { bindMount, probe, UNION_FS_TYPE, unmountAll, unmountOnce } from '../host/mounter.ts';
import { type MountInfo, mountAt } from '../host/mountinfo.ts';
import { realMountPath } from '../host/real-path.ts';
import { errnoCode } from '../host/syscalls.ts';

/** The volume's mount at `path`; undefined when nothing is mounted there; FAILED_PRECONDITION when it is something else. */
export function ownMount(path: string, volumeId: string): MountInfo | undefined {
  const real = realMountPath(path);
  const found = real === undefined ? undefined : mountAt(real);
  if (found === undefined) return undefined;
  if (found.fsType === UNION_FS_TYPE && found.source === volumeId) return found;
  const what = found.fsType === UNION_FS_TYPE ? `volume ${found.source}` : `${found.source} of type ${found.fsType}`;
  throw new UnionError(
    'FAILED_PRECONDITION',
    `${path} is not volume ${volumeId}'s: ${what} is mounted there; unmount it first`,
  );
}

/** Whoever keeps a mount alive without serving it (custodian.ts). */
export interface Holder {
  /** `device`: `major:minor` of a mount. */
  isHolding(device: string): boolean;
}

/**
 * True when a mount of ours answers or will, false when it is dead for good. One that is held is not asked: while no server lives
 * it would not answer. DEADLINE_EXCEEDED when it hangs.
 */
export async function isAlive(
  { mountpoint, device }: MountInfo,
  holder: Holder,
  signal: AbortSignal,
): Promise<boolean> {
  return holder.isHolding(device) || (await probe(mountpoint, signal)).kind === 'alive';
}

/** Takes a mount away that answers nothing but ENOTCONN: nobody loses anything, so it need not be free. */
export async function removeDead(path: string, volumeId: string): Promise<void> {
  while (ownMount(path, volumeId) !== undefined) await unmountOnce(path, { lazy: true });
}

/**
 * The staging directory while nothing is mounted on it: empty, and closed to everyone but root, so that a pod that gets hold of
 * it by mistake does not write to the node's own disk.
 */
export function prepareStagingDirectory(path: string): void {
  makeEmptyDirectory(path, 'staging path');
  chmodSync(path, 0o000);
}

export function prepareTarget(path: string): void {
  makeEmptyDirectory(path, 'target path');
}

function makeEmptyDirectory(path: string, what: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o750 });
  } catch (error) {
    const hint =
      errnoCode(error) === 'EEXIST' || errnoCode(error) === 'ENOTDIR' ? 'it is not a directory' : messageOf(error);
    throw new UnionError('FAILED_PRECONDITION', `${what} ${path} cannot be mounted on: ${hint}; remove it`);
  }
  if (!lstatSync(path).isDirectory()) {
    throw new UnionError(
      'FAILED_PRECONDITION',
      `${what} ${path} cannot be mounted on: it is not a directory; remove it`,
    );
  }
  const [first] = readdirSync(path);
  if (first !== undefined) {
    const message = `${what} ${path} is not empty (${first}), and mounting would hide what is in it; move it away`;
    throw new UnionError('FAILED_PRECONDITION', message);
  }
}

/** Shows the staged volume at `target`, and makes sure that it is the volume and not the node's own disk. */
export async function bindStaged(options: {
  volumeId: string;
  staged: MountInfo;
  stagingPath: string;
  target: string;
  readOnly: boolean;
}): Promise<void> {
  const { volumeId, staged, stagingPath, target, readOnly } = options;
  await bindMount({ source: stagingPath, target, readOnly });
  const real = realMountPath(target);
  const bound = real === undefined ? undefined : mountAt(real);
  if (bound?.fsType === UNION_FS_TYPE && bound.device === staged.device) return;
  await unmountOnce(target, { lazy: true });
  const message = `volume ${volumeId} went away from ${stagingPath} while it was being published; repeat the call`;
  throw new UnionError('UNAVAILABLE', message);
}

/** Unmounts all of the volume's mounts at `path`, and removes the directory, which must be empty then. Nothing there is ok. */
export async function unmountAndRemove(
  path: string,
  volumeId: string,
  { clock, custodian }: { readonly clock: Clock; readonly custodian: Holder },
  signal: AbortSignal,
): Promise<void> {
  for (let mount = ownMount(path, volumeId); mount !== undefined; mount = ownMount(path, volumeId)) {
    if (await isAlive(mount, custodian, signal)) await unmountAll(realMountPath(path) ?? path, clock, signal);
    else await removeDead(path, volumeId);
  }
  try {
    rmdirSync(path);
  } catch (error) {
    const code = errnoCode(error);
    if (code === 'ENOENT') return;
    const hint =
      code === 'ENOTEMPTY' ? 'it holds files of the node itself; look at them and move them away' : messageOf(error);
    throw new UnionError('FAILED_PRECONDITION', `cannot remove ${path}: ${hint}`);
  }
}
