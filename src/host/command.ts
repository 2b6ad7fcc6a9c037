/** Runs the system's tools (mount, mkfs.ext4, losetup, …) without a shell, each in a process that can be killed. */
import { execFile } from 'node:child_process';
import { UnionError } from '../base/errors.ts';

/**
 * Resolves to what the command printed; rejects with its own words, and its exit code in `details.exitCode`. Given up, and killed,
 * when the signal fires.
 */
export function command(file: string, args: readonly string[], signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    // /usr/sbin holds losetup and mkfs.ext4 and is not in everybody's path; messages are matched, so no translations.
    const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
    execFile(file, [...args], { env, signal }, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      const why = error.code === 'ENOENT' ? 'not found; install it' : stderr.trim() || error.message;
      const details = { exitCode: error.code };
      reject(new UnionError('INTERNAL', `${file} ${args.at(-1)}: ${why}`, { cause: error, details }));
    });
  });
}
