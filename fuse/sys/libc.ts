/**
 * System calls by descriptor, through koffi. Every function answers a value ≥ 0 or a negated errno.
 * Pointers are plain numbers (addresses of memory that we mapped ourselves, see memory.ts): a call allocates nothing and
 * costs about 0.2 µs above the system call itself.
 */
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');

type Call = (...args: number[]) => number;

function declare(signature: string): Call {
  const call = libc.func(signature) as Call;
  const errno = koffi.errno;
  // One closure per arity keeps the calls monomorphic; a rest parameter would allocate an array for each call.
  switch (signature.slice(signature.indexOf('(')).split(',').length) {
    case 1:
      return (a) => {
        const result = call(a!);
        return result < 0 ? -errno() : result;
      };
    case 2:
      return (a, b) => {
        const result = call(a!, b!);
        return result < 0 ? -errno() : result;
      };
    case 3:
      return (a, b, c) => {
        const result = call(a!, b!, c!);
        return result < 0 ? -errno() : result;
      };
    case 4:
      return (a, b, c, d) => {
        const result = call(a!, b!, c!, d!);
        return result < 0 ? -errno() : result;
      };
    case 5:
      return (a, b, c, d, e) => {
        const result = call(a!, b!, c!, d!, e!);
        return result < 0 ? -errno() : result;
      };
    default:
      return (a, b, c, d, e, f) => {
        const result = call(a!, b!, c!, d!, e!, f!);
        return result < 0 ? -errno() : result;
      };
  }
}

/** (fd, buffer, size) */
export const read = declare('long read(int, uintptr_t, size_t)');
/** (fd, buffer, size) */
export const write = declare('long write(int, uintptr_t, size_t)');
/** (fd, buffer, size, offset) */
export const pread = declare('long pread(int, uintptr_t, size_t, int64_t)');
/** (fd, buffer, size, offset) */
export const pwrite = declare('long pwrite(int, uintptr_t, size_t, int64_t)');
/** (directory, name, flags, mode) */
export const openat = declare('int openat(int, uintptr_t, int, uint32_t)');
export const close = declare('int close(int)');
export const dup = declare('int dup(int)');
/** (fd, number that becomes a duplicate of it, O_CLOEXEC): what the number meant before is closed in the same moment. */
export const dup3 = declare('int dup3(int, int, int)');
/** (directory, name, flags, mask, buffer of 256 bytes) */
export const statx = declare('int statx(int, uintptr_t, int, uint32_t, uintptr_t)');
/** (directory, name, mode) */
export const mkdirat = declare('int mkdirat(int, uintptr_t, uint32_t)');
/** (directory, name, mode, device) */
export const mknodat = declare('int mknodat(int, uintptr_t, uint32_t, uint64_t)');
/** (directory, name, flags) */
export const unlinkat = declare('int unlinkat(int, uintptr_t, int)');
/** (target, directory, name) */
export const symlinkat = declare('int symlinkat(uintptr_t, int, uintptr_t)');
/** (old directory, old name, new directory, new name, flags) */
export const linkat = declare('int linkat(int, uintptr_t, int, uintptr_t, int)');
/** (old directory, old name, new directory, new name, flags) */
export const renameat2 = declare('int renameat2(int, uintptr_t, int, uintptr_t, uint32_t)');
/** (directory, name, buffer, size) */
export const readlinkat = declare('long readlinkat(int, uintptr_t, uintptr_t, size_t)');
/** (path, mode); follows links: only for /proc/self/fd paths */
export const chmod = declare('int chmod(uintptr_t, uint32_t)');
const syscall4 = declare('long syscall(long, int, uintptr_t, uint32_t, int)');
const SYS_FCHMODAT2 = 452;
/** (directory, name, mode, flags): since Linux 6.6, and not in every libc; ENOSYS before. Its number is the same on all machines. */
export const fchmodat2 = (directory: number, name: number, mode: number, flags: number) =>
  syscall4(SYS_FCHMODAT2, directory, name, mode, flags);
