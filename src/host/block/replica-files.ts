/**
 * One replica's disk as a directory of four files, an area each, and the operations of `block/ports.ts` on them.
 * Invariants: one process has a replica open at a time (flock, which ends with the process); a replica's directory is there
 * whole or not at all; the log's room is taken when it is made, so that only the extents can run out of space.
 *
 * Writes go through the page cache, but for long ones of the log, and fdatasync makes them durable. What the cache shows after a failed sync may never have
 * reached the disk; the engine allows for that (src/block/README.md, "Recovery").
 */
import { constants, read } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { UnionError } from '../../base/errors.ts';
import { areaSizes } from '../../block/areas.ts';
import type { Area, DiskOperation, DiskOutcome } from '../../block/ports.ts';
import type { Identity } from '../../block/recovery.ts';
import { formatReplica } from '../../block/store.ts';
import {
  errnoCode,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  fallocate,
  flock,
  LOCK_EX_NB,
  lseek,
  SEEK_DATA,
  SYNC_FILE_RANGE_WRITE,
  syncFileRange,
} from '../syscalls.ts';
import { CachedReader } from './cached-reader.ts';
import { DirectWriter } from './direct-writer.ts';
import { transferred, writeParts } from './parts.ts';

const AREAS: readonly Area[] = ['superblock', 'log', 'table', 'data'];
const ZEROS = Buffer.alloc(1024 ** 2);
/** So much at once is not likely to be written over before it is synced. */
const MIN_WRITEBACK_BYTES = 1024 ** 2;

/** Something that carries out disk operations; never rejects. */
export interface BlockDisk {
  perform(operation: DiskOperation): Promise<DiskOutcome>;
  close(): Promise<void>;
}

export class ReplicaFiles implements BlockDisk {
  readonly #files: ReadonlyMap<Area, FileHandle>;
  readonly #log: DirectWriter;
  readonly #cached = new CachedReader();
  readonly #gathered: Gathered[] = [];
  readonly #onError: (operation: DiskOperation, error: unknown) => void;

  private constructor(
    files: ReadonlyMap<Area, FileHandle>,
    log: DirectWriter,
    onError: (operation: DiskOperation, error: unknown) => void,
  ) {
    this.#files = files;
    this.#log = log;
    this.#onError = onError;
  }

  /** Opens the replica in `directory` for this process alone. */
  static async open(
    directory: string,
    onError: (operation: DiskOperation, error: unknown) => void = () => {},
  ): Promise<ReplicaFiles> {
    const files = await openAreas(directory, constants.O_RDWR);
    try {
      flock(files.get('superblock')!.fd, LOCK_EX_NB);
    } catch (error) {
      for (const file of files.values()) await file.close();
      if (errnoCode(error) !== 'EAGAIN') throw error;
      throw new UnionError('FAILED_PRECONDITION', `another process serves the replica in ${directory}; stop it first`);
    }
    return new ReplicaFiles(files, await DirectWriter.open(join(directory, 'log')), onError);
  }

  async perform(operation: DiskOperation): Promise<DiskOutcome> {
    const file = this.#files.get(operation.area)!;
    try {
      switch (operation.kind) {
        case 'read':
          return { ok: true, data: await this.#read(file, operation.offset, operation.length) };
        case 'write':
          await this.#write(file, operation.data, operation.offset);
          return { ok: true, data: undefined };
        case 'discard':
          await discard(file, operation);
          return { ok: true, data: undefined };
        case 'grow':
          if ((await file.stat()).size < operation.length) await file.truncate(operation.length);
          return { ok: true, data: undefined };
        case 'hole':
          return { ok: true, data: undefined, holeBytes: await holeBytes(file, operation.offset, operation.length) };
        case 'sync':
          await file.datasync();
          return { ok: true, data: undefined };
      }
    } catch (error) {
      this.#onError(operation, error);
      const full = ['ENOSPC', 'EDQUOT'].includes(errnoCode(error) ?? '');
      return { ok: false, error: full ? 'ENOSPC' : 'EIO' };
    }
  }

  async #read(file: FileHandle, offset: number, length: number): Promise<Uint8Array> {
    return this.#cached.read(file.fd, offset, length) ?? (await readWhole(file, offset, length));
  }

  /** What is written side by side in one turn is written in one call: several would wait for each other, each in a thread. */
  #write(file: FileHandle, data: Uint8Array, offset: number): Promise<void> {
    const last = this.#gathered.at(-1);
    if (last?.file === file && last.end === offset) {
      last.parts.push(data);
      last.end += data.length;
      return last.written;
    }
    if (last === undefined) queueMicrotask(() => this.#gathered.splice(0).forEach(({ start }) => void start()));
    const { promise: written, resolve, reject } = Promise.withResolvers<void>();
    const parts = [data];
    const start = () => this.#writeTogether(file, parts, offset).then(resolve, reject);
    this.#gathered.push({ file, parts, end: offset + data.length, written, start });
    return written;
  }

