/**
 * The server of a kept mount. It loads everything and starts its threads, then waits for the word of its keeper: the server before
 * it may be alive and serve. This process never touches the mount.
 */
import { openUnion, unreadableState } from '../../fuse/index.ts';
import { prepareReaders } from '../../fuse/reader-threads.ts';
import { KeeperLink } from './keeper-link.ts';
import { type KeptMount, ownDescriptors, send } from './kept-process.ts';
import { serveMountControl } from './mount-control.ts';
import { unmountOnSignals } from './mount-end.ts';
import { createStderrLogger } from './stderr-logger.ts';

export async function serveKept(text: string): Promise<number> {
  const mount: KeptMount = JSON.parse(text);
  process.stderr.on('error', () => {}); // in the background its reader has gone
  const log = createStderrLogger('union-csi mount', () => false);
  const { state, devices } = ownDescriptors(mount);
  const unfit = unreadableState(state);
  const readers = unfit === undefined ? prepareReaders(mount.readers) : [];
  send(process, unfit === undefined ? 'ready' : { unfit });
  if (!(await isWanted())) process.exit(0);
  const { branches, policies, moveOnNoSpace, cache, readOnly, mountpoint, device } = mount;
  const union = openUnion({ branches, policies, moveOnNoSpace, passthrough: true, cache, readOnly, state });
  unmountOnSignals(mountpoint, log);
  // An exit would wait for readers that wait for requests.
  process.on('uncaughtException', (error) => {
    log.error('the server of the mount fails', { mountpoint, error });
    process.kill(process.pid, 'SIGKILL');
  });
  const session = await union.serve({ devices, log, readers });
  const link = new KeeperLink(mount, () => session.handOver());
  const upgrade = () => link.upgrade();
  const control = serveMountControl({ union, request: mount, mountpoint, device, upgrade }, log);
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
