/** How mounts of `union-csi mount` end: at a signal, or found dead. For processes that do not serve the mount, or may unmount it all the same. */
import { systemClock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { findHolders, formatHolders } from '../host/holders.ts';
import { removeControlSockets } from '../host/mount-control.ts';
import { probe, unionAt, unmountOnce } from '../host/mounter.ts';
import { realMountPath } from '../host/real-path.ts';
import { errnoCode } from '../host/syscalls.ts';

/** In the background, tells the starting process that the mount answers, and lets go of it. */
export async function tellParent(): Promise<boolean> {
  if (process.send === undefined) return false;
  process.chdir('/');
  process.stderr.on('error', () => {}); // its reader is about to go
  await new Promise((done) => process.send?.('ready', done));
  process.removeAllListeners('disconnect');
  process.disconnect();
  return true;
}

/** A server that was killed leaves a mount that answers nothing but ENOTCONN; it is of no use to anyone. */
export async function removeDeadMount(written: string, log: Logger): Promise<void> {
  const path = realMountPath(written);
  if (path === undefined) return; // no such place: told by the checks that follow
  for (let dead = unionAt(path); dead !== undefined; dead = unionAt(path)) {
    if ((await probe(path, AbortSignal.timeout(10_000))).kind !== 'dead') return;
    log.warn('removing the mount that a killed server left', { mountpoint: path });
    removeControlSockets(dead.device);
    await unmountOnce(path, { lazy: true });
  }
}

const BUSY_RETRY_MS = 200;

/**
 * The first signal unmounts as soon as nobody uses the mount, the second detaches it at once and serves on for those who still
 * do; a third one ends the process. `starter`: the channel to the starting process, whose death before the mount answers counts
 * as a signal.
 */
export function unmountOnSignals(mountpoint: string, log: Logger, starter?: NodeJS.Process): void {
  const detach = new AbortController();
  let unmounting = false;
  const onSignal = () => {
    if (unmounting) {
      detach.abort();
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
      return;
    }
    unmounting = true;
    unmountWhenFree(mountpoint, log, detach.signal).catch((error: unknown) => {
      unmounting = false;
      log.error('cannot unmount', { mountpoint, error });
    });
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  starter?.once('disconnect', onSignal);
}

async function unmountWhenFree(mountpoint: string, log: Logger, detach: AbortSignal): Promise<void> {
  for (let told = false; ; told = true) {
    try {
      await unmountOnce(mountpoint, { lazy: detach.aborted });
      return;
    } catch (error) {
      if (errnoCode(error) !== 'EBUSY') throw error;
    }
    if (!told) {
      const holders = formatHolders(findHolders(mountpoint));
      log.warn(`${mountpoint} is in use by ${holders}; unmounting when they end, or at a second signal`);
    }
    await systemClock.sleep(BUSY_RETRY_MS, detach).catch(() => {});
  }
}
