/**
 * Loop devices over one file, by losetup(8): made once, found again, let go. The kernel calls the file "/" once the mount namespace of
 * whoever made the device has ended, so the device is also kept in a record of our own, with what no other one has: its
 * sequence number, which grows with each device that is made anywhere and when one is let go (Linux 5.15), and the machine's boot.
 */
import { appendFileSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { command } from './command.ts';
import { errnoCode } from './syscalls.ts';

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

/** A file that is to be a device, and where that is recorded. */
export interface LoopFile {
  readonly file: string;
  readonly record: string;
}

/** The file's devices: it may have one that is written to, and one that is not. */
export async function loopsOf({ file, record }: LoopFile, signal: AbortSignal): Promise<readonly LoopDevice[]> {
  const recorded = readOr(record, '').split('\n');
  const isIts = (loop: LoopDevice) => loop.file === file || recorded.includes(lineOf(loop.device));
  return (await loopDevices(signal)).filter(isIts);
}

/** Makes the file's device, whose I/O goes past the page cache of the file. */
export async function attachLoop(
  of: LoopFile,
  { readOnly }: { readonly readOnly: boolean },
  signal: AbortSignal,
): Promise<string> {
  const existing = (await loopsOf(of, signal)).find((loop) => loop.readOnly === readOnly);
  if (existing !== undefined) return existing.device;
  const options = ['--find', '--show', '--direct-io=on', '--sector-size', '4096', ...(readOnly ? ['--read-only'] : [])];
  const device = (await command('losetup', [...options, of.file], signal)).trim();
  appendFileSync(of.record, `${lineOf(device)}\n`);
  return device;
}

/** Resolves when the file has no device any more, of either kind. */
export async function detachLoop(of: LoopFile, clock: Clock, signal: AbortSignal): Promise<void> {
  for (let loops = await loopsOf(of, signal); loops.length > 0; loops = await loopsOf(of, signal)) {
    for (const { device } of loops) await command('losetup', ['--detach', device], signal);
    await clock.sleep(WAIT_MS, signal);
  }
}

function lineOf(device: string): string {
  const sequence = readOr(`/sys/block/${basename(device)}/diskseq`, '');
  return `${device} ${sequence.trim()} ${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}`;
}

function readOr(path: string, otherwise: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoCode(error) === 'ENOENT') return otherwise;
    throw error;
  }
}
