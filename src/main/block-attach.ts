/**
 * `union-csi block-attach`: serves a block volume as a file for a loop device, on a FUSE connection that it is given. One process
 * serves, another one waits, loaded and ready (host/block/attach-processes.ts). When the one that serves dies, to its last
 * thread, the other serves, and has the next one started; requests wait meanwhile. When the one that waits dies, another is started.
 * The end of the connection, an unmount, ends both. Not meant for people: block-node and block-keeper start it.
 */
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { serveFile } from '../../fuse/index.ts';
import { messageOf } from '../base/errors.ts';
import {
  askForProcess,
  DEVICE,
  isWanted,
  LEAVE_SIGNAL,
  type NewWaiting,
  startAttachProcess,
  Waiting,
} from '../host/block/attach-processes.ts';
import { type AttachConfig, readAttachConfig } from '../host/block/attached-volume.ts';
import { VolumeClient } from '../host/block/volume-client.ts';
import { readTlsFiles } from '../host/tls.ts';
import { parseFlags, UsageError } from './flags.ts';
import { createLogger } from './logging.ts';

/** Of a timer: 24 days. */
const FOREVER_MS = 2 ** 31 - 1;
/** One that follows another sooner waits so long: what killed that one may kill it too. How often the other container is looked for. */
const PAUSE_MS = 1_000;

const HELP = `usage: union-csi block-attach [--standby] [--other SOCKET] DIRECTORY

Serves the volume that DIRECTORY/attach.json tells of on the FUSE connection of descriptor ${DEVICE}.
With --other, the process that waits is started by whoever listens there, when somebody does.
Started by block-node and block-keeper.
`;

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseFlags(HELP, {
    args: argv,
    allowPositionals: true,
    options: { standby: { type: 'boolean' }, other: { type: 'string' } },
  });
  const [directory] = positionals;
  if (directory === undefined || positionals.length > 1) throw new UsageError('give one directory; see --help');
  // The mount decides when this ends: what depends on it must not be cut off.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => {});
  const leaving = new AbortController();
  process.on(LEAVE_SIGNAL, () => leaving.abort());
  const isSuccessor = values.standby === true;
  if (isSuccessor) {
    const startedAt = performance.now();
    if (!(await isWanted(leaving.signal))) return 0;
    await delay(Math.max(0, startedAt + PAUSE_MS - performance.now()));
  }
  try {
    await serve({ directory, isSuccessor, other: values.other, leaving: leaving.signal });
    return 0;
  } catch (error) {
    createLogger('block-attach').error('attach.failed', { directory, message: messageOf(error) });
    // At once: a read of the connection that waits would keep an ordinary exit from ending.
    process.kill(process.pid, 'SIGKILL');
    return 1;
  }
}

interface Place {
  readonly directory: string;
  /** Socket of the other container. */
  readonly other: string | undefined;
  /** Aborts when this container is about to end. */
  readonly leaving: AbortSignal;
}

async function serve({ isSuccessor, ...place }: Place & { readonly isSuccessor: boolean }): Promise<void> {
  const { directory } = place;
  const log = createLogger('block-attach').child({ directory });
  const config = configIn(directory);
  const content = new VolumeClient({
    exportName: config().exportName,
    config,
    tls: () => readTlsFiles(config().tls),
    log,
  });
  const ended = new AbortController();
  const waiting = new Standby(place).keep(ended.signal);
  log.info('attach.serving', { isSuccessor });
  await serveFile({ device: DEVICE, content, isSuccessor });
  ended.abort();
  await waiting;
  content.close();
  log.info('attach.ended');
}

/** As it was last, while the file cannot be read. */
function configIn(directory: string): () => AttachConfig {
  let config: AttachConfig = readAttachConfig(directory);
  return () => {
    try {
      config = readAttachConfig(directory);
    } catch {
      // it is being written, or has gone with the volume
    }
    return config;
  };
}

/** The process that waits: in the other container when somebody is there to start it, else here. */
class Standby {
  readonly #place: Place;
  #waiting: Waiting | undefined;
  /** In the other container. */
  #isThere = false;

  constructor(place: Place) {
    this.#place = place;
  }

  /**
   * Has one wait until the signal aborts. When this container is about to end, this process ends as soon as that one can go on in
   * the other.
   */
  async keep(signal: AbortSignal): Promise<void> {
    const { other, leaving } = this.#place;
    while (!signal.aborted) {
      const startedAt = performance.now();
      // Who is about to end when this container is too stays: it is to serve.
      if (this.#waiting?.isLeaving && !leaving.aborted) await this.#waiting.end();
      if (this.#waiting?.isGone) this.#waiting = undefined;
      if (this.#waiting === undefined) this.#isThere = false;
      if (!this.#isThere) await this.#start();
      const waiting = this.#waiting;
      if (leaving.aborted && this.#isThere && waiting?.isReady) process.kill(process.pid, 'SIGKILL');
      const isBest = this.#isThere || (waiting !== undefined && other === undefined);
      const news = [signal, ...(leaving.aborted ? [] : [leaving]), ...(waiting ? [waiting.news] : [])];
      await sleep(isBest ? FOREVER_MS : PAUSE_MS, AbortSignal.any(news));
      await sleep(startedAt + PAUSE_MS - performance.now(), signal);
    }
    void this.#waiting?.end();
  }

  async #start(): Promise<void> {
    const { directory, other, leaving } = this.#place;
    const request = { volume: basename(directory), isLeaving: leaving.aborted };
    const isAlone = this.#waiting === undefined;
    // What fails now is done another time, or here.
    const started = (start: NewWaiting['start']) =>
      Waiting.start({ device: DEVICE, isAlone, start }).catch(() => undefined);
    const better = other && (await started((descriptors) => askForProcess(other, request, descriptors)));
    if (better) {
      await this.#waiting?.end();
      if (!isAlone) better.release();
      this.#waiting = better;
      this.#isThere = true;
    } else if (this.#waiting === undefined) {
      const server = [process.execPath, ...process.execArgv, process.argv[1]!, 'block-attach'];
      if (other !== undefined) server.push('--other', other);
      this.#waiting = await started(([device, channel]) => startAttachProcess({ server, directory, device, channel }));
    }
  }
}

async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  await delay(Math.max(0, ms), undefined, { signal }).catch(() => {});
}
