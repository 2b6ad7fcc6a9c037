/**
 * Waits for many descriptors at once without blocking the main thread: one poll(2) in libuv's pool, woken through an
 * eventfd when the set changes. For descriptors that Node's own event loop cannot watch, because it would read them.
 */
import { closeSync, readSync, writeSync } from 'node:fs';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { errnoCode, eventfd, POLLIN, poll } from './syscalls.ts';

const EFD_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const ENTRY_SIZE = 8;

export class Poller {
  readonly #wake = eventfd(0, EFD_NONBLOCK_CLOEXEC);
  readonly #watched = new Map<number, () => void>();
  readonly #loop: Promise<void>;
  #closed = false;

  constructor(log: Logger) {
    this.#loop = this.#run().catch((error: unknown) =>
      log.error('waiting for sockets failed', { error: messageOf(error) }),
    );
  }

  /** Calls `onReadable` whenever `fd` can be read or its peer is gone, until it is unwatched. */
  watch(fd: number, onReadable: () => void): void {
    this.#watched.set(fd, onReadable);
    this.#notify();
  }

  /** To be called before `fd` is closed. */
  unwatch(fd: number): void {
    if (this.#watched.delete(fd)) this.#notify();
  }

  /** Ends the waiting; resolves when no thread is in poll(2) any more. */
  async close(): Promise<void> {
    if (this.#closed) return await this.#loop;
    this.#notify();
    this.#closed = true;
    await this.#loop;
    closeSync(this.#wake);
  }

  #notify(): void {
    if (this.#closed) return;
    const one = Buffer.alloc(8);
    one.writeBigUInt64LE(1n);
    writeSync(this.#wake, one);
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      const watched = [...this.#watched];
      const entries = Buffer.alloc(ENTRY_SIZE * (watched.length + 1));
      [this.#wake, ...watched.map(([fd]) => fd)].forEach((fd, index) => {
        entries.writeInt32LE(fd, index * ENTRY_SIZE);
        entries.writeInt16LE(POLLIN, index * ENTRY_SIZE + 4);
      });
      try {
        await poll(entries, watched.length + 1, -1);
      } catch (error) {
        if (errnoCode(error) !== 'EINTR') throw error;
        continue;
      }
      if (entries.readInt16LE(6) !== 0) readSync(this.#wake, Buffer.alloc(8));
      watched.forEach(([fd, onReadable], index) => {
        // Unwatched, or watched anew, since the call began: its number may be another file's by now.
        const ready = entries.readInt16LE((index + 1) * ENTRY_SIZE + 6) !== 0;
        if (ready && this.#watched.get(fd) === onReadable) onReadable();
      });
    }
  }
}
