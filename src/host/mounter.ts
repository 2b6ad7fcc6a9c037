/**
 * Bind mounts and unmounting, in this process's mount namespace.
 * Decisions are taken on /proc/self/mountinfo, which never waits for a filesystem; the one place where a mount is asked
 * itself is `probe`, from a process that can be killed, because a request to a union whose server hangs has no time limit.
 */
import { execFile } from 'node:child_process';
import type { Clock } from '../base/clock.ts';
import { UnionError } from '../base/errors.ts';
import { findHolders, formatHolders } from './holders.ts';
import { isWithin, type MountInfo, mountAt, readMountInfo } from './mountinfo.ts';
import {
  errnoCode,
  MNT_DETACH,
  MNT_FORCE,
  MS_BIND,
  MS_NODEV,
  MS_NOSUID,
  MS_RDONLY,
  MS_REMOUNT,
  mount,
  UMOUNT_NOFOLLOW,
  umount2,
} from './syscalls.ts';

/** The type that all mounts of ours have: fs type and subtype of mount(2). */
export const UNION_FS_TYPE = 'fuse.union';
/** Of the file that is an attached block volume. */
export const BLOCK_FS_TYPE = 'fuse.union-block';

/** The union mounted at `path` (on top of all else there), or undefined. */
export function unionAt(path: string, mounts: readonly MountInfo[] = readMountInfo()): MountInfo | undefined {
  const found = mountAt(path, mounts);
  return found?.fsType === UNION_FS_TYPE ? found : undefined;
}

/** Mounts of unions at or below a directory. */
export function unionsWithin(directory: string): readonly MountInfo[] {
  return readMountInfo().filter(
    ({ fsType, mountpoint }) => fsType === UNION_FS_TYPE && isWithin(mountpoint, directory),
  );
}

/** Makes `target`, an existing directory, show what `source` shows; read only in this place if asked. */
export async function bindMount(options: { source: string; target: string; readOnly: boolean }): Promise<void> {
  await mount(options.source, options.target, null, MS_BIND, null);
  if (!options.readOnly) return;
  try {
    // A bind takes its source's flags; only a second call can change them, and it must name again those that stay.
    const flags = mountAt(options.target)?.options ?? [];
    const kept = (flags.includes('nosuid') ? MS_NOSUID : 0) | (flags.includes('nodev') ? MS_NODEV : 0);
    await mount(null, options.target, null, MS_BIND | MS_REMOUNT | MS_RDONLY | kept, null);
  } catch (error) {
    await umount2(options.target, UMOUNT_NOFOLLOW);
    throw error;
  }
}

/** Unmounts the topmost mount at `path`. Nothing mounted there is ok; a busy one is EBUSY unless `lazy`. */
export async function unmountOnce(path: string, { lazy }: { lazy: boolean }): Promise<void> {
  try {
    await umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0));
  } catch (error) {
    const code = errnoCode(error);
    if (code !== 'EINVAL' && code !== 'ENOENT') throw error; // EINVAL: not a mountpoint
  }
}

/** Ends the connection of a FUSE mount: whatever waits for its server fails. It stays mounted while it is used. */
export async function abortConnection(path: string): Promise<void> {
  await umount2(path, UMOUNT_NOFOLLOW | MNT_FORCE).catch(() => {});
}

const BUSY_RETRY_MS = 100;
const BUSY_TRIES = 20;

/**
 * Unmounts everything at `path`, never lazily: success means that nobody uses it any more. While it is busy it is tried again
 * for about two seconds; then FAILED_PRECONDITION names who holds it.
 */
export async function unmountAll(path: string, clock: Clock, signal: AbortSignal): Promise<void> {
  for (let tries = 1; mountAt(path) !== undefined; ) {
    try {
      await unmountOnce(path, { lazy: false });
    } catch (error) {
      if (errnoCode(error) !== 'EBUSY') throw error;
      if (tries++ >= BUSY_TRIES) {
        const holders = formatHolders(findHolders(path));
        throw new UnionError('FAILED_PRECONDITION', `${path} is in use by ${holders}; end it, then unmount again`);
      }
      await clock.sleep(BUSY_RETRY_MS, signal);
    }
  }
}

/** What statfs(2) says, in bytes and inodes. */
export interface FilesystemUsage {
  readonly totalBytes: bigint;
  readonly availableBytes: bigint;
  readonly usedBytes: bigint;
  readonly totalInodes: bigint;
  readonly freeInodes: bigint;
}

export type Probe =
  | { readonly kind: 'alive'; readonly usage: FilesystemUsage }
  /** The server is gone and nobody holds the connection. */
  | { readonly kind: 'dead' }
  | { readonly kind: 'missing' };

const PROBE_LIMIT_MS = 5_000;
/** ENOTCONN, and ECONNABORTED for a request that was waiting when the server ended. */
const DEAD = ['Transport endpoint is not connected', 'Software caused connection abort'];

/** Asks the filesystem at `path` for its usage, at most for a few seconds; DEADLINE_EXCEEDED if it does not answer. */
export function probe(path: string, signal: AbortSignal): Promise<Probe> {
  const format = '%S %b %f %a %c %d';
  const options = {
    env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C' },
    timeout: PROBE_LIMIT_MS,
    killSignal: 'SIGKILL' as const,
    signal,
  };
  return new Promise((resolve, reject) => {
    execFile('stat', ['--file-system', `--format=${format}`, '--', path], options, (error, stdout, stderr) => {
      if (signal.aborted) reject(signal.reason);
      else if (error === null) resolve({ kind: 'alive', usage: parseUsage(stdout) });
      else if (DEAD.some((message) => stderr.includes(message))) resolve({ kind: 'dead' });
      else if (stderr.includes('No such file or directory')) resolve({ kind: 'missing' });
      else if (error.killed) {
        reject(
          new UnionError(
            'DEADLINE_EXCEEDED',
            `${path} did not answer within ${PROBE_LIMIT_MS} ms; is its server stuck?`,
          ),
        );
      } else {
        reject(new UnionError('INTERNAL', `cannot ask ${path} for its usage: ${stderr.trim() || error.message}`));
      }
    });
  });
}

function parseUsage(output: string): FilesystemUsage {
  const [blockSize = 0n, blocks = 0n, free = 0n, available = 0n, inodes = 0n, freeInodes = 0n] = output
    .trim()
    .split(' ')
    .map(BigInt);
  return {
    totalBytes: blocks * blockSize,
    availableBytes: available * blockSize,
    usedBytes: (blocks - free) * blockSize,
    totalInodes: inodes,
    freeInodes,
  };
}
