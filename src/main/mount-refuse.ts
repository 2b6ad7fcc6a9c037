/**
 * In place of the server of a kept mount that died too often: answers EIO to all, and says why on the control socket. Each minute, and
 * when it is asked to, it has the keeper try another server.
 */
import { refuseRequests } from '../../fuse/index.ts';
import { UnionError } from '../base/errors.ts';
import { DescriptorServer } from '../host/descriptor-server.ts';
import { prepareControlSocket } from '../host/mount-control.ts';
import { parseMountControlRequest } from '../protocol/mount-control.ts';
import { KeeperLink } from './keeper-link.ts';
import { type KeptMount, ownDescriptors } from './kept-process.ts';
import { unmountOnSignals } from './mount-end.ts';
import { createStderrLogger } from './stderr-logger.ts';

const RETRY_MS = 60_000;

export async function refuse(text: string): Promise<number> {
  const mount: KeptMount = JSON.parse(text);
  process.stderr.on('error', () => {}); // in the background its reader has gone
  const log = createStderrLogger('union-csi mount', () => false);
  unmountOnSignals(mount.mountpoint, log);
  const ended = refuseRequests(ownDescriptors(mount));
  const link = new KeeperLink(mount, async () => {});
  link.tell('refusing');
  const retry = setInterval(() => void link.upgrade().catch(() => {}), RETRY_MS);
  const control = listen(mount, link);
  await ended;
  clearInterval(retry);
  link.end();
  await control.close();
  return 0;
}

function listen({ device, mountpoint, keep }: KeptMount, link: KeeperLink): DescriptorServer {
  const remedy = `try another one with union-csi upgrade ${mountpoint}`;
  return new DescriptorServer({
    path: prepareControlSocket(device),
    handle: async ({ message }) => {
      const request = parseMountControlRequest(message);
      if (!request.ok || request.value.op !== 'upgrade')
        throw new UnionError(
          'UNAVAILABLE',
          `the server of ${mountpoint} died ${keep} times in a minute; all is answered EIO; ${remedy}`,
        );
      await link.upgrade();
      return { ok: true };
    },
    log: createStderrLogger('union-csi mount', () => false),
  });
}
