/**
 * The server of a kept mount. It loads everything and starts its threads, then waits for the word of its keeper: the server before
 * it may be alive and serve. This process never touches the mount.
 */
import type { ChildProcess } from 'node:child_process';
import { openUnion, prepareReaders } from '../../fuse/index.ts';
import { KEEPER, type KeptMount, type Message, ownDescriptors, startKept } from './kept-process.ts';
import { serveMountControl } from './mount-control.ts';
import { unmountOnSignals } from './mount-end.ts';
import { createStderrLogger } from './stderr-logger.ts';

export async function serveKept(text: string): Promise<number> {
  const mount: KeptMount = JSON.parse(text);
  process.stderr.on('error', () => {}); // in the background its reader has gone
  const log = createStderrLogger('union-csi mount', () => false);
  const readers = prepareReaders(mount.readers);
  if (!(await isWanted())) process.exit(0);
  const { state, devices } = ownDescriptors(mount);
  const { branches, policies, moveOnNoSpace, cache, readOnly, mountpoint, device } = mount;
  const union = openUnion({ branches, policies, moveOnNoSpace, passthrough: true, cache, readOnly, state });
  unmountOnSignals(mountpoint, log);
  const control = serveMountControl({ union, request: mount, mountpoint, device }, log);
  const session = await union.serve({ devices, log, readers });
  const link = new KeeperLink(mount);
  link.tell('serving');
  await session.ended;
  link.end();
  await control?.close();
  await union.close();
  return 0;
}

/** False when the keeper dies before it wants a server: another keeper starts another. */
async function isWanted(): Promise<boolean> {
  return await new Promise((resolve) => {
    process.once('message', () => resolve(true)).once('disconnect', () => resolve(false));
    if (!process.connected) resolve(false);
  });
}

/** The channel to the keeper. When that dies, another one is started, which is told as the first was. */
class KeeperLink {
  readonly #mount: KeptMount;
  #keeper: NodeJS.Process | ChildProcess = process;
  #ended = false;

  constructor(mount: KeptMount) {
    this.#mount = mount;
    if (process.connected) process.on('disconnect', this.#startAgain);
    else this.#startAgain();
  }

  tell(message: Message): void {
    if (this.#keeper.connected) this.#keeper.send?.(message);
  }

  end(): void {
    this.#ended = true;
    this.tell('ended');
    if (this.#keeper.connected) this.#keeper.disconnect?.();
  }

  readonly #startAgain = (): void => {
    if (this.#ended) return;
    const keeper = startKept(KEEPER, this.#mount, ownDescriptors(this.#mount));
    keeper.on('error', () => {}).on('disconnect', this.#startAgain);
    this.#keeper = keeper;
  };
}
