/** Processes that hold a lock on a file. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

export const LOCK_KINDS = ['flock', 'posix'] as const;
export type LockKind = (typeof LOCK_KINDS)[number];

/** Takes a lock, says whether it got it, and keeps it until it ends. */
const program = `
  import koffi from 'koffi';
  import { openSync } from 'node:fs';
  const libc = koffi.load('libc.so.6');
  const [kind, path] = process.argv.slice(1);
  const fd = openSync(path, 'r+');
  const got = kind === 'flock'
    ? libc.func('int flock(int, int)')(fd, 2 | 4)
    : libc.func('int lockf(int, int, int64_t)')(fd, 2, 10);
  console.log(got === 0 ? 'locked' : 'refused');
  process.stdin.resume();
`;

export async function takeLock(kind: LockKind, path: string): Promise<{ child: ChildProcess; answer: string }> {
  const args = ['--input-type=module', '-e', program, kind, path];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const [answer] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string];
  return { child, answer: answer.trim() };
}
