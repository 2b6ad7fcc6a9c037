/** Loop devices over one file, by losetup(8): made once, found again, let go. */
import type { Clock } from '../base/clock.ts';
import { command } from './command.ts';

const WAIT_MS = 20;

/** The device of the file, if it has one. Asks the kernel about devices only, never the file. */
export async function loopOf(file: string, signal: AbortSignal): Promise<string | undefined> {
  const list = await command('losetup', ['--list', '--noheadings', '--raw', '--output', 'NAME,BACK-FILE'], signal);
  const line = list.split('\n').find((candidate) => candidate.slice(candidate.indexOf(' ') + 1) === file);
  return line?.slice(0, line.indexOf(' '));
}

/** Makes the file's device, whose I/O goes past the page cache of the file. */
export async function attachLoop(file: string, signal: AbortSignal): Promise<string> {
  const existing = await loopOf(file, signal);
  if (existing !== undefined) return existing;
  const options = ['--find', '--show', '--direct-io=on', '--sector-size', '4096'];
  return (await command('losetup', [...options, file], signal)).trim();
}

/** Resolves when the file has no device any more. */
export async function detachLoop(file: string, clock: Clock, signal: AbortSignal): Promise<void> {
  for (let device = await loopOf(file, signal); device !== undefined; device = await loopOf(file, signal)) {
    await command('losetup', ['--detach', device], signal);
    await clock.sleep(WAIT_MS, signal);
  }
}
