/**
 * `loop.embedded.union.csi.dev`: a volume is an ext4 filesystem in a sparse image file, with a real size and real ENOSPC,
 * which grows while mounted.
 * `mount -o loop` makes the loop device with LO_FLAGS_AUTOCLEAR: it goes with the last mount, so none can leak, whoever is killed.
 */
import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import { UnionError } from '../../base/errors.ts';
import { command } from './command.ts';
import type { Backend } from './lower-driver.ts';

export const loopBackend: Backend = {
  name: 'loop.embedded.union.csi.dev',
  stages: true,

  async make(directory, sizeBytes, signal) {
    const image = imageOf(directory);
    await command('truncate', ['--size', String(sizeBytes), image], signal);
    // The file is all zeros already: nothing to write ahead of use. No blocks are kept back for root.
    const options = ['-q', '-F', '-b', '4096', '-m', '0', '-E', 'nodiscard,lazy_itable_init=1,lazy_journal_init=1'];
    await command('mkfs.ext4', [...options, image], signal);
  },

  async assertUnused(directory, signal) {
    const device = await deviceOf(directory, signal);
    if (device)
      throw new UnionError('FAILED_PRECONDITION', `${imageOf(directory)} is in use by ${device}; unmount it first`);
  },

  async stage(directory, stagingPath, mountFlags, signal) {
    const options = ['loop', ...mountFlags].join(',');
    await command('mount', ['--no-mtab', '-t', 'ext4', '-o', options, imageOf(directory), stagingPath], signal);
    // It may have grown while it was not mounted; nothing to do is the usual case, and quick.
    await fillDevice(directory, signal);
  },

  publishSource: (_directory, stagingPath) => stagingPath,

  async grow(directory, sizeBytes, signal) {
    truncateSync(imageOf(directory), Number(sizeBytes));
    await fillDevice(directory, signal);
  },
};

function imageOf(directory: string): string {
  return join(directory, 'image.ext4');
}

async function deviceOf(directory: string, signal: AbortSignal): Promise<string | undefined> {
  const devices = await command(
    'losetup',
    ['--noheadings', '--output', 'NAME', '--associated', imageOf(directory)],
    signal,
  );
  return devices.trim().split('\n')[0] || undefined;
}

/** Makes device and filesystem as large as the image, where it is mounted. */
async function fillDevice(directory: string, signal: AbortSignal): Promise<void> {
  const device = await deviceOf(directory, signal);
  if (device === undefined) return;
  await command('losetup', ['--set-capacity', device], signal);
  await command('resize2fs', [device], signal);
}
