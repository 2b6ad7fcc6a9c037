/**
 * `union-csi mount`: a union of directories on this machine, without a cluster.
 *
 * In the background (the default) this process only starts a second one, `mount -f` detached, passes on what it says, and
 * returns when the mount answers. The second process serves the union until it is unmounted; from then on it is silent.
 * Only that one loads the filesystem, so that both together start fast.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { ROLE } from './kept-process.ts';
import { parseMountArguments } from './mount-options.ts';

export async function run(argv: string[]): Promise<number> {
  // How the processes of a kept mount start each other (kept-process.ts).
  if (argv[0] === ROLE.keeper) return await (await import('./mount-keep.ts')).keepAgain(argv[1]!);
  if (argv[0] === ROLE.server) return await (await import('./mount-kept.ts')).serveKept(argv[1]!);
  if (argv[0] === ROLE.refuser) return await (await import('./mount-refuse.ts')).refuse(argv[1]!);
  const request = parseMountArguments(argv);
  if (!request.foreground) return await startInBackground(argv);
  if (request.keep !== undefined) return await (await import('./mount-keep.ts')).keepMount(request);
  // Loads while this thread loads the rest.
  const { prepareReaders } = await import('../../fuse/reader-threads.ts');
  const readers = prepareReaders(1);
  const { serveMount } = await import('./mount-serve.ts');
  return await serveMount(request, readers);
}

async function startInBackground(argv: readonly string[]): Promise<number> {
  const entry = process.argv[1]!;
  const child = spawn(process.execPath, [...process.execArgv, entry, 'mount', '--foreground', ...argv], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const stderr = child.stderr!;
  stderr.pipe(process.stderr);
  // The child is in a session of its own, so Ctrl-C reaches this process alone.
  const stop = () => child.kill('SIGTERM');
  process.on('SIGINT', stop).on('SIGTERM', stop);
  // Its only message says that the mount answers.
  const ready = once(child, 'message').then(() => 0);
  const closed = once(child, 'close').then(([code]: (number | null)[]) => code ?? 1);
  return await Promise.race([ready, closed]);
}
