/**
 * A filesystem that is one regular file: its root. Mounted on an empty file, it is what a loop device needs below it. All I/O goes past
 * the page cache, side by side, and is done by somebody who may take his time.
 *
 * Every request can be done twice, and so a server that takes over from a dead one has the kernel send again what was not
 * answered (RESEND, Linux 6.9); it knows nothing else of its predecessor.
 * Source: include/uapi/linux/fuse.h.
 */
import { read, writevSync } from 'node:fs';
import { UnionFsError } from '../errors.ts';
import { ATTR_OUT, FOPEN, FUSE_MAJOR, FUSE_MINOR, IN, INIT, INIT_IN, INIT_OUT, OP, OUT } from '../protocol/abi.ts';
import { EINVAL, EIO, ENODEV, ENOENT, ENOSYS, EOPNOTSUPP, errnoName, S_IFREG } from '../sys/constants.ts';
import { mmapAnonymous, viewOf } from '../sys/libc.ts';

/** What the file is made of. A rejection's `errno`, a positive number, is answered; without one it is EIO. */
export interface FileContent {
  readonly sizeBytes: number;
  read(offset: number, length: number): Promise<Uint8Array>;
  /** `data` are the content's own from here on. */
  write(offset: number, data: Buffer): Promise<void>;
  flush(): Promise<void>;
  /** Makes the range zeros; with `release` its room may go. */
  zero(offset: number, length: number, release: boolean): Promise<void>;
}

export interface FileServerOptions {
  /** A descriptor of the mounted connection. */
  readonly device: number;
  readonly content: FileContent;
  /** Another server has served this connection before. */
  readonly isSuccessor: boolean;
}

const ROOT = 1n;
const BLOCK = 4096;
const MAX_WRITE = 1 << 20;
const MAX_BACKGROUND = 64;
const NOTIFY_RESEND = 7;
const WANTED = INIT.ASYNC_READ | INIT.BIG_WRITES | INIT.ASYNC_DIO | INIT.MAX_PAGES;
const FOPEN_DIRECT_IO = 1;
/** fuse_read_in and fuse_write_in; fuse_fallocate_in. */
const IO_IN = { offset: 8, size: 16, data: 40 } as const;
const FALLOCATE_IN = { offset: 8, length: 16, mode: 24 } as const;
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const ZERO_RANGE = 16;
const NO_DATA = Buffer.alloc(0);

/** Serves the connection until it ends. */
export async function serveFile(options: FileServerOptions): Promise<void> {
  const server = new FileServer(options);
  if (options.isSuccessor) server.askAgain();
  await server.run();
}

class FileServer {
  readonly #device: number;
  readonly #content: FileContent;
  readonly #buffer = requestBuffer();

  constructor({ device, content }: FileServerOptions) {
    this.#device = device;
    this.#content = content;
  }

  askAgain(): void {
    const news = Buffer.alloc(OUT.size);
    news.writeUInt32LE(OUT.size, OUT.length);
    news.writeInt32LE(NOTIFY_RESEND, OUT.error);
    writevSync(this.#device, [news]);
  }

  async run(): Promise<void> {
    for (;;) {
      const bytes = await this.#read();
      if (bytes === undefined) return;
      const header = Buffer.copyBytesFrom(this.#buffer, 0, IN.size);
      const body = Buffer.copyBytesFrom(this.#buffer, IN.size, bytes - IN.size);
      void this.#serve(header, body);
    }
  }

  /** Undefined at the end of the connection. */
  async #read(): Promise<number | undefined> {
    for (;;) {
      const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
      read(this.#device, this.#buffer, 0, this.#buffer.length, null, (error, bytes) => {
        if (error === null) resolve(bytes);
        else if (error.code === 'ENODEV') resolve(undefined);
        // ENOENT: the request was interrupted before it was read.
        else if (['EINTR', 'EAGAIN', 'ENOENT'].includes(error.code ?? '')) resolve(0);
        else reject(error);
      });
      const bytes = await promise;
      if (bytes !== 0) return bytes;
    }
  }

  async #serve(header: Buffer, body: Buffer): Promise<void> {
    const opcode = header.readUInt32LE(IN.opcode);
    const unique = header.readBigUInt64LE(IN.unique);
    if (opcode === OP.FORGET || opcode === OP.BATCH_FORGET || opcode === OP.INTERRUPT) return;
    try {
      this.#reply(unique, 0, await this.#perform(opcode, body));
    } catch (error) {
      this.#reply(unique, errnoOf(error), NO_DATA);
    }
  }

  #reply(unique: bigint, errno: number, data: Uint8Array): void {
    const header = Buffer.allocUnsafe(OUT.size);
    header.writeUInt32LE(OUT.size + data.length, OUT.length);
    header.writeInt32LE(-errno, OUT.error);
    header.writeBigUInt64LE(unique, OUT.unique);
    try {
      writevSync(this.#device, data.length === 0 ? [header] : [header, data]);
    } catch (error) {
      // ENOENT: nobody waits for it any more. ENODEV: the connection has ended, as the next read will say.
      if (![ENOENT, ENODEV].includes(-(error as { errno: number }).errno)) throw error;
    }
  }

