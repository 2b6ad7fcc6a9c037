/**
 * The least that a union in JavaScript does to create, open, truncate, rename and unlink files: the union's own transport, answers from fixed tables,
 * and for each request those system calls on a branch without which nothing has happened there. No index of what branches have, no
 * policies, locks or journal, nothing kept of closed files but their backing ids; files and directories are where this server has made them. What the
 * union costs above that is its own doing, and what this costs above the null server and the branches is JavaScript's.
 *
 *   node least.ts BRANCH:… MOUNTPOINT      (root; ends when it is unmounted)
 *
 * One thread. Records are never used again: it is for minutes, not for days.
 */
import {
  DEV_IOC_BACKING_CLOSE,
  DEV_IOC_BACKING_OPEN,
  ENTRY,
  FOPEN,
  FUSE_MAJOR,
  FUSE_MINOR,
  IN,
  INIT,
  INIT_IN,
  INIT_OUT,
  INIT2,
  OP,
  OPEN_OUT,
  OUT,
  SETATTR_IN,
  STATX,
} from '../../fuse/protocol/abi.ts';
import { type EntryFields, writeAttrOut, writeEntry, writeNegativeEntry } from '../../fuse/protocol/attributes.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_REMOVEDIR,
  AT_SYMLINK_NOFOLLOW,
  EAGAIN,
  EEXIST,
  EINTR,
  ENAMETOOLONG,
  ENODATA,
  ENODEV,
  ENOENT,
  ENOSPC,
  ENOSYS,
  errnoName,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDWR,
  O_WRONLY,
  STATX_WANTED,
} from '../../fuse/sys/constants.ts';
import * as libc from '../../fuse/sys/libc.ts';
import { mountDevice, openDevice } from '../../fuse/transport/device.ts';
import { N, NAME_ROOM, NODES_BYTES, Nodes } from './least-nodes.ts';

const REQUEST_BYTES = (1 << 20) + 64 * 1024;
const REMEMBER_SECONDS = 3600;
const MAX_DIRECTORIES = 1 << 12;

/** Positions in the server's memory. */
const REPLY = REQUEST_BYTES;
const STAT = REPLY + 4096;
const ARGUMENT = STAT + STATX.bytes;
const EMPTY_NAME = ARGUMENT + 32;
const NODES_AT = REPLY + 8192;
const TOTAL_BYTES = NODES_AT + NODES_BYTES;
const [BODY, OUT_BODY] = [IN.size, REPLY + OUT.size];

const OFFERED =
  INIT.ASYNC_READ |
  INIT.BIG_WRITES |
  INIT.DONT_MASK |
  INIT.PARALLEL_DIROPS |
  INIT.POSIX_ACL |
  INIT.MAX_PAGES |
  INIT.HANDLE_KILLPRIV_V2 |
  INIT.INIT_EXT;

