/** What the kernel says of the mounts of this process, without asking the filesystems: an unmounted or broken one hangs nobody. */
import { readFileSync } from 'node:fs';

export interface KnownMount {
  /** Mounted read-only, or made so by an error (ext4 calls that `emergency_ro`). */
  readonly isReadOnly: boolean;
  /** Shut down: nothing more is written or read. */
  readonly isShutDown: boolean;
}

/** All mounts by their ids. Format: proc_pid_mountinfo(5). */
export function readMounts(): ReadonlyMap<number, KnownMount> {
  const mounts = new Map<number, KnownMount>();
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [fields = '', filesystem = ''] = line.split(' - ');
    const [id, , , , , own = ''] = fields.split(' ');
    const options = [...own.split(','), ...(filesystem.split(' ')[2] ?? '').split(',')];
    mounts.set(Number(id), {
      isReadOnly: options.includes('ro') || options.includes('emergency_ro'),
      isShutDown: options.includes('shutdown'),
    });
  }
  return mounts;
}

/** Id of the mount that a descriptor is on. */
export function mountIdOf(descriptor: number): number {
  return Number(/^mnt_id:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8'))?.[1]);
}