  async #perform(opcode: number, body: Buffer): Promise<Uint8Array> {
    switch (opcode) {
      case OP.INIT:
        return initReply(body);
      case OP.GETATTR:
      case OP.SETATTR:
        return this.#attributes();
      case OP.OPEN:
        return openReply();
      case OP.READ:
        return await this.#content.read(...rangeOf(body));
      case OP.WRITE:
        return await this.#write(body);
      case OP.FSYNC:
        await this.#content.flush();
        return NO_DATA;
      case OP.FALLOCATE:
        await this.#fallocate(body);
        return NO_DATA;
      case OP.STATFS:
        return Buffer.alloc(80);
      case OP.RELEASE:
      case OP.FLUSH:
      case OP.DESTROY:
        return NO_DATA;
      default:
        throw new FileError(ENOSYS);
    }
  }

  async #write(body: Buffer): Promise<Buffer> {
    const [offset, size] = rangeOf(body);
    await this.#content.write(offset, body.subarray(IO_IN.data, IO_IN.data + size));
    const reply = Buffer.alloc(8);
    reply.writeUInt32LE(size, 0);
    return reply;
  }

  async #fallocate(body: Buffer): Promise<void> {
    const mode = body.readUInt32LE(FALLOCATE_IN.mode);
    const offset = Number(body.readBigUInt64LE(FALLOCATE_IN.offset));
    const length = Number(body.readBigUInt64LE(FALLOCATE_IN.length));
    if ((mode & KEEP_SIZE) === 0 || (mode & (PUNCH_HOLE | ZERO_RANGE)) === 0) throw new FileError(EOPNOTSUPP);
    if (offset + length > this.#content.sizeBytes) throw new FileError(EINVAL);
    await this.#content.zero(offset, length, (mode & PUNCH_HOLE) !== 0);
  }

  #attributes(): Buffer {
    const { sizeBytes } = this.#content;
    const reply = Buffer.alloc(ATTR_OUT.size);
    const at = ATTR_OUT.attr;
    reply.writeBigUInt64LE(ROOT, at);
    reply.writeBigUInt64LE(BigInt(sizeBytes), at + 8);
    reply.writeBigUInt64LE(BigInt(sizeBytes / 512), at + 16);
    reply.writeUInt32LE(S_IFREG | 0o600, at + 60);
    reply.writeUInt32LE(1, at + 64); // links
    reply.writeUInt32LE(BLOCK, at + 80);
    return reply;
  }
}

/**
 * The kernel fails a request that it cannot copy at once to a process that is being killed. So every page is present from the start, and stays
 * writable when a process is started, as one is each time that the one that waits has died.
 */
function requestBuffer(): Buffer {
  const size = MAX_WRITE + BLOCK;
  const address = mmapAnonymous(size);
  if (address < 0) throw new UnionFsError(errnoName(-address), `cannot map ${size} bytes for requests`);
  return Buffer.from(viewOf(address, size)).fill(1);
}

export class FileError extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

function errnoOf(error: unknown): number {
  return error instanceof FileError ? error.errno : EIO;
}

function rangeOf(body: Buffer): [offset: number, length: number] {
  return [Number(body.readBigUInt64LE(IO_IN.offset)), body.readUInt32LE(IO_IN.size)];
}

function initReply(body: Buffer): Buffer {
  if (body.readUInt32LE(INIT_IN.major) !== FUSE_MAJOR) throw new FileError(EINVAL);
  const offered = body.readUInt32LE(INIT_IN.flags);
  const reply = Buffer.alloc(INIT_OUT.size);
  reply.writeUInt32LE(FUSE_MAJOR, INIT_OUT.major);
  reply.writeUInt32LE(Math.min(FUSE_MINOR, body.readUInt32LE(INIT_IN.minor)), INIT_OUT.minor);
  reply.writeInt32LE(offered & WANTED, INIT_OUT.flags);
  reply.writeUInt16LE(MAX_BACKGROUND, INIT_OUT.background);
  reply.writeUInt16LE((MAX_BACKGROUND * 3) / 4, INIT_OUT.congestion);
  reply.writeUInt32LE(MAX_WRITE, INIT_OUT.maxWrite);
  reply.writeUInt32LE(1, INIT_OUT.timeGranularity);
  reply.writeUInt16LE(MAX_WRITE / BLOCK, INIT_OUT.maxPages);
  return reply;
}

function openReply(): Buffer {
  const reply = Buffer.alloc(16);
  reply.writeUInt32LE(FOPEN_DIRECT_IO | FOPEN.PARALLEL_DIRECT_WRITES, 8);
  return reply;
}
