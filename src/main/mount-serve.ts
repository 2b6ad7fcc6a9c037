/**
 * Serves one union in this process until it is unmounted.
 * Invariants: whatever fails before the mount answers leaves nothing mounted; afterwards only an unmount ends the process.
 * This process never opens or stats anything at or below the mountpoint while it serves it: it would wait for itself.
 */

import { closeSync } from 'node:fs';
import {
  cloneDevice,
  isMounted,
  mountDevice,
  openDevice,
  openUnion,
  policyNames,
  withoutEffect,
} from '../../fuse/index.ts';
import type { PreparedReaders } from '../../fuse/reader-threads.ts';
import type { DescriptorServer } from '../host/descriptor-server.ts';
import { unionAt, unmountOnce } from '../host/mounter.ts';
import { checkMachine, resolveBranches, resolveMountpoint } from './mount-checks.ts';
import { serveMountControl } from './mount-control.ts';
import { removeDeadMount, tellParent, unmountOnSignals } from './mount-end.ts';
import type { MountRequest } from './mount-options.ts';
import { checkPolicies } from './policy-options.ts';
import { createStderrLogger } from './stderr-logger.ts';

export async function serveMount(request: MountRequest, readers: PreparedReaders): Promise<number> {
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
    unmountOnSignals(mountpoint, log, process);
    const device = unionAt(mountpoint)?.device;
    // After the unmount the place may be the next union's already, with the same device number.
    const isInPlace = () => isMounted(devices[0]!) && device !== undefined && unionAt(mountpoint)?.device === device;
    try {
      devices.push(...cloneDevice(devices[0]!));
      if (device !== undefined) control = serveMountControl({ union, request, mountpoint, device }, log);
      const session = await union.serve({ devices, log, readers });
      silent = await tellParent();
      await session.ended;
      if (!isInPlace()) return 0;
      log.error('the kernel ended the connection; unmounting', { mountpoint });
      return 1;
    } finally {
      await control?.close();
      // Only when serving failed or the connection was aborted is there still something to unmount, and it is dead.
      if (isInPlace()) await unmountOnce(mountpoint, { lazy: true });
    }
  } finally {
    for (const device of devices) closeSync(device);
    await union.close();
  }
}