  async #writeTogether(file: FileHandle, parts: readonly Uint8Array[], offset: number): Promise<void> {
    const isLog = file === this.#files.get('log');
    if (isLog && (await this.#log.write(parts, offset))) return;
    await writeParts(file.fd, parts, offset);
    const bytes = parts.reduce((sum, { length }) => sum + length, 0);
    if (!isLog && bytes >= MIN_WRITEBACK_BYTES) await startWriteback(file, offset, bytes);
  }

  async close(): Promise<void> {
    await this.#log.close();
    for (const file of this.#files.values()) await file.close();
  }
}

/** Neighbours that are to be written. */
interface Gathered {
  readonly file: FileHandle;
  readonly parts: Uint8Array[];
  end: number;
  readonly written: Promise<void>;
  readonly start: () => Promise<void>;
}

/**
 * Makes a replica's directory. `empty`: of a volume that was never written, so that what is there counts; `blank`: of one that
 * has been, so that it waits to be rebuilt. Fails with ALREADY_EXISTS when there is anything under that name.
 */
export async function createReplica(directory: string, identity: Identity, state: 'empty' | 'blank'): Promise<void> {
  const unfinished = `${directory}.new`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true });
  const files = await openAreas(unfinished, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL);
  try {
    const sizes = areaSizes(identity.geometry);
    for (const [area, file] of files) await file.truncate(sizes[area]);
    // Written, not only reserved: a first write to reserved room would cost each group commit a change of metadata.
    for (let offset = 0; offset < sizes.log; offset += ZEROS.length) {
      await writeParts(files.get('log')!.fd, [ZEROS.subarray(0, sizes.log - offset)], offset);
    }
    for (const operation of state === 'empty' ? formatReplica(identity) : []) {
      if (operation.kind === 'write')
        await writeParts(files.get(operation.area)!.fd, [operation.data], operation.offset);
    }
    for (const file of files.values()) await file.sync();
  } finally {
    for (const file of files.values()) await file.close();
  }
  await syncDirectory(unfinished);
  await rename(unfinished, directory).catch((error: unknown) => {
    if (!['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(errnoCode(error) ?? '')) throw error;
    throw new UnionError('ALREADY_EXISTS', `${directory} is there already; remove it or choose another one`);
  });
  await syncDirectory(dirname(directory));
}

async function openAreas(directory: string, flags: number): Promise<ReadonlyMap<Area, FileHandle>> {
  const files = new Map<Area, FileHandle>();
  try {
    for (const area of AREAS) files.set(area, await open(join(directory, area), flags, 0o600));
    return files;
  } catch (error) {
    for (const file of files.values()) await file.close();
    throw error;
  }
}

export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Then a sync has only the rest to wait for: the disk has worked while the next ones were copied. An error is for the sync to tell. */
async function startWriteback({ fd }: FileHandle, offset: number, bytes: number): Promise<void> {
  await syncFileRange(fd, offset, bytes, SYNC_FILE_RANGE_WRITE).catch(() => {});
}

async function readWhole({ fd }: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const data = Buffer.allocUnsafeSlow(length);
  for (let at = 0; at < length; ) {
    const bytes = await transferred((done) => read(fd, data, at, length - at, offset + at, done));
    // The files have their size from the beginning.
    if (bytes === 0) throw new Error(`the file ends before byte ${offset + length}`);
    at += bytes;
  }
  return data;
}

/** Data that are not on the disk yet count as data. */
async function holeBytes({ fd }: FileHandle, offset: number, length: number): Promise<number> {
  try {
    return Math.min(length, (await lseek(fd, offset, SEEK_DATA)) - offset);
  } catch (error) {
    if (errnoCode(error) === 'ENXIO') return length;
    throw error;
  }
}

async function discard(file: FileHandle, range: Extract<DiskOperation, { kind: 'discard' }>): Promise<void> {
  // The log keeps its room: it must never run out of space.
  const mode = range.area === 'log' ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
  try {
    await fallocate(file.fd, mode | FALLOC_FL_KEEP_SIZE, range.offset, range.length);
  } catch (error) {
    if (errnoCode(error) !== 'EOPNOTSUPP') throw error;
    const end = range.offset + range.length;
    for (let offset = range.offset; offset < end; offset += ZEROS.length) {
      await writeParts(file.fd, [ZEROS.subarray(0, end - offset)], offset);
    }
  }
}
