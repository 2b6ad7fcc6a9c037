/** Paths as /proc/self/mountinfo has them, found without asking the last component, which may be a mount that hangs. */
import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { errnoCode } from './syscalls.ts';

/** Undefined where the parent directory does not exist. */
export function realMountPath(path: string): string | undefined {
  const absolute = resolve(path);
  try {
    return join(realpathSync(dirname(absolute)), basename(absolute));
  } catch (error) {
    if (errnoCode(error) === 'ENOENT' || errnoCode(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}
