/** `/dev/fuse` and mount(2), without libfuse and without fusermount. Needs root. */
import { writeSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { UnionFsError } from '../errors.ts';
import { DEV_IOC_CLONE, NOTIFY_INVAL_INODE, OUT } from '../protocol/abi.ts';
import {
  AT_FDCWD,
  EINVAL,
  ENOENT,
  errnoName,
  MNT_DETACH,
  O_CLOEXEC,
  O_RDWR,
  UMOUNT_NOFOLLOW,
} from '../sys/constants.ts';
import * as libc from '../sys/libc.ts';

const DEVICE = '/dev/fuse';
export const FILESYSTEM_TYPE = 'fuse.union';
/** The type of filesystems that are one file (file/file-server.ts). */
const FILE_TYPE = 'fuse.union-block';
const MS_RDONLY = 1;
/** Flags of mount(2). */
const RESTRICTIONS = { nosuid: 2, nodev: 4, noexec: 8 } as const;
export type Restriction = keyof typeof RESTRICTIONS;
const MAX_ATTEMPTS = 50;

/** A new descriptor of /dev/fuse, owned by the caller: one connection, once it is mounted. */
export function openDevice(): number {
  const descriptor = libc.withCString(DEVICE, (path) => libc.openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0));
  if (descriptor >= 0) return descriptor;
  const code = errnoName(-descriptor);
  const remedy =
    descriptor === -ENOENT
      ? 'load the fuse module or pass the device into the container'
      : 'run as root, with the device permitted';
  throw new UnionFsError(code, `cannot open ${DEVICE}: ${code}; ${remedy}`);
}

/** More readers than this only pay off where branches are slow. */
const MAX_DEFAULT_READERS = 4;

/** One for each CPU, at most four. */
export function defaultReaders(): number {
  return Math.min(MAX_DEFAULT_READERS, availableParallelism());
}

/**
 * Further descriptors of a mounted connection, owned by the caller: each reader has a queue of its own. By default as many as
 * make `defaultReaders` of them.
 */
export function cloneDevice(device: number, readers = defaultReaders()): number[] {
  const clones: number[] = [];
  try {
    while (clones.length + 1 < readers) {
      const clone = openDevice();
      clones.push(clone);
      const result = libc.withWord(device, (address) => libc.ioctl(clone, DEV_IOC_CLONE, address));
      if (result < 0) {
        const code = errnoName(-result);
        throw new UnionFsError(code, `cannot clone a descriptor of ${DEVICE}: ${code}; it must be a mounted one`);
      }
    }
    return clones;
  } catch (error) {
    for (const clone of clones) libc.close(clone);
    throw error;
  }
}

export interface MountOptions {
  readonly deviceFd: number;
  readonly mountpoint: string;
  /** What /proc/mounts shows as the device. */
  readonly fsname: string;
  readonly readOnly: boolean;
  /** What is not to work through the union: without them branches must be trusted. */
  readonly restrictions?: readonly Restriction[];
  /** The root is a file, and so is the mountpoint. */
  readonly isFile?: boolean;
}

/** Mounts the connection. The server must read requests soon: whoever looks at the mountpoint waits for it. */
export function mountDevice(options: MountOptions): void {
  const { deviceFd, mountpoint, fsname, readOnly, restrictions = [], isFile = false } = options;
  const data = `fd=${deviceFd},rootmode=${isFile ? '100000' : '40000'},user_id=0,group_id=0,allow_other,default_permissions`;
  const flags = restrictions.reduce((all, name) => all | RESTRICTIONS[name], readOnly ? MS_RDONLY : 0);
  const result = libc.withCString(fsname, (source) =>
    libc.withCString(mountpoint, (target) =>
      libc.withCString(isFile ? FILE_TYPE : FILESYSTEM_TYPE, (type) =>
        libc.withCString(data, (text) => libc.mount(source, target, type, flags, text)),
      ),
    ),
  );
  if (result < 0) {
    const code = errnoName(-result);
    throw new UnionFsError(
      code,
      `cannot mount at ${mountpoint}: ${code}; it must be an existing ${isFile ? 'file' : 'directory'}, and the caller root`,
    );
  }
}

/**
 * Whether the filesystem of this connection still exists, as it does after an abort until it is unmounted: it has a root inode
 * to tell news of. Mountpoint, mount id and device number do not tell: the next mount may have got all of them.
 */
export function isMounted(device: number): boolean {
  const bytes = OUT.size + 24;
  const news = Buffer.alloc(bytes);
  news.writeUInt32LE(bytes, 0);
  news.writeInt32LE(NOTIFY_INVAL_INODE, 4);
  news.writeBigUInt64LE(1n, OUT.size);
  news.writeBigInt64LE(-1n, OUT.size + 8); // attributes only
  try {
    writeSync(device, news);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}

/** Unmounts what is mounted at `mountpoint`; true when something was. `lazy` detaches a busy mount from the tree. */
export function unmount(mountpoint: string, { lazy }: { readonly lazy: boolean }): boolean {
  const flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0);
  for (let attempt = 1; ; attempt++) {
    const result = libc.withCString(mountpoint, (target) => libc.umount2(target, flags));
    if (result >= 0) return true;
    if (result === -EINVAL || result === -ENOENT) return false;
    // Interrupted calls are repeated; a busy mount is the caller's to wait for.
    if (errnoName(-result) === 'EINTR' && attempt < MAX_ATTEMPTS) continue;
    throw new UnionFsError(errnoName(-result), `cannot unmount ${mountpoint}: ${errnoName(-result)}`);
  }
}
