/** Real faults of filesystems, for tests: each is what the kernel itself does when a disk or a server fails. */
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import koffi from 'koffi';
import { runProgram } from './loop-branches.ts';

/** EXT4_IOC_SHUTDOWN of ext4.h, and its argument for "write nothing more, not even the log". */
const EXT4_IOC_SHUTDOWN = 0x8004587d;
const SHUTDOWN_NO_LOG = 2;

/** From now on the filesystem answers EIO to whatever takes the disk. */
export function shutDown(mountpoint: string): void {
  const ioctl = koffi.load('libc.so.6').func('int ioctl(int, unsigned long, uint32_t *)');
  const descriptor = openSync(mountpoint, 'r');
  try {
    if (ioctl(descriptor, EXT4_IOC_SHUTDOWN, [SHUTDOWN_NO_LOG]) !== 0)
      throw new Error(`cannot shut ${mountpoint} down`);
  } finally {
    closeSync(descriptor);
  }
}

/** As if the kernel had found ext4's structures damaged: with errors=remount-ro it takes no changes from now on. */
export function damage(mountpoint: string): void {
  const device = deviceOf(mountpoint);
  writeFileSync(`/sys/fs/ext4/${device}/trigger_fs_error`, 'damaged by a test\n');
}

/** Whoever changes something waits. */
export function freeze(mountpoint: string): void {
  runProgram('fsfreeze', ['--freeze', mountpoint]);
}

export function thaw(mountpoint: string): void {
  runProgram('fsfreeze', ['--unfreeze', mountpoint]);
}

/** The loop device that is mounted there. */
function deviceOf(mountpoint: string): string {
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((text) => text.split(' ')[4] === mountpoint);
  const device = line?.split(' - ')[1]?.split(' ')[1];
  if (device === undefined) throw new Error(`nothing is mounted at ${mountpoint}`);
  return device.slice('/dev/'.length);
}

/** Mounts an image where it was, once whatever still holds it has let go of it. */
export function mountImage(image: string, mountpoint: string): void {
  runProgram('mount', ['-t', 'ext4', '-o', 'loop', image, mountpoint]);
}

/** The errno name with which an action fails, or `none`. */
export function codeOf(action: () => unknown): string {
  try {
    action();
    return 'none';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}
