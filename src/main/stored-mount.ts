/**
 * The mount of a keeper in systemd's descriptor store: when keeper and servers are all killed, the next keeper finds it there
 * (deploy/systemd).
 */
import { closeSync } from 'node:fs';
import { isMounted } from '../../fuse/index.ts';
import { forgetDescriptors, storeDescriptors, storedDescriptors } from '../host/service-manager.ts';
import type { Descriptors } from './kept-process.ts';

const STATE = 'union-state';
const device = (index: number) => `union-device-${index}`;

export function storeMount({ state, devices }: Descriptors): void {
  storeDescriptors({ [STATE]: state, ...Object.fromEntries(devices.map((fd, index) => [device(index), fd])) });
}

/** What was stored, if it is a mount still. Readers have the descriptors in the order in which they had them before. */
export function findStoredMount(): Descriptors | undefined {
  const stored = storedDescriptors();
  const state = stored.get(STATE);
  const devices: number[] = [];
  for (let fd = stored.get(device(0)); fd !== undefined; fd = stored.get(device(devices.length))) devices.push(fd);
  if (state !== undefined && devices.length > 0 && isMounted(devices[0]!)) return { state, devices };
  for (const fd of stored.values()) closeSync(fd);
  if (stored.size > 0) forgetDescriptors([...stored.keys()]);
  return undefined;
}
