/**
 * Serves one union in this process until it is unmounted.
 * Invariants: whatever fails before the mount answers leaves nothing mounted; afterwards only an unmount ends the process.
 * This process never opens or stats anything at or below the mountpoint while it serves it: it would wait for itself.
 */

import { closeSync } from 'node:fs';
import { cloneDevice, mountDevice, openDevice, openUnion, policyNames, withoutEffect } from '../../fuse/index.ts';
import { systemClock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { DescriptorServer } from '../host/descriptor-server.ts';
import { findHolders, formatHolders } from '../host/holders.ts';
import { removeControlSockets } from '../host/mount-control.ts';
import { probe, unionAt, unmountOnce } from '../host/mounter.ts';
import { realMountPath } from '../host/real-path.ts';
import { errnoCode } from '../host/syscalls.ts';
import { checkMachine, resolveBranches, resolveMountpoint } from './mount-checks.ts';
import { serveMountControl } from './mount-control.ts';
import type { MountRequest } from './mount-options.ts';
import { checkPolicies } from './policy-options.ts';
import { createStderrLogger } from './stderr-logger.ts';

export async function serveMount(request: MountRequest): Promise<number> {
  let silent = false;
  const log = createStderrLogger('union-csi mount', () => silent);
  checkPolicies(request.policies, policyNames);
  for (const sentence of withoutEffect(request.policies)) log.warn(sentence);
  checkMachine();
  const branches = resolveBranches(request.branches, request.minFreeSpaceBytes);
  await removeDeadMount(request.mountpoint, log);
  const mountpoint = resolveMountpoint(request.mountpoint, branches);
  const union = openUnion({
    branches,
    policies: request.policies,
    moveOnNoSpace: request.moveOnNoSpace,
    passthrough: true,
    cache: request.cache,
    readOnly: request.readOnly,
  });
  const devices = [openDevice()];
  let control: DescriptorServer | undefined;
  try {
    const { source, fsname = source, readOnly, restrictions } = request;
    mountDevice({ deviceFd: devices[0]!, mountpoint, fsname, readOnly, restrictions });
    unmountOnSignals(mountpoint, log);
    try {
      devices.push(...cloneDevice(devices[0]!));
      const device = unionAt(mountpoint)?.device;
      if (device !== undefined) control = serveMountControl({ union, request, mountpoint, device }, log);
      const session = await union.serve({ devices, log });
      silent = await tellParent();
      await session.ended;
      if (device === undefined || unionAt(mountpoint)?.device !== device) return 0;
      log.error('the kernel ended the connection; unmounting', { mountpoint });
      return 1;
    } finally {
      await control?.close();
      // Only when serving failed or the connection was aborted is there still something to unmount, and it is dead.
      if (unionAt(mountpoint) !== undefined) await unmountOnce(mountpoint, { lazy: true });
    }
  } finally {
    for (const device of devices) closeSync(device);
    union.close();
  }
}

/** In the background, tells the starting process that the mount answers, and lets go of it. */
async function tellParent(): Promise<boolean> {
  if (process.send === undefined) return false;
  process.chdir('/');
  process.stderr.on('error', () => {}); // its reader is about to go
  await new Promise((done) => process.send?.('ready', done));
  process.removeAllListeners('disconnect');
  process.disconnect();
  return true;
}

/** A server that was killed leaves a mount that answers nothing but ENOTCONN; it is of no use to anyone. */
async function removeDeadMount(written: string, log: Logger): Promise<void> {
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
 * do; a third one ends the process. A starting process that dies before the mount answers counts as a signal.
 */
function unmountOnSignals(mountpoint: string, log: Logger): void {
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
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal).once('disconnect', onSignal);
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
