/**
 * `union-csi block-attach`: serves a block volume as a file for a loop device, on a FUSE connection that it is given. Two processes
 * hold the connection's descriptor: one serves, the other waits, loaded and ready. When the one that serves dies, to its last
 * thread, the other serves, and starts the next; requests wait meanwhile. When the one that waits dies, another is started.
 * The end of the connection, an unmount, ends both. Not meant for people: block-node starts it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { serveFile } from '../../fuse/index.ts';
import { messageOf } from '../base/errors.ts';
import { type AttachConfig, readAttachConfig } from '../host/block/attached-volume.ts';
import { VolumeClient } from '../host/block/volume-client.ts';
import { readTlsFiles } from '../host/tls.ts';
import { parseFlags, UsageError } from './flags.ts';
import { createLogger } from './logging.ts';

/** Number of the connection's descriptor in both processes; 3 is the channel between them. */
const DEVICE = 4;
/** One that follows another sooner waits so long: what killed that one may kill it too. */
const PAUSE_MS = 1_000;

const HELP = `usage: union-csi block-attach [--standby] DIRECTORY

Serves the volume that DIRECTORY/attach.json tells of on the FUSE connection of descriptor ${DEVICE}.
Started by block-node.
`;

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseFlags(HELP, {
    args: argv,
    allowPositionals: true,
    options: { standby: { type: 'boolean' } },
  });
  const [directory] = positionals;
  if (directory === undefined || positionals.length > 1) throw new UsageError('give one directory; see --help');
  // The mount decides when this ends: what depends on it must not be cut off.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => {});
  const isSuccessor = values.standby === true;
  if (isSuccessor && !(await isWanted())) return 0;
  try {
    await serve(directory, isSuccessor);
    return 0;
  } catch (error) {
    createLogger('block-attach').error('attach.failed', { directory, message: messageOf(error) });
    // At once: a read of the connection that waits would keep an ordinary exit from ending.
    process.kill(process.pid, 'SIGKILL');
    return 1;
  }
}

/** Resolves with true when the process that serves has died, with false when the connection has ended. */
async function isWanted(): Promise<boolean> {
  const startedAt = performance.now();
  const wanted = await new Promise<boolean>((resolve) => {
    process.once('message', () => resolve(false)).once('disconnect', () => resolve(true));
    if (!process.connected) resolve(true);
  });
  const leftMs = startedAt + PAUSE_MS - performance.now();
  if (wanted && leftMs > 0) await delay(leftMs);
  return wanted;
}

async function serve(directory: string, isSuccessor: boolean): Promise<void> {
  const log = createLogger('block-attach').child({ directory });
  const config = configIn(directory);
  const content = new VolumeClient({
    exportName: config().exportName,
    config,
    tls: () => readTlsFiles(config().tls),
    log,
  });
  const standby = new Standby(directory);
  log.info('attach.serving', { isSuccessor });
  await serveFile({ device: DEVICE, content, isSuccessor });
  standby.end();
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

/** The process that waits. */
class Standby {
  readonly #directory: string;
  #child: ChildProcess;
  #ended = false;

  constructor(directory: string) {
    this.#directory = directory;
    this.#child = this.#start();
  }

  end(): void {
    this.#ended = true;
    if (!this.#child.connected) return;
    this.#child.send('ended', () => this.#child.disconnect());
  }

  #start(): ChildProcess {
    const args = [...process.execArgv, process.argv[1]!, 'block-attach', '--standby', this.#directory];
    const child = spawn(process.execPath, args, {
      detached: true,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', DEVICE],
    });
    const startedAt = performance.now();
    child.on('error', () => {});
    child.once('exit', () => {
      const pauseMs = Math.max(0, startedAt + PAUSE_MS - performance.now());
      setTimeout(() => {
        if (!this.#ended) this.#child = this.#start();
      }, pauseMs);
    });
    return child;
  }
}
