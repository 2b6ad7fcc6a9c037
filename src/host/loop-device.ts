/** Loop devices over one file, by losetup(8): made once, found again, let go. */
import type { Clock } from '../base/clock.ts';
import { command } from './command.ts';

const WAIT_MS = 20;

/** Every loop device and the file behind it, which may have been removed. Asks the kernel about devices only, never the files. */
export async function loopDevices(
  signal: AbortSignal,
): Promise<readonly { readonly device: string; readonly file: string }[]> {
  const list = await command('losetup', ['--list', '--noheadings', '--raw', '--output', 'NAME,BACK-FILE'], signal);
  return list.split('\n').flatMap((line) => {
    const [device = '', ...rest] = line.split(' ');
    // Raw output writes spaces and the like as \x20.
    const path = rest
      .join(' ')
      .replace(/\\x([0-9a-f]{2})/g, (_all, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
    const file = path.replace(/ \(deleted\)$/, '');
    return file === '' ? [] : [{ device, file }];
  });
}

/** The device of the file, if it has one. */
export async function loopOf(file: string, signal: AbortSignal): Promise<string | undefined> {
  return (await loopDevices(signal)).find((loop) => loop.file === file)?.device;
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
