/**
 * The processes that serve an attached volume (main/block-attach.ts), and how one has the next one started. One serves, one waits; both
 * have the descriptor of the mount. The one that waits is, if it can be, in another container than the one that serves, so
 * that it stays when that one's container ends: `block-node` and `block-keeper` start it for each other.
 *
 * Between the two is a channel, whose end is the end of the one that serves, to its last thread. On it
 *   it says   h   another one waits too: until it has ended, end with me
 *             w   it has
 *             e   the mount has ended, or another one waits in your place: end
 *   the other r   I am ready
 *             l   my container is about to end: let me go; it is, unless the one that serves is about to end too
 * So never do two serve. And a container that is told to end goes when none of these processes is left in it (main/attach-side.ts).
 * Both can be told at once, each with volumes that it serves: then that of `block-node` gives all of them to the other one, and goes
 * first.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { UnionError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { parseAcknowledgement } from '../../protocol/server-control.ts';
import { callDescriptorServer } from '../descriptor-client.ts';
import { type DescriptorRequest, DescriptorServer } from '../descriptor-server.ts';
import { errnoCode, socketPair } from '../syscalls.ts';
import { volumeDirectory } from './attached-volume.ts';

/** Numbers of descriptors in these processes. */
const CHANNEL = 3;
export const DEVICE = 4;
const HOLD = 'h';
const WAIT = 'w';
const END = 'e';
const READY = 'r';
const LEAVE = 'l';
/** Tells one of these processes that its container is about to end. Who does not listen yet goes on starting. */
export const LEAVE_SIGNAL = 'SIGURG';
/** The other container has as much to do as this one, and only starts a process. */
const ANSWER_LIMIT_MS = 5_000;

export interface AttachProcess {
  /** Runs `union-csi block-attach`: program and first arguments. */
  readonly server: readonly string[];
  /** Of the volume. */
  readonly directory: string;
  /** Descriptor of the mounted connection; stays the caller's. */
  readonly device: number;
  /** With it the process is one that waits. Stays the caller's. */
  readonly channel?: number;
}

/** In a session of its own: it stays when this process goes, if the container does. */
export function startAttachProcess({ server, directory, device, channel }: AttachProcess): void {
  const [program, ...args] = [...server, ...(channel === undefined ? [] : ['--standby']), directory];
  const log = openSync(join(directory, 'log'), 'a', 0o640);
  try {
    spawn(program!, args, { detached: true, stdio: ['ignore', log, log, channel ?? 'ignore', device] })
      .on('error', () => {}) // with its descriptors the connection or the channel ends
      .unref();
  } finally {
    closeSync(log);
  }
}

export interface NewWaiting {
  readonly device: number;
  readonly isAlone: boolean;
  readonly start: (descriptors: readonly [number, number]) => unknown;
}

/** The process that waits, as the one that serves sees it. */
export class Waiting {
  readonly #channel: Socket;
  readonly #gone: Promise<void>;
  #news = new AbortController();
  #said = '';

  private constructor(channel: number) {
    this.#channel = new Socket({ fd: channel, readable: true, writable: true });
    const changed = () => {
      this.#news.abort();
      this.#news = new AbortController();
    };
    this.#channel
      .on('data', (bytes) => {
        this.#said += bytes;
        changed();
      })
      .on('error', () => {});
    this.#gone = new Promise((resolve) => this.#channel.once('close', () => resolve()));
    void this.#gone.then(changed);
  }

  /** Aborts with the next change of what follows. */
  get news(): AbortSignal {
    return this.#news.signal;
  }

  get isReady(): boolean {
    return this.#said.includes(READY) && !this.isGone;
  }

  /** It wants to be let go. */
  get isLeaving(): boolean {
    return this.#said.includes(LEAVE);
  }

  get isGone(): boolean {
    return this.#channel.closed;
  }

  /** `start` gives the device and the other end of the channel to a new process. `isAlone`: no other one waits. */
  static async start({ device, isAlone, start }: NewWaiting): Promise<Waiting> {
    const [own, its] = socketPair();
    if (!isAlone) writeSync(own, HOLD);
    try {
      await start([device, its]);
    } catch (error) {
      // It may have been started all the same.
      writeSync(own, END);
      closeSync(own);
      throw error;
    } finally {
      closeSync(its);
    }
    return new Waiting(own);
  }

  /** The other one that waited has ended. */
  release(): void {
    this.#channel.write(WAIT);
  }

  /** Resolves when it cannot take over any more. */
  async end(): Promise<void> {
    this.#channel.write(END);
    await this.#gone;
  }
}

/** In a process that waits: resolves with true when it is to serve, with false when it is to end, as when it is let go. */
export async function isWanted(leaving: AbortSignal): Promise<boolean> {
  let said = '';
  const channel = new Socket({ fd: CHANNEL, readable: true, writable: true });
  // Not through the socket, which would not read on once nobody is there to be written to.
  const say = (what: string) => {
    try {
      if (!channel.destroyed) writeSync(CHANNEL, what);
    } catch (error) {
      if (errnoCode(error) !== 'EPIPE') throw error;
    }
  };
  say(READY);
  if (leaving.aborted) say(LEAVE);
  else leaving.addEventListener('abort', () => say(LEAVE), { once: true });
  await new Promise<void>((resolve) => {
    channel
      .on('data', (bytes) => {
        said += bytes;
        if (said.includes(END)) resolve();
      })
      .on('error', () => {})
      .once('close', () => resolve());
  });
  channel.destroy();
  return said === '' || said === HOLD + WAIT;
}

/** Comes with the mount's descriptor and one of a channel. */
export interface ProcessRequest {
  readonly volume: string;
  /** The container of the one that serves is about to end. */
  readonly isLeaving: boolean;
}

/** Has a process that waits started by whoever listens at `path`. Throws UNAVAILABLE when nobody does, or it is about to end. */
export async function askForProcess(
  path: string,
  message: ProcessRequest,
  descriptors: readonly number[],
): Promise<void> {
  const signal = AbortSignal.timeout(ANSWER_LIMIT_MS);
  const answer = parseAcknowledgement(await callDescriptorServer({ path, message, descriptors }, signal));
  if (!answer.ok) throw new UnionError('UNAVAILABLE', answer.error.message);
}

export interface StartingOptions {
  /** Where to listen. */
  readonly path: string;
  /** Where volumes' directories lie. */
  readonly volumes: string;
  /** As of AttachProcess. */
  readonly server: readonly string[];
  /** Whether one may be started now. */
  readonly admits: (request: ProcessRequest) => boolean;
  readonly log: Logger;
}

/** Starts processes that wait, for those that serve in the other container. */
export function startForOthers({ path, volumes, server, admits, log }: StartingOptions): DescriptorServer {
  const handle = async ({ message, descriptors }: DescriptorRequest) => {
    try {
      const [device, channel, extra] = descriptors;
      const { volume, isLeaving = false } = message as Partial<ProcessRequest>;
      if (typeof volume !== 'string' || device === undefined || channel === undefined || extra !== undefined)
        throw new UnionError('INVALID_ARGUMENT', 'a request names a volume, and comes with its device and a channel');
      if (!admits({ volume, isLeaving })) throw new UnionError('UNAVAILABLE', 'this container is about to end');
      startAttachProcess({ server, directory: volumeDirectory(volumes, volume), device, channel });
      return { ok: true };
    } finally {
      for (const descriptor of descriptors) closeSync(descriptor);
    }
  };
  return new DescriptorServer({ path, handle, log });
}
