/** Loop devices over one file, by losetup(8): made once, found again, let go. */
import type { Clock } from '../base/clock.ts';
import { command } from './command.ts';

const WAIT_MS = 20;

export interface LoopDevice {
  readonly device: string;
  readonly readOnly: boolean;
  readonly file: string;
}

/** Every loop device and the file behind it, which may have been removed. Asks the kernel about devices only, never the files. */
export async function loopDevices(signal: AbortSignal): Promise<readonly LoopDevice[]> {
  const list = await command('losetup', ['--list', '--noheadings', '--raw', '--output', 'NAME,RO,BACK-FILE'], signal);
  return list.split('\n').flatMap((line) => {
    const [device = '', readOnly, ...rest] = line.split(' ');
    // Raw output writes spaces and the like as \x20.
    const path = rest
      .join(' ')
      .replace(/\\x([0-9a-f]{2})/g, (_all, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
    const file = path.replace(/ \(deleted\)$/, '');
    return file === '' ? [] : [{ device, readOnly: readOnly === '1', file }];
  });
}

/** The file's devices: it may have one that is written to, and one that is not. */
export async function loopsOf(file: string, signal: AbortSignal): Promise<readonly LoopDevice[]> {
  return (await loopDevices(signal)).filter((loop) => loop.file === file);
}

/** Makes the file's device, whose I/O goes past the page cache of the file. */
export async function attachLoop(
  file: string,
  { readOnly }: { readonly readOnly: boolean },
  signal: AbortSignal,
): Promise<string> {
  const existing = (await loopsOf(file, signal)).find((loop) => loop.readOnly === readOnly);
  if (existing !== undefined) return existing.device;
  const options = ['--find', '--show', '--direct-io=on', '--sector-size', '4096', ...(readOnly ? ['--read-only'] : [])];
  return (await command('losetup', [...options, file], signal)).trim();
}

/** Resolves when the file has no device any more, of either kind. */
export async function detachLoop(file: string, clock: Clock, signal: AbortSignal): Promise<void> {
  for (let loops = await loopsOf(file, signal); loops.length > 0; loops = await loopsOf(file, signal)) {
    for (const { device } of loops) await command('losetup', ['--detach', device], signal);
    await clock.sleep(WAIT_MS, signal);
  }
}
