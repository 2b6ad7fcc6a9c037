/** A session: one mounted connection, served by reader threads until it is unmounted. */
import { UnionFsError } from '../errors.ts';
import { MAX_READERS } from '../inode/layout.ts';
import { Readers, type ReadersOptions } from './readers.ts';
import type { Watch } from './watch.ts';

export interface Session {
  /** Resolves when the connection has ended (unmounted, or aborted) and every reader has stopped; never after `handOver`. */
  readonly ended: Promise<void>;
  /**
   * Finishes what was begun and begins no more, so that another server can go on. Then the process is to be killed (SIGKILL): a reader
   * that waits for a request in read(2) cannot be told, and one that gets a request there leaves it to the successor.
   */
  handOver(): Promise<void>;
}

/** What takes longer, the next server finishes by the journal: others shall not wait for it. */
export const HAND_OVER_LIMIT_MS = 250;

/** A request that takes longer may be waiting for its branch. */
const MOMENT_MS = 100;

/**
 * Starts the readers; resolves once the kernel's INIT is answered or, after a dead server, what that had begun is finished. The
 * device must be mounted already.
 */
export async function startSession(options: ReadersOptions & { readonly watch: Watch }): Promise<Session> {
  const { devices, watch, log } = options;
  if (devices.length === 0 || devices.length > MAX_READERS)
    throw new UnionFsError('EINVAL', `${devices.length} descriptors given; 1 to ${MAX_READERS} can be served`);
  const readers = new Readers(options);
  watch.begin(devices[0]!);
  const supervision = setInterval(() => watch.tick(readers.takeStock(), log), MOMENT_MS);
  const ended = readers.ended.finally(() => clearInterval(supervision));
  await Promise.race([
    readers.serving,
    ended.then(() => {
      throw new UnionFsError('ENOTCONN', 'the mount ended before the kernel spoke to it; mount it again');
    }),
  ]);
  const handOver = async () => {
    clearInterval(supervision);
    await readers.stop(HAND_OVER_LIMIT_MS);
  };
  return { ended, handOver };
}
