/**
 * The FUSE kernel ABI, 7.38 and up to 7.45: operation codes, flags, and byte offsets within request and reply bodies.
 * Source: include/uapi/linux/fuse.h, whose names are kept in comments. All offsets of requests count from the body (after
 * fuse_in_header), of replies from the body after fuse_out_header.
 */
export const FUSE_MAJOR = 7;
export const FUSE_MINOR = 45;

/** fuse_in_header: len, opcode, unique, nodeid, uid, gid, pid, total_extlen. */
export const IN = { length: 0, opcode: 4, unique: 8, node: 16, uid: 24, gid: 28, pid: 32, size: 40 } as const;
/** fuse_out_header: len, error, unique. */
export const OUT = { length: 0, error: 4, unique: 8, size: 16 } as const;

export const OP = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
} as const;
/** One more than the highest operation code that we know. */
export const OP_COUNT = 64;

/** INIT flags, low word. */
export const INIT = {
  ASYNC_READ: 1 << 0,
  BIG_WRITES: 1 << 5,
  DONT_MASK: 1 << 6,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  ASYNC_DIO: 1 << 15,
  PARALLEL_DIROPS: 1 << 18,
  POSIX_ACL: 1 << 20,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  HANDLE_KILLPRIV_V2: 1 << 28,
  SETXATTR_EXT: 1 << 29,
  INIT_EXT: 1 << 30,
} as const;
/** INIT flags, high word. */
export const INIT2 = { DIRECT_IO_ALLOW_MMAP: 1 << 4, PASSTHROUGH: 1 << 5 } as const;

/** fuse_init_in and fuse_init_out. */
export const INIT_IN = { major: 0, minor: 4, readahead: 8, flags: 12, flags2: 16 } as const;
export const INIT_OUT = {
  major: 0,
  minor: 4,
  readahead: 8,
  flags: 12,
  background: 16,
  congestion: 18,
  maxWrite: 20,
  timeGranularity: 24,
  maxPages: 28,
  flags2: 32,
  maxStackDepth: 36,
  size: 64,
} as const;

/** fuse_entry_out. */
export const ENTRY = {
  node: 0,
  generation: 8,
  entryValid: 16,
  attrValid: 24,
  entryValidNs: 32,
  attrValidNs: 36,
  attr: 40,
  size: 128,
} as const;
/** fuse_attr. */
export const ATTR_BYTES = 88;
/** fuse_attr_out: validity, then fuse_attr. */
export const ATTR_OUT = { valid: 0, validNs: 8, attr: 16, size: 104 } as const;
/** fuse_statx_in and fuse_statx_out; the latter ends with the kernel's own struct statx. */
export const STATX_OUT = { valid: 0, validNs: 8, flags: 12, stat: 32, size: 288 } as const;
/** fuse_open_out. */
export const OPEN_OUT = { handle: 0, flags: 8, backing: 12, size: 16 } as const;

export const FOPEN = {
  KEEP_CACHE: 1 << 1,
  CACHE_DIR: 1 << 3,
  NOFLUSH: 1 << 5,
  PARALLEL_DIRECT_WRITES: 1 << 6,
  PASSTHROUGH: 1 << 7,
} as const;
/** fuse_write_in.write_flags. */
export const WRITE_KILL_SUIDGID = 1 << 2;

/** fuse_setattr_in.valid. */
export const FATTR = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const;
/** fuse_setattr_in. */
export const SETATTR_IN = {
  valid: 0,
  handle: 8,
  size: 16,
  atime: 32,
  mtime: 40,
  atimeNs: 56,
  mtimeNs: 60,
  mode: 68,
  uid: 76,
  gid: 80,
} as const;

/** fuse_setxattr_in with SETXATTR_EXT. */
export const SETXATTR_IN = { size: 0, flags: 4, extFlags: 8, name: 16 } as const;
export const SETXATTR_ACL_KILL_SGID = 1;

/** ioctl numbers of /dev/fuse. */
export const DEV_IOC_CLONE = 0x8004e500;
export const DEV_IOC_BACKING_OPEN = 0x4010e501;
export const DEV_IOC_BACKING_CLOSE = 0x4004e502;

/** fuse_notify_code. */
export const NOTIFY_INVAL_INODE = 2;
export const NOTIFY_INVAL_ENTRY = 3;

/** fuse_dirent: ino, off, namelen, type, name. */
export const DIRENT = { ino: 0, offset: 8, nameLength: 16, type: 20, name: 24 } as const;

/** struct statx of the kernel. */
export const STATX = {
  mask: 0,
  blockSize: 4,
  attributes: 8,
  nlink: 16,
  uid: 20,
  gid: 24,
  mode: 28,
  ino: 32,
  size: 40,
  blocks: 48,
  atime: 64,
  btime: 80,
  ctime: 96,
  mtime: 112,
  rdevMajor: 128,
  rdevMinor: 132,
  devMajor: 136,
  devMinor: 140,
  bytes: 256,
} as const;

/** Size of a fuse_dirent with a name of this length. */
export function direntBytes(nameLength: number): number {
  return (DIRENT.name + nameLength + 7) & ~7;
}
