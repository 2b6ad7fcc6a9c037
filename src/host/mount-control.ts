/**
 * The control socket of a union that `union-csi mount` serves: where it is, and asking it.
 *
 * It lies in /run/union-csi under the device number of the mount, which mountinfo tells without asking the mount, and the
 * server's pid: the kernel gives the number of an unmounted union to the next one, whose server may start while the
 * old one is still ending. Whoever has just mounted a device owns its number: other sockets of it are stale.
 */
import { mkdirSync, readdirSync, realpathSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, UnionError } from '../base/errors.ts';
import {
  type MountControlRequest,
  type MountStatus,
  parseMountStatus,
  parseRemovalProgress,
  type RemovalProgress,
} from '../protocol/mount-control.ts';
import { parseAcknowledgement } from '../protocol/server-control.ts';
import { callDescriptorServer } from './descriptor-client.ts';
import { UNION_FS_TYPE, unionAt } from './mounter.ts';
import { type MountInfo, mountOf } from './mountinfo.ts';
import { realMountPath } from './real-path.ts';
import { errnoCode } from './syscalls.ts';

const DIRECTORY = '/run/union-csi';

/** Where this process is to listen for the union of a device, `major:minor`; removes what earlier servers left there. */
export function prepareControlSocket(device: string): string {
  mkdirSync(DIRECTORY, { recursive: true, mode: 0o700 });
  removeControlSockets(device);
  return join(DIRECTORY, `${device}-${process.pid}.sock`);
}

/** For a device whose server is known to be gone. */
export function removeControlSockets(device: string): void {
  for (const path of controlSockets(device)) rmSync(path, { force: true });
}

/** The mounted union that `path` is in; asks nothing of the union where `path` is its mountpoint. */
export function findUnion(path: string): MountInfo {
  const written = realMountPath(path);
  const mount = (written === undefined ? undefined : unionAt(written)) ?? mountOf(realpathSync(path));
  if (mount?.fsType === UNION_FS_TYPE) return mount;
  throw new UnionError('NOT_FOUND', `no union is mounted at ${path}`);
}

/** The answer to a request that has nothing but yes for an answer; throws what the server says otherwise. */
export async function tellMount(mount: MountInfo, request: MountControlRequest, signal: AbortSignal): Promise<void> {
  const answer = parseAcknowledgement(await ask(mount, request, signal));
  if (!answer.ok) throw new Error(answer.error.message);
}

export async function askMountStatus(mount: MountInfo, signal: AbortSignal): Promise<MountStatus> {
  const answer = await ask(mount, { op: 'status' }, signal);
  const failure = parseAcknowledgement(answer);
  if (!failure.ok) throw new Error(failure.error.message);
  const status = parseMountStatus(answer);
  if (status !== undefined) return status;
  throw new UnionError('INTERNAL', `the server of ${mount.mountpoint} is of another version; mount it again`);
}

/** Begins to remove a branch, or keeps that going, and tells how far it is. */
export async function askRemoval(mount: MountInfo, path: string, signal: AbortSignal): Promise<RemovalProgress> {
  const answer = await ask(mount, { op: 'branch.remove', path }, signal);
  const failure = parseAcknowledgement(answer);
  if (!failure.ok) throw new Error(failure.error.message);
  const progress = parseRemovalProgress(answer);
  if (progress !== undefined) return progress;
  throw new UnionError('INTERNAL', `the server of ${mount.mountpoint} is of another version; mount it again`);
}

const ANSWER_LIMIT_MS = 5_000;

async function ask(mount: MountInfo, message: MountControlRequest, signal: AbortSignal): Promise<unknown> {
  const { mountpoint, device } = mount;
  const path = newest(controlSockets(device));
  if (path === undefined) {
    throw new UnionError(
      'NOT_FOUND',
      `the server of ${mountpoint} has no control socket in ${DIRECTORY}: it was not mounted by union-csi mount, or in another container`,
    );
  }
  const limit = AbortSignal.timeout(ANSWER_LIMIT_MS);
  try {
    return await callDescriptorServer({ path, message }, AbortSignal.any([signal, limit]));
  } catch (error) {
    if (limit.aborted && !signal.aborted) {
      throw new UnionError(
        'DEADLINE_EXCEEDED',
        `the server of ${mountpoint} did not answer within ${ANSWER_LIMIT_MS} ms; does one of its branches hang?`,
      );
    }
    throw error;
  }
}

function controlSockets(device: string): readonly string[] {
  try {
    return readdirSync(DIRECTORY)
      .filter((name) => name.startsWith(`${device}-`))
      .map((name) => join(DIRECTORY, name));
  } catch (error) {
    if (errnoCode(error) === 'ENOENT') return [];
    if (errnoCode(error) === 'EACCES') throw new Error('asking the server of a union needs root; run it with sudo');
    throw new Error(`cannot look for control sockets: ${messageOf(error)}`);
  }
}

function newest(paths: readonly string[]): string | undefined {
  const age = (path: string) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return paths.toSorted((a, b) => age(b) - age(a))[0];
}