class LeastServer {
  readonly #device: number;
  readonly #branches: number;
  readonly #base = libc.malloc(TOTAL_BYTES);
  readonly #u32: Uint32Array;
  readonly #nodes: Nodes;
  /** O_PATH descriptors of each directory on every branch. */
  readonly #descriptors: Int32Array;
  readonly #entry: EntryFields = {
    node: 0,
    generation: 0,
    inoLow: 0,
    inoHigh: 0,
    entryTtl: REMEMBER_SECONDS,
    attrTtl: REMEMBER_SECONDS,
  };
  #directories = 1;

  constructor(device: number, roots: readonly string[]) {
    this.#device = device;
    this.#branches = roots.length;
    const memory = libc.viewOf(this.#base, TOTAL_BYTES);
    this.#u32 = new Uint32Array(memory);
    this.#u32.fill(0, 0, NODES_AT / 4);
    this.#nodes = new Nodes(memory, NODES_AT);
    this.#descriptors = new Int32Array(MAX_DIRECTORIES * roots.length);
    for (const [branch, root] of roots.entries())
      this.#descriptors[branch] = libc.withCString(root, (path) =>
        libc.openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0),
      );
  }

  /** Until the filesystem is unmounted. */
  serve(): void {
    const u32 = this.#u32;
    for (;;) {
      const bytes = libc.read(this.#device, this.#base, REQUEST_BYTES);
      if (bytes === -EINTR || bytes === -EAGAIN || bytes === -ENOENT) continue;
      if (bytes === -ENODEV) return;
      if (bytes < 0) throw new Error(`cannot read requests: ${errnoName(-bytes)}`);
      const opcode = u32[IN.opcode >>> 2]!;
      if (opcode === OP.FORGET || opcode === OP.BATCH_FORGET) continue;
      const result = this.#answer(opcode, u32[IN.node >>> 2]!);
      const length = OUT.size + Math.max(result, 0);
      u32[REPLY >>> 2] = length;
      u32[(REPLY + OUT.error) >>> 2] = Math.min(result, 0);
      u32[(REPLY + OUT.unique) >>> 2] = u32[IN.unique >>> 2]!;
      u32[(REPLY + OUT.unique + 4) >>> 2] = u32[(IN.unique + 4) >>> 2]!;
      libc.write(this.#device, this.#base + REPLY, length);
    }
  }

  /** The length of the reply's body, or a negated errno. */
  #answer(opcode: number, node: number): number {
    switch (opcode) {
      case OP.LOOKUP:
        return this.#lookup(node);
      case OP.GETATTR:
        return this.#getattr(node);
      case OP.SETATTR:
        return this.#truncate(node);
      case OP.CREATE:
        return this.#create(node);
      case OP.GETXATTR:
        return -ENODATA;
      case OP.OPEN:
        return this.#putOpen(OUT_BODY, node);
      case OP.RELEASE:
        return 0;
      case OP.RENAME:
        return this.#rename(node, this.#u32[BODY >>> 2]!, BODY + 8);
      case OP.UNLINK:
        return this.#unlink(node);
      case OP.MKDIR:
        return this.#mkdir(node);
      case OP.RMDIR:
        return this.#rmdir(node);
      case OP.INIT:
        return this.#init();
      default:
        return -ENOSYS;
    }
  }

  #lookup(parent: number): number {
    const length = this.#nodes.lengthAt(BODY);
    const node = this.#nodes.find(parent, BODY, length, this.#nodes.hash(parent, BODY, length));
    if (node !== 0) return this.#stat(node) || this.#putEntry(node);
    writeNegativeEntry(this.#u32, OUT_BODY, REMEMBER_SECONDS);
    return ENTRY.size;
  }

  #getattr(node: number): number {
    const result = this.#stat(node);
    if (result < 0) return result;
    writeAttrOut(this.#u32, OUT_BODY, STAT, node, 0, REMEMBER_SECONDS);
    return 104;
  }

  /** Nothing else is set. */
  #truncate(node: number): number {
    const u32 = this.#u32;
    const size = u32[(BODY + SETATTR_IN.size) >>> 2]! + u32[(BODY + SETATTR_IN.size + 4) >>> 2]! * 0x100000000;
    const directory = this.#descriptor(this.#nodes.get(node, N.parent), this.#nodes.get(node, N.branch));
    const descriptor = libc.openat(directory, this.#base + this.#nodes.nameOf(node), O_WRONLY | O_CLOEXEC, 0);
    if (descriptor < 0) return descriptor;
    const result = libc.ftruncate(descriptor, size);
    libc.close(descriptor);
    return result < 0 ? result : this.#getattr(node);
  }

  #create(parent: number): number {
    const [name, base] = [BODY + 16, this.#base];
    const branch = Math.floor(Math.random() * this.#branches);
    const descriptor = libc.openat(
      this.#descriptor(parent, branch),
      base + name,
      O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW,
      this.#u32[(BODY + 4) >>> 2]! & 0o7777,
    );
    if (descriptor < 0) return descriptor;
    libc.statx(descriptor, base + EMPTY_NAME, AT_EMPTY_PATH, STATX_WANTED, base + STAT);
    const u32 = this.#u32;
    u32.fill(0, ARGUMENT >>> 2, (ARGUMENT + 16) >>> 2);
    u32[ARGUMENT >>> 2] = descriptor;
    const backing = libc.ioctl(this.#device, DEV_IOC_BACKING_OPEN, base + ARGUMENT);
    libc.close(descriptor);
    if (backing < 0) return backing;
    this.#nodes.set(parent, N.branch, branch);
    const node = this.#nodes.make(parent, name, branch, false);
    if (node === 0) return -ENOSPC;
    this.#nodes.set(node, N.backing, backing);
    return this.#putEntry(node) + this.#putOpen(OUT_BODY + ENTRY.size, node);
  }

  #putOpen(to: number, node: number): number {
    const u32 = this.#u32;
    u32[to >>> 2] = node;
    u32[(to >>> 2) + 1] = 0;
    u32[(to >>> 2) + 2] = FOPEN.PASSTHROUGH | FOPEN.NOFLUSH;
    u32[(to >>> 2) + 3] = this.#nodes.get(node, N.backing);
    return OPEN_OUT.size;
  }

  /** Of files, to names that are not there. */
  #rename(parent: number, newParent: number, name: number): number {
    const base = this.#base;
    const length = this.#nodes.lengthAt(name);
    const newName = name + length + 1;
    const newLength = this.#nodes.lengthAt(newName);
    const newHash = this.#nodes.hash(newParent, newName, newLength);
    if (newLength >= NAME_ROOM) return -ENAMETOOLONG;
    if (this.#nodes.find(newParent, newName, newLength, newHash) !== 0) return -EEXIST;
    const node = this.#nodes.find(parent, name, length, this.#nodes.hash(parent, name, length));
    if (node === 0) return -ENOENT;
    const branch = this.#nodes.get(node, N.branch);
    const result = libc.renameat2(
      this.#descriptor(parent, branch),
      base + name,
      this.#descriptor(newParent, branch),
      base + newName,
      0,
    );
    if (result < 0) return result;
    this.#nodes.set(parent, N.branch, branch);
    this.#nodes.set(newParent, N.branch, branch);
    this.#nodes.unchain(node);
    this.#nodes.chain(node, newParent, newName, newLength, newHash);
    return 0;
  }

  #unlink(parent: number): number {
    const base = this.#base;
    const length = this.#nodes.lengthAt(BODY);
    const node = this.#nodes.find(parent, BODY, length, this.#nodes.hash(parent, BODY, length));
    if (node === 0) return -ENOENT;
    const branch = this.#nodes.get(node, N.branch);
    this.#u32[ARGUMENT >>> 2] = this.#nodes.get(node, N.backing);
    libc.ioctl(this.#device, DEV_IOC_BACKING_CLOSE, base + ARGUMENT);
    const result = libc.unlinkat(this.#descriptor(parent, branch), base + BODY, 0);
    if (result < 0) return result;
    this.#nodes.set(parent, N.branch, branch);
    this.#nodes.unchain(node);
    return 0;
  }

  /** On every branch. */
  #mkdir(parent: number): number {
    const address = this.#base + BODY + 8;
    const directory = this.#directories++;
    if (directory >= MAX_DIRECTORIES) return -ENOSPC;
    for (let branch = 0; branch < this.#branches; branch++) {
      const above = this.#descriptor(parent, branch);
      const made = libc.mkdirat(above, address, this.#u32[BODY >>> 2]! & 0o7777);
      const descriptor = made < 0 ? made : libc.openat(above, address, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
      if (descriptor < 0) return descriptor;
      this.#descriptors[directory * this.#branches + branch] = descriptor;
    }
    const node = this.#nodes.make(parent, BODY + 8, 0, true);
    if (node === 0) return -ENOSPC;
    this.#nodes.set(node, N.backing, directory);
    return this.#stat(node) || this.#putEntry(node);
  }

  #rmdir(parent: number): number {
    const length = this.#nodes.lengthAt(BODY);
    const node = this.#nodes.find(parent, BODY, length, this.#nodes.hash(parent, BODY, length));
    if (node === 0) return -ENOENT;
    for (let branch = 0; branch < this.#branches; branch++) {
      const result = libc.unlinkat(this.#descriptor(parent, branch), this.#base + BODY, AT_REMOVEDIR);
      if (result < 0) return result;
      libc.close(this.#descriptor(node, branch));
    }
    this.#nodes.unchain(node);
    return 0;
  }

  #init(): number {
    const [u32, to] = [this.#u32, OUT_BODY >>> 2];
    u32.fill(0, to, to + INIT_OUT.size / 4);
    u32[to] = FUSE_MAJOR;
    u32[to + 1] = Math.min(FUSE_MINOR, u32[(BODY + INIT_IN.minor) >>> 2]!);
    u32[to + INIT_OUT.flags / 4] = OFFERED & u32[(BODY + INIT_IN.flags) >>> 2]!;
    u32[to + INIT_OUT.flags2 / 4] = INIT2.PASSTHROUGH;
    u32[to + INIT_OUT.maxWrite / 4] = 1 << 20;
    u32[to + INIT_OUT.timeGranularity / 4] = 1;
    u32[to + INIT_OUT.maxPages / 4] = 256;
    u32[to + INIT_OUT.maxStackDepth / 4] = 1;
    return INIT_OUT.size;
  }

  /** statx into STAT: of a directory the copy that was changed last. */
  #stat(node: number): number {
    const branch = this.#nodes.get(node, N.branch);
    if (this.#nodes.get(node, N.isDirectory) !== 0)
      return this.#statAt(this.#descriptor(node, branch), EMPTY_NAME, AT_EMPTY_PATH);
    const directory = this.#descriptor(this.#nodes.get(node, N.parent), branch);
    return this.#statAt(directory, this.#nodes.nameOf(node), AT_SYMLINK_NOFOLLOW);
  }

  #statAt(directory: number, name: number, flags: number): number {
    return libc.statx(directory, this.#base + name, flags, STATX_WANTED, this.#base + STAT);
  }

  #putEntry(node: number): number {
    this.#entry.node = this.#entry.inoLow = node;
    writeEntry(this.#u32, OUT_BODY, STAT, this.#entry);
    return ENTRY.size;
  }

  #descriptor(directory: number, branch: number): number {
    return this.#descriptors[this.#nodes.get(directory, N.backing) * this.#branches + branch]!;
  }
}

const [branches = '', mountpoint = ''] = process.argv.slice(2);
const deviceFd = openDevice();
const server = new LeastServer(deviceFd, branches.split(':'));
mountDevice({ deviceFd, mountpoint, fsname: 'least', readOnly: false });
server.serve();
