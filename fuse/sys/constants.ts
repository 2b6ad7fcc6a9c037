/**
 * Numbers of the Linux system-call interface that Node does not export.
 * Sources: include/uapi/linux/{fcntl,stat,fs,falloc,xattr}.h. Where architectures differ, Node's own constants are used.
 */
import { constants } from 'node:fs';
import { constants as osConstants } from 'node:os';

export const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_NOATIME, O_DIRECT } =
  constants;
export const O_ACCMODE = 3;
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;
export const O_TMPFILE = 0o20000000 | O_DIRECTORY;
export const O_NONBLOCK = 0o4000;

export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_EMPTY_PATH = 0x1000;
export const AT_STATX_DONT_SYNC = 0x4000;

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_IXGRP = 0o010;

/** Directory entry types, which are also `(mode & S_IFMT) >> 12`. */
export const DT_UNKNOWN = 0;
export const DT_DIR = 4;
export const DT_REG = 8;
export const DT_LNK = 10;

/** Of struct statx's attributes: who has one of these can neither be removed nor renamed. */
export const STATX_ATTR_IMMUTABLE = 0x10;
export const STATX_ATTR_APPEND = 0x20;
/** STATX_BASIC_STATS | STATX_BTIME. */
export const STATX_WANTED = 0xfff;
/** What a directory of the same name on another branch is probed for: type and birth time. */
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;
export const UTIME_NOW = 0x3fffffff;
export const UTIME_OMIT = 0x3ffffffe;
export const MNT_DETACH = 2;
export const UMOUNT_NOFOLLOW = 8;
export const CLONE_FS = 0x200;

const e = osConstants.errno;
export const EPERM = e.EPERM;
export const ENOENT = e.ENOENT;
export const EINTR = e.EINTR;
export const EIO = e.EIO;
export const EBADF = e.EBADF;
export const EAGAIN = e.EAGAIN;
export const ENOMEM = e.ENOMEM;
export const EACCES = e.EACCES;
export const EBUSY = e.EBUSY;
export const EMFILE = e.EMFILE;
export const EMLINK = e.EMLINK;
export const EEXIST = e.EEXIST;
export const EXDEV = e.EXDEV;
export const ENODEV = e.ENODEV;
export const ENOTDIR = e.ENOTDIR;
export const EISDIR = e.EISDIR;
export const EINVAL = e.EINVAL;
export const ENFILE = e.ENFILE;
export const ETXTBSY = e.ETXTBSY;
export const ENOSPC = e.ENOSPC;
export const EROFS = e.EROFS;
export const ERANGE = e.ERANGE;
export const ENAMETOOLONG = e.ENAMETOOLONG;
export const ENOSYS = e.ENOSYS;
export const ENOTEMPTY = e.ENOTEMPTY;
export const ENODATA = e.ENODATA;
export const EOPNOTSUPP = e.EOPNOTSUPP;
export const ESTALE = e.ESTALE;
export const ENXIO = e.ENXIO;
export const ENOTCONN = e.ENOTCONN;
export const ECONNABORTED = e.ECONNABORTED;
export const ETIMEDOUT = e.ETIMEDOUT;
/** EUCLEAN and ESHUTDOWN: what damaged filesystems say, and such that were shut down. */
export const EUCLEAN = 117;
export const ESHUTDOWN = 108;
export const EDQUOT = e.EDQUOT;

/** Whether a negated errno says that a branch is full, or its owner's share of it. */
export function isNoSpace(result: number): boolean {
  return result === -ENOSPC || result === -EDQUOT;
}

const ERROR_NAMES = new Map(Object.entries(e).map(([name, number]) => [number, name]));

/** The symbolic name of a positive errno, for messages. */
export function errnoName(errno: number): string {
  return ERROR_NAMES.get(errno) ?? `errno ${errno}`;
}
