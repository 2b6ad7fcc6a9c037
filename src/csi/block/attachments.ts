/**
 * Block volumes as devices of this node: a file that a pair of processes serves (host/block/attach-processes.ts), and a loop device
 * on it. All of it lies in a directory of the volume's own and is looked at again each time; nothing is kept in memory.
 * Nothing here waits for a volume: what might is done by commands that can be killed.
 */
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { mountDevice, openDevice } from '../../../fuse/index.ts';
import type { Clock } from '../../base/clock.ts';
import { UnionError } from '../../base/errors.ts';
import { startAttachProcess } from '../../host/block/attach-processes.ts';
import {
  type AttachConfig,
  CONFIG_FILE,
  isVolumeId,
  loopFile,
  readAttachConfig,
  volumeDirectory,
  volumeFile,
} from '../../host/block/attached-volume.ts';
import { command } from '../../host/command.ts';
import { attachLoop, detachLoop, type LoopDevice, loopsOf } from '../../host/loop-device.ts';
import { BLOCK_FS_TYPE, probe, unmountOnce } from '../../host/mounter.ts';
import { mountAt } from '../../host/mountinfo.ts';
import { replaceFile } from '../../host/replace-file.ts';

export interface AttachmentsOptions {
  /** The real path of where volumes' directories lie. */
  readonly directory: string;
  /** What runs `union-csi block-attach`: program and first arguments. */
  readonly server: readonly string[];
  readonly clock: Clock;
}

export class Attachments {
  readonly #options: AttachmentsOptions;

  constructor(options: AttachmentsOptions) {
    this.#options = options;
    mkdirSync(options.directory, { recursive: true });
  }

  /** The volume's device, made if it is not there. */
  async attach(volumeId: string, config: AttachConfig, signal: AbortSignal): Promise<string> {
    const directory = this.#directoryOf(volumeId);
    const file = volumeFile(directory);
    // 1. What the serving processes are to know.
    mkdirSync(directory, { recursive: true });
    this.#write(directory, config);
    // 2. The file. One whose processes have all died answers nothing any more, and takes its device with it.
    if (mountAt(file)?.fsType === BLOCK_FS_TYPE && (await probe(file, signal)).kind !== 'alive') {
      if ((await loopsOf(loopFile(directory), signal)).length > 0) {
        const message = `volume ${volumeId}: the processes that served it here have been killed; end its pods, then it is attached anew`;
        throw new UnionError('FAILED_PRECONDITION', message);
      }
      await unmountOnce(file, { lazy: true });
    }
    if (mountAt(file) === undefined) this.#serve(volumeId, directory);
    // 3. The device; it waits for the processes to answer.
    return await attachLoop(loopFile(directory), { readOnly: false }, signal);
  }

  /** A device of the volume, which is attached; one that cannot be written to is made when it is first asked for. */
  async openDevice(volumeId: string, how: { readonly readOnly: boolean }, signal: AbortSignal): Promise<string> {
    if ((await this.deviceOf(volumeId, signal)) === undefined) throw notStaged(volumeId);
    return await attachLoop(loopFile(this.#directoryOf(volumeId)), how, signal);
  }

  /** The volume's device, if it is attached. */
  async deviceOf(volumeId: string, signal: AbortSignal): Promise<string | undefined> {
    return (await this.#loops(volumeId, signal)).find(({ readOnly }) => !readOnly)?.device;
  }

  /** That device, and that of readers if there is one. */
  async devicesOf(volumeId: string, signal: AbortSignal): Promise<readonly string[]> {
    return (await this.#loops(volumeId, signal)).map(({ device }) => device);
  }

  /** Makes its devices as large as the volume is now. */
  async grow(volumeId: string, config: AttachConfig, signal: AbortSignal): Promise<void> {
    const devices = await this.devicesOf(volumeId, signal);
    if (devices.length === 0) throw notStaged(volumeId);
    this.#write(this.#directoryOf(volumeId), config);
    for (const device of devices) await command('losetup', ['--set-capacity', device], signal);
  }

  /** Takes device and file away; the serving processes end by that. Not there: done. */
  async detach(volumeId: string, signal: AbortSignal): Promise<void> {
    if (!isVolumeId(volumeId)) return;
    const directory = this.#directoryOf(volumeId);
    if (!existsSync(directory)) return;
    const file = volumeFile(directory);
    await detachLoop(loopFile(directory), this.#options.clock, signal);
    while (mountAt(file) !== undefined) await unmountOnce(file, { lazy: false });
    rmSync(directory, { recursive: true });
  }

  /** Tells the processes of every volume where its replicas are now. */
  refresh(addressesOf: (volumeId: string) => AttachConfig['addresses'] | undefined): void {
    for (const volumeId of readdirSync(this.#options.directory)) {
      const addresses = addressesOf(volumeId);
      const directory = join(this.#options.directory, volumeId);
      if (addresses === undefined || !existsSync(join(directory, CONFIG_FILE))) continue;
      const config = readAttachConfig(directory);
      if (JSON.stringify(config.addresses) !== JSON.stringify(addresses))
        this.#write(directory, { ...config, addresses });
    }
  }

  async #loops(volumeId: string, signal: AbortSignal): Promise<readonly LoopDevice[]> {
    return isVolumeId(volumeId) ? await loopsOf(loopFile(this.#directoryOf(volumeId)), signal) : [];
  }

  #directoryOf(volumeId: string): string {
    return volumeDirectory(this.#options.directory, volumeId);
  }

  #write(directory: string, config: AttachConfig): void {
    replaceFile(join(directory, CONFIG_FILE), `${JSON.stringify(config)}\n`);
  }

  #serve(volumeId: string, directory: string): void {
    const file = volumeFile(directory);
    closeSync(openSync(file, 'a', 0o600));
    const device = openDevice();
    try {
      mountDevice({ deviceFd: device, mountpoint: file, fsname: volumeId, readOnly: false, isFile: true });
      startAttachProcess({ server: this.#options.server, directory, device });
    } finally {
      closeSync(device);
    }
  }
}

function notStaged(volumeId: string): UnionError {
  return new UnionError('FAILED_PRECONDITION', `volume ${volumeId} is not staged here; stage it first`);
}