/** (directory, name, uid, gid, flags) */
export const fchownat = declare('int fchownat(int, uintptr_t, uint32_t, uint32_t, int)');
/** (directory, name, two timespecs, flags) */
export const utimensat = declare('int utimensat(int, uintptr_t, uintptr_t, int)');
/** (fd, uid, gid) */
export const fchown = declare('int fchown(int, uint32_t, uint32_t)');
/** (fd, mode) */
export const fchmod = declare('int fchmod(int, uint32_t)');
/** (fd, two timespecs) */
export const futimens = declare('int futimens(int, uintptr_t)');
export const ftruncate = declare('int ftruncate(int, int64_t)');
export const fsync = declare('int fsync(int)');
export const fdatasync = declare('int fdatasync(int)');
export const syncfs = declare('int syncfs(int)');
/** (fd, mode, offset, length) */
export const fallocate = declare('int fallocate(int, int, int64_t, int64_t)');
/** (fd, offset, whence) */
export const lseek = declare('int64_t lseek(int, int64_t, int)');
/** (fd in, pointer to offset, fd out, pointer to offset, length, flags) */
export const copyFileRange = declare('long copy_file_range(int, uintptr_t, int, uintptr_t, size_t, uint32_t)');
/** (fd, buffer, size) */
export const getdents64 = declare('long getdents64(int, uintptr_t, size_t)');
/** (fd, buffer of 120 bytes) */
export const fstatfs = declare('int fstatfs(int, uintptr_t)');
/** (path, name, value, size, flags) */
export const lsetxattr = declare('int lsetxattr(uintptr_t, uintptr_t, uintptr_t, size_t, int)');
/** (path, name, value, size) */
export const lgetxattr = declare('long lgetxattr(uintptr_t, uintptr_t, uintptr_t, size_t)');
/** (path, list, size) */
export const llistxattr = declare('long llistxattr(uintptr_t, uintptr_t, size_t)');
/** (path, name) */
export const lremovexattr = declare('int lremovexattr(uintptr_t, uintptr_t)');
/** Follows links: only for /proc/self/fd paths. */
export const setxattr = declare('int setxattr(uintptr_t, uintptr_t, uintptr_t, size_t, int)');
export const getxattr = declare('long getxattr(uintptr_t, uintptr_t, uintptr_t, size_t)');
export const listxattr = declare('long listxattr(uintptr_t, uintptr_t, size_t)');
export const removexattr = declare('int removexattr(uintptr_t, uintptr_t)');
/** (fd, request, argument) */
export const ioctl = declare('int ioctl(int, unsigned long, uintptr_t)');
/** (source, target, type, flags, data) */
export const mount = declare('int mount(uintptr_t, uintptr_t, uintptr_t, unsigned long, uintptr_t)');
/** (target, flags) */
export const umount2 = declare('int umount2(uintptr_t, int)');
/** (name, flags) */
export const memfdCreate = declare('int memfd_create(uintptr_t, uint32_t)');
/** (address, length, advice) */
export const madvise = declare('int madvise(uintptr_t, size_t, int)');
/** (address, length) */
export const munmap = declare('int munmap(uintptr_t, size_t)');
/** (flags): for this thread only */
export const unshare = declare('int unshare(int)');
/** (option, argument, 0, 0, 0) */
export const prctl = declare('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)');
/** Of a set of CPUs: 1024 of them. */
export const CPU_SET_BYTES = 128;
/** (pid or 0, size, mask) */
export const schedSetaffinity = declare('int sched_setaffinity(int, size_t, uintptr_t)');
/** (pid or 0, size, mask): answers 0, other than the system call does */
export const schedGetaffinity = declare('int sched_getaffinity(int, size_t, uintptr_t)');

/** (thread or 0) */
export const schedGetscheduler = declare('int sched_getscheduler(int)');
/** (thread or 0, policy, a priority's address) */
export const schedSetscheduler = declare('int sched_setscheduler(int, int, uintptr_t)');

/** These cannot fail, and answer the old value; of the calling thread only. */
export const umask = libc.func('uint32_t umask(uint32_t)') as (mask: number) => number;
export const setfsuid = libc.func('int setfsuid(uint32_t)') as (uid: number) => number;
export const setfsgid = libc.func('int setfsgid(uint32_t)') as (gid: number) => number;
/** (microseconds) */
export const usleep = libc.func('int usleep(uint32_t)') as (microseconds: number) => number;
export const schedYield = libc.func('int sched_yield()') as () => number;
/** Plain memory of the process, shared by its threads: for buffers that outlive a request. Answers 0 when there is none. */
export const malloc = libc.func('uintptr_t malloc(size_t)') as (size: number) => number;
export const free = libc.func('void free(uintptr_t)') as (address: number) => void;
export const memcpy = libc.func('uintptr_t memcpy(uintptr_t, uintptr_t, size_t)') as (
  target: number,
  source: number,
  size: number,
) => number;
const mmapRaw = libc.func('intptr_t mmap(uintptr_t, size_t, int, int, int, int64_t)') as Call;

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;

/**
 * Memory of which no page is ever read-only, not even for a moment: private memory is, for whoever writes first, when the process has
 * started another one. Answers the address or a negated errno.
 */
export function mmapAnonymous(size: number): number {
  const address = mmapRaw(0, size, PROT_READ_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return address === -1 ? -koffi.errno() : address;
}

/** Maps `size` bytes of `fd` from its start, shared. Answers the address or a negated errno. */
export function mmapShared(fd: number, size: number): number {
  const address = mmapRaw(0, size, PROT_READ_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  return address === -1 ? -koffi.errno() : address;
}

/** The bytes at `address` as an ArrayBuffer that stays valid as long as the mapping. */
export function viewOf(address: number, size: number): ArrayBuffer {
  return koffi.view(address, size) as ArrayBuffer;
}

/** Runs `use` with the address of a NUL-terminated copy of `text`. For rare calls: it allocates. The address is valid within `use` only. */
export function withCString<T>(text: string, use: (address: number) => T): T {
  const address = malloc(4 * text.length + 1);
  try {
    const bytes = new Uint8Array(viewOf(address, 4 * text.length + 1));
    bytes[new TextEncoder().encodeInto(text, bytes).written] = 0;
    return use(address);
  } finally {
    free(address);
  }
}

/** Runs `use` with the address of a NUL-terminated copy of bytes, given as characters up to 255. */
export function withBytes<T>(bytes: string, use: (address: number) => T): T {
  const address = malloc(bytes.length + 1);
  try {
    const view = new Uint8Array(viewOf(address, bytes.length + 1));
    for (let i = 0; i < bytes.length; i++) view[i] = bytes.charCodeAt(i);
    view[bytes.length] = 0;
    return use(address);
  } finally {
    free(address);
  }
}

/** Runs `use` with the address of a 32-bit word. As rare as withCString. */
export function withWord<T>(word: number, use: (address: number) => T): T {
  const address = malloc(4);
  try {
    new Uint32Array(viewOf(address, 4))[0] = word;
    return use(address);
  } finally {
    free(address);
  }
}
