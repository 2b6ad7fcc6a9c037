/**
 * `loop.embedded.union.csi.dev`: a volume is an ext4 filesystem in a sparse image file, with a real size and real ENOSPC.
 * `mount -o loop` makes the loop device with LO_FLAGS_AUTOCLEAR: it goes with the last mount, so none can leak, whoever is killed.
 *
 * It grows while mounted where the kernel lets us: ext4 asks for CAP_SYS_RESOURCE, which some containers and virtual machines
 * do not have. There the image grows, and the filesystem when it is next mounted.
 */
import { closeSync, openSync, readSync, truncateSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, UnionError } from '../../base/errors.ts';
import { command } from '../../host/command.ts';
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
    if (!device) return;
    throw new UnionError('FAILED_PRECONDITION', `${imageOf(directory)} is in use by ${device}; unmount it first`);
  },

  async stage(directory, stagingPath, mountFlags, signal) {
    const image = imageOf(directory);
    if ((await lacking(image)) > 0n && !(await deviceOf(directory, signal))) {
      await command('e2fsck', ['-f', '-p', image], signal);
      await command('resize2fs', [image], signal);
    }
    const options = ['loop', ...mountFlags].join(',');
    await command('mount', ['--no-mtab', '-t', 'ext4', '-o', options, image, stagingPath], signal);
  },

  publishSource: (_directory, stagingPath) => stagingPath,

  grow(directory, sizeBytes) {
    truncateSync(imageOf(directory), Number(sizeBytes));
    return Promise.resolve();
  },

  async fill(directory, signal) {
    const image = imageOf(directory);
    const device = await deviceOf(directory, signal);
    if (!device || (await lacking(image)) === 0n) return;
    await command('losetup', ['--set-capacity', device], signal);
    try {
      await command('resize2fs', [device], signal);
    } catch (error) {
      if (!messageOf(error).includes('Permission denied')) throw error;
      const message = `${image} cannot grow while it is mounted: ext4 asks for CAP_SYS_RESOURCE, which this machine withholds; it grows when its pods are started anew`;
      throw new UnionError('FAILED_PRECONDITION', message, { cause: error });
    }
  },
};

function imageOf(directory: string): string {
  return join(directory, 'image.ext4');
}

async function deviceOf(directory: string, signal: AbortSignal): Promise<string | undefined> {
  const image = imageOf(directory);
  const devices = await command('losetup', ['--noheadings', '--output', 'NAME', '--associated', image], signal);
  return devices.trim().split('\n')[0] || undefined;
}

/** Bytes of the image that its filesystem does not reach yet, from the superblock (ext4_super_block: fs/ext4/ext4.h). */
async function lacking(image: string): Promise<bigint> {
  const { size } = await stat(image, { bigint: true });
  const superblock = Buffer.alloc(0x154);
  const descriptor = openSync(image, 'r');
  try {
    readSync(descriptor, superblock, 0, superblock.length, 1024);
  } finally {
    closeSync(descriptor);
  }
  const blocks = BigInt(superblock.readUInt32LE(0x4)) + (BigInt(superblock.readUInt32LE(0x150)) << 32n);
  const used = blocks * (1024n << BigInt(superblock.readUInt32LE(0x18)));
  return size - used;
}
