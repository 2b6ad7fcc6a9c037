/**
 * The few system calls that Node lacks and this folder needs: mounting, extended attributes, sockets that carry descriptors, holes and locks of
 * files. The filesystem's own are in fuse/sys. Calls that can wait in the kernel go through libuv's pool and return promises.
 * Source: mount(2), umount(2), xattr(7), unix(7), socketpair(2), poll(2), eventfd(2), fallocate(2), flock(2), lseek(2), sync_file_range(2), preadv2(2), _exit(2); numbers are those of Linux on x86-64 and arm64, which agree here.
 */
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';

const libc = koffi.load(null);

export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_REMOUNT = 32;
export const MS_BIND = 4096;
export const MNT_FORCE = 1;
export const MNT_DETACH = 2;
export const UMOUNT_NOFOLLOW = 8;
export const AF_UNIX = 1;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CTRUNC = 8;
export const MSG_CMSG_CLOEXEC = 0x40000000;
export const POLLIN = 1;
export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_ZERO_RANGE = 16;
export const SEEK_DATA = 3;
export const SYNC_FILE_RANGE_WRITE = 2;
export const SOL_SOCKET = 1;
export const SO_SNDBUF = 7;
export const SO_SNDBUFFORCE = 32;
export const LOCK_EX_NB = 2 | 4;
export const RWF_NOWAIT = 8;

/** A failed system call: `code` as Node's own errors have it, EBUSY and so on. */
export class SystemCallError extends Error {
  readonly code: string;

  constructor(call: string, errno: number) {
    const code = getSystemErrorName(-errno);
    super(`${call}: ${code}`);
    this.name = 'SystemCallError';
    this.code = code;
  }
}

/** The code of a failed system call, whether Node's or ours. */
export function errnoCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

type Value = number | bigint | string | Buffer | null;

/** A call that returns at once; throws SystemCallError. */
function direct(call: string, prototype: string): (...args: Value[]) => number {
  const symbol = libc.func(prototype);
  return (...args) => {
    const result: number = Number(symbol(...args));
    if (result < 0) throw new SystemCallError(call, koffi.errno());
    return result;
  };
}

/** A call that may wait; rejects with SystemCallError. Its buffers must stay untouched until then. */
function waiting(call: string, prototype: string): (...args: Value[]) => Promise<number> {
  const symbol = libc.func(prototype);
  return (...args) =>
    new Promise((resolve, reject) => {
      symbol.async(...args, (error: unknown, result: number) => {
        if (error) reject(error);
        else if (result < 0) reject(new SystemCallError(call, koffi.errno()));
        else resolve(result);
      });
    });
}

export const mount = waiting('mount', 'int mount(str source, str target, str type, ulong flags, str data)');
export const umount2 = waiting('umount2', 'int umount2(str target, int flags)');
export const poll = waiting('poll', 'int poll(void *fds, ulong count, int timeoutMs)');
export const socket = direct('socket', 'int socket(int domain, int type, int protocol)');
const socketpair = direct('socketpair', 'int socketpair(int domain, int type, int protocol, void *sockets)');
export const bind = direct('bind', 'int bind(int fd, void *address, uint length)');
export const listen = direct('listen', 'int listen(int fd, int backlog)');
export const accept4 = direct('accept', 'int accept4(int fd, void *address, void *length, int flags)');
export const connect = direct('connect', 'int connect(int fd, void *address, uint length)');
export const sendmsg = direct('sendmsg', 'long sendmsg(int fd, void *message, int flags)');
export const recvmsg = direct('recvmsg', 'long recvmsg(int fd, void *message, int flags)');
export const setsockopt = direct('setsockopt', 'int setsockopt(int fd, int level, int name, void *value, uint length)');
export const lgetxattr = direct('lgetxattr', 'long lgetxattr(void *path, str name, void *value, size_t size)');
export const llistxattr = direct('llistxattr', 'long llistxattr(void *path, void *names, size_t size)');
export const fallocate = waiting('fallocate', 'int fallocate(int fd, int mode, int64_t offset, int64_t length)');
export const lseek = waiting('lseek', 'int64_t lseek(int fd, int64_t offset, int whence)');
export const syncFileRange = waiting(
  'sync_file_range',
  'int sync_file_range(int fd, int64_t offset, int64_t nbytes, uint flags)',
);
export const flock = direct('flock', 'int flock(int fd, int operation)');
export const preadv2 = direct('preadv2', 'long preadv2(int fd, void *vectors, int count, int64_t offset, int flags)');
export const eventfd = direct('eventfd', 'int eventfd(uint initial, int flags)');

/** Two unix sockets that are connected with each other; closed in processes that are started. */
export function socketPair(): [number, number] {
  const sockets = Buffer.alloc(8);
  socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK_CLOEXEC, 0, sockets);
  return [sockets.readInt32LE(0), sockets.readInt32LE(4)];
}

const exit = libc.func('void _exit(int status)');

/**
 * Ends this process and all of its threads, whatever they wait for. process.exit waits for some of them, and process 1 of a
 * container cannot kill itself.
 */
export function exitNow(status: number): void {
  exit(status);
}

/** Where a buffer's bytes are. Only for buffers that are referenced until the call is over. */
export function addressOf(buffer: Uint8Array): bigint {
  return koffi.address(buffer);
}
