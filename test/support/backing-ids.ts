/** The lower files that a connection has for passthrough: the kernel lists them nowhere, so they are counted by closing them. */
import { closeSync } from 'node:fs';
import koffi from 'koffi';
import { DEV_IOC_BACKING_CLOSE, DEV_IOC_BACKING_OPEN } from '../../fuse/protocol/abi.ts';
import * as libc from '../../fuse/sys/libc.ts';
import { descriptorsOf } from './descriptors.ts';

const [SYS_PIDFD_OPEN, SYS_PIDFD_GETFD] = [434, 438];
const syscall = koffi.load('libc.so.6').func('long syscall(long, int, int, unsigned int)');

/** Closes all that there are: their numbers. To be called when there should be none. */
export function closeBackingIds(device: number): number[] {
  const next = nextId(device);
  const ids = Array.from({ length: next - 1 }, (_, index) => index + 1);
  const close = (id: number) => libc.withWord(id, (address) => libc.ioctl(device, DEV_IOC_BACKING_CLOSE, address));
  close(next);
  return ids.filter((id) => close(id) === 0);
}

/** They are given out in turn. */
function nextId(device: number): number {
  const state = libc.withCString('any', (name) => libc.memfdCreate(name, 1));
  const request = libc.malloc(16);
  new Uint32Array(libc.viewOf(request, 16)).set([state, 0, 0, 0]);
  const id = libc.ioctl(device, DEV_IOC_BACKING_OPEN, request);
  libc.free(request);
  closeSync(state);
  if (id <= 0) throw new Error(`no backing id: ${id}`);
  return id;
}

/** The connection of another process, by a descriptor of our own: the caller's, to be closed. */
export function deviceOf(pid: number): number {
  const number = descriptorsOf(pid).find(({ target }) => target === '/dev/fuse')?.number;
  const process = Number(syscall(SYS_PIDFD_OPEN, pid, 0, 0));
  const device = Number(syscall(SYS_PIDFD_GETFD, process, Number(number), 0));
  closeSync(process);
  if (device < 0) throw new Error(`cannot get the connection of process ${pid}`);
  return device;
}
