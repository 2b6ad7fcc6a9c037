/** A session: one mounted connection, served by reader threads until it is unmounted. */
import { Worker } from 'node:worker_threads';
import { UnionFsError } from '../errors.ts';
import { MAX_READERS, WORD } from '../inode/layout.ts';
import type { State } from '../inode/state.ts';
import type { OpsConfig, OpsLogger } from '../ops/context.ts';
import * as libc from '../sys/libc.ts';
import type { ReaderData, ReaderMessage } from './messages.ts';

export interface Session {
  /** Resolves when the connection has ended (unmounted, or aborted) and every reader has stopped. */
  readonly ended: Promise<void>;
}

export interface SessionOptions {
  readonly state: State;
  /** A position of scratch memory for this thread. */
  readonly scratch: number;
  readonly config: OpsConfig;
  /** Of meter.ts. */
  readonly meters: SharedArrayBuffer;
  /** Descriptors of one mounted connection, a reader for each. They stay the caller's. */
  readonly devices: readonly number[];
  readonly log: OpsLogger;
  /** As many as there are descriptors; without them they are started now. */
  readonly readers?: PreparedReaders | undefined;
}

/** Threads that have loaded what a reader needs, and wait for a connection. */
export type PreparedReaders = readonly Worker[];

export function prepareReaders(count: number): PreparedReaders {
  return Array.from({ length: count }, startThread);
}

function startThread(): Worker {
  const file = new URL(`./reader${import.meta.url.slice(import.meta.url.lastIndexOf('.'))}`, import.meta.url);
  return new Worker(file, {
    stdin: false,
    resourceLimits: { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 64 },
  });
}

/**
 * Starts the readers; resolves once the kernel's INIT is answered or, after a dead server, what that had begun is finished. The
 * device must be mounted already.
 */
export async function startSession(options: SessionOptions): Promise<Session> {
  const { state, scratch, devices } = options;
  if (devices.length === 0 || devices.length >= MAX_READERS)
    throw new UnionFsError('EINVAL', `${devices.length} descriptors given; 1 to ${MAX_READERS - 1} can be served`);
  const cpus = allowedCpus(state, scratch);
  const serving = Promise.withResolvers<void>();
  // INIT is one reader's; what a dead server had begun may be in the buffer of each.
  let awaited = state.u32[WORD.initialised] === 0 ? 1 : devices.length;
  const onServing = () => {
    if (--awaited === 0) serving.resolve();
  };
  const readers = devices.map((deviceFd, thread) => {
    const cpu = devices.length > 1 ? (cpus[thread % cpus.length] ?? -1) : -1;
    return startReader(options, { thread, deviceFd, cpu }, onServing);
  });
  const ended = Promise.all(readers).then(() => {});
  await Promise.race([
    serving.promise,
    ended.then(() => {
      throw new UnionFsError('ENOTCONN', 'the mount ended before the kernel spoke to it; mount it again');
    }),
  ]);
  return { ended };
}

/** Resolves when the reader has stopped. */
function startReader(
  { state, config, meters, log, readers }: SessionOptions,
  own: Pick<ReaderData, 'thread' | 'deviceFd' | 'cpu'>,
  onServing: () => void,
): Promise<void> {
  const data: ReaderData = { ...own, stateFd: state.fd, config, meters };
  const worker = readers?.[own.thread] ?? startThread();
  worker.postMessage(data);
  worker.on('message', (message: ReaderMessage) => {
    if (message.kind === 'serving') onServing();
    else log[message.level](message.event, message.fields);
  });
  return new Promise((resolve) => {
    worker.on('error', (error) =>
      log.error('reader_failed', { thread: own.thread, error: error.stack ?? error.message }),
    );
    worker.on('exit', () => resolve());
  });
}

/** Numbers of the CPUs this process may run on. */
function allowedCpus(state: State, scratch: number): number[] {
  const bytes = libc.schedGetaffinity(0, 128, state.base + scratch);
  const cpus: number[] = [];
  for (let cpu = 0; cpu < bytes * 8; cpu++)
    if (((state.u8[scratch + (cpu >> 3)]! >> (cpu & 7)) & 1) === 1) cpus.push(cpu);
  return cpus;
}
