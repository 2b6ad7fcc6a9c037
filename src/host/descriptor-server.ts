/**
 * A unix socket on which each line is a JSON request, perhaps with descriptors, and is answered by one JSON line.
 * Requests of one connection are answered in their order. Node's own sockets drop descriptors, hence recvmsg(2) here.
 *
 * Descriptors: the handler owns what it is given; what belongs to no whole request is closed here.
 */
import { chmodSync, closeSync, rmSync } from 'node:fs';
import { messageOf, UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { MAX_DESCRIPTORS, receiveMessage, sendMessage } from './descriptor-message.ts';
import { Poller } from './poller.ts';
import { withSocketAddress } from './socket-address.ts';
import {
  AF_UNIX,
  accept4,
  bind,
  connect,
  errnoCode,
  listen,
  SOCK_NONBLOCK_CLOEXEC,
  SOCK_STREAM,
  socket,
} from './syscalls.ts';

export const MAX_LINE_BYTES = 64 * 1024;
/** Further ones wait in the kernel's queue, then fail with EAGAIN. */
const MAX_CONNECTIONS = 16;
const BACKLOG = 16;

export interface DescriptorRequest {
  readonly message: unknown;
  /** Owned by the handler. */
  readonly descriptors: readonly number[];
}

/** A result that takes descriptors along. They stay the handler's, which must keep them open until the next event. */
export class WithDescriptors {
  readonly answer: unknown;
  readonly descriptors: readonly number[];

  constructor(answer: unknown, descriptors: readonly number[]) {
    this.answer = answer;
    this.descriptors = descriptors;
  }
}

export interface DescriptorServerOptions {
  readonly path: string;
  /** Its result, or `{ok: false, code, message}` for what it throws, is the answer. The signal aborts when the server closes. */
  readonly handle: (request: DescriptorRequest, signal: AbortSignal) => Promise<unknown>;
  readonly log: Logger;
}

export class DescriptorServer {
  readonly #options: DescriptorServerOptions;
  readonly #listener: number;
  readonly #poller: Poller;
  readonly #connections = new Set<Connection>();
  readonly #closing = new AbortController();

  /** Listens at once. A stale socket file is replaced; a live one is an error. */
  constructor(options: DescriptorServerOptions) {
    this.#options = options;
    this.#listener = listenAt(options.path);
    this.#poller = new Poller(options.log);
    this.#poller.watch(this.#listener, this.#accept);
  }

  /** Sends a line to whoever holds a connection with no request under way: it is to ask again. */
  nudge(): void {
    for (const connection of this.#connections) connection.nudge();
  }

  /** Ends all connections and removes the socket file. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(new UnionError('CANCELLED', `${this.#options.path} is closing`));
    for (const connection of this.#connections) connection.close();
    this.#poller.unwatch(this.#listener);
    await this.#poller.close();
    closeSync(this.#listener);
    rmSync(this.#options.path, { force: true });
  }

  readonly #accept = (): void => {
    let fd: number;
    try {
      fd = accept4(this.#listener, null, null, SOCK_NONBLOCK_CLOEXEC);
    } catch (error) {
      if (errnoCode(error) !== 'EAGAIN') this.#options.log.warn('cannot accept', { error: messageOf(error) });
      return;
    }
    const connection = new Connection(fd, this.#poller, this.#options, this.#closing.signal, () => {
      this.#connections.delete(connection);
      if (!this.#closing.signal.aborted) this.#poller.watch(this.#listener, this.#accept);
    });
    this.#connections.add(connection);
    if (this.#connections.size >= MAX_CONNECTIONS) this.#poller.unwatch(this.#listener);
  };
}

class Connection {
  readonly #fd: number;
  readonly #poller: Poller;
  readonly #options: DescriptorServerOptions;
  readonly #signal: AbortSignal;
  readonly #onClose: () => void;
  readonly #buffer = Buffer.alloc(16 * 1024);
  #line = Buffer.alloc(0);
  #descriptors: number[] = [];
  #closed = false;
  /** A request is being answered. */
  #isBusy = false;

  constructor(fd: number, poller: Poller, options: DescriptorServerOptions, signal: AbortSignal, onClose: () => void) {
    this.#fd = fd;
    this.#poller = poller;
    this.#options = options;
    this.#signal = signal;
    this.#onClose = onClose;
    poller.watch(fd, this.#read);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#poller.unwatch(this.#fd);
    closeSync(this.#fd);
    for (const descriptor of this.#descriptors) closeSync(descriptor);
    this.#descriptors = [];
    this.#onClose();
  }

  nudge(): void {
    if (!this.#isBusy) this.#reply({});
  }

  readonly #read = (): void => {
    const lines = this.#receive();
    if (lines.length === 0) return;
    this.#poller.unwatch(this.#fd); // one batch at a time: the next waits in the kernel
    this.#isBusy = true;
    void this.#answerAll(lines).finally(() => {
      this.#isBusy = false;
      if (!this.#closed) this.#poller.watch(this.#fd, this.#read);
    });
  };

  /** The whole lines that have come; closes the connection when it is over or of no use any more. */
  #receive(): readonly string[] {
    try {
      const { length, descriptors } = receiveMessage(this.#fd, this.#buffer);
      this.#descriptors.push(...descriptors);
      if (length === 0) this.close();
      this.#line = Buffer.concat([this.#line, this.#buffer.subarray(0, length)]);
      const lines = this.#takeLines();
      if (this.#line.length > MAX_LINE_BYTES) throw new Error(`a request is longer than ${MAX_LINE_BYTES} bytes`);
      if (this.#descriptors.length > MAX_DESCRIPTORS) throw new Error('too many descriptors came with one request');
      return lines;
    } catch (error) {
      if (errnoCode(error) === 'EAGAIN') return [];
      if (errnoCode(error) === undefined) this.#reply(failure(new UnionError('INVALID_ARGUMENT', messageOf(error))));
      this.close();
      return [];
    }
  }

  /** Whole lines, out of the buffer. */
  #takeLines(): readonly string[] {
    const end = this.#line.lastIndexOf(0x0a) + 1;
    const lines = this.#line.toString('utf8', 0, end).split('\n').filter(Boolean);
    this.#line = Buffer.from(this.#line.subarray(end));
    return lines;
  }

  async #answerAll(lines: readonly string[]): Promise<void> {
    // The kernel ends a read after the bytes that descriptors came with, so they belong to the last line.
    const descriptors = this.#line.length === 0 ? this.#descriptors.splice(0) : [];
    for (const [index, line] of lines.entries()) {
      const own = index === lines.length - 1 ? descriptors : [];
      const answer = await this.#answer(line, own);
      if (this.#closed) return;
      this.#reply(answer);
    }
  }

  async #answer(line: string, descriptors: readonly number[]): Promise<unknown> {
    try {
      const message = parseLine(line);
      return await this.#options.handle({ message, descriptors }, this.#signal);
    } catch (error) {
      return failure(error);
    }
  }

  /** A peer that does not read its answers is dropped: they are small, and the socket holds many. */
  #reply(result: unknown): void {
    const { answer, descriptors } = result instanceof WithDescriptors ? result : new WithDescriptors(result, []);
    const bytes = Buffer.from(`${JSON.stringify(answer)}\n`);
    try {
      if (sendMessage(this.#fd, bytes, descriptors) !== bytes.length) this.close();
    } catch {
      this.close();
    }
  }
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw new UnionError('INVALID_ARGUMENT', 'a request is not a line of JSON');
  }
}

function failure(error: unknown): { ok: false; code: string; message: string } {
  const code = error instanceof UnionError ? error.code : 'INTERNAL';
  return { ok: false, code, message: messageOf(error) };
}

function listenAt(path: string): number {
  const fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK_CLOEXEC, 0);
  try {
    withSocketAddress(path, (address) => {
      try {
        bind(fd, address, address.length);
      } catch (error) {
        if (errnoCode(error) !== 'EADDRINUSE') throw error;
        if (isLive(address)) {
          throw new UnionError(
            'FAILED_PRECONDITION',
            `another process listens on ${path}; end it or choose another path`,
          );
        }
        rmSync(path);
        bind(fd, address, address.length);
      }
    });
    chmodSync(path, 0o600);
    listen(fd, BACKLOG);
    return fd;
  } catch (error) {
    closeSync(fd);
    if (error instanceof UnionError) throw error;
    throw new UnionError('FAILED_PRECONDITION', `cannot listen on ${path}: ${messageOf(error)}`, { cause: error });
  }
}

function isLive(address: Buffer): boolean {
  const fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK_CLOEXEC, 0);
  try {
    connect(fd, address, address.length);
    return true;
  } catch (error) {
    return errnoCode(error) === 'EAGAIN'; // its queue is full
  } finally {
    closeSync(fd);
  }
}
