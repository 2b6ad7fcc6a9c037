/**
 * A volume's configuration where there is no API server: a directory in which each version is a file that only one process can
 * make. That is a compare-and-swap for all processes of one machine: `link` fails when the name is taken.
 * On Kubernetes the BlockVolume resource takes this place.
 */
import { randomUUID } from 'node:crypto';
import { link, open, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { UnionError } from '../../base/errors.ts';
import type { ConfigOutcome } from '../../block/ports.ts';
import { toEpoch } from '../../block/units.ts';
import type { VolumeConfig } from '../../block/volume-config.ts';
import { errnoCode } from '../syscalls.ts';
import { syncDirectory } from './replica-files.ts';

/** Where a volume's configuration is kept. */
export interface ConfigStore {
  read(): Promise<VolumeConfig>;
  /** Stores `config` if the version before it is the current one. */
  replace(config: VolumeConfig): Promise<ConfigOutcome>;
}

const NAME = /^config-(\d{12})\.json$/;
/** Older versions that stay, for readers that have just listed the directory. */
const KEPT = 8;

export class ConfigRegister implements ConfigStore {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async read(): Promise<VolumeConfig> {
    const newest = (await this.#versions()).at(-1);
    if (newest === undefined) {
      throw new UnionError('NOT_FOUND', `no configuration in ${this.#directory}; make the volume first`);
    }
    return parse(await readFile(this.#path(newest), 'utf8'));
  }

  async replace(config: VolumeConfig): Promise<ConfigOutcome> {
    const newest = (await this.#versions()).at(-1) ?? 0;
    if (config.version !== newest + 1) return { kind: 'conflict' };
    const unfinished = join(this.#directory, `unfinished-${randomUUID()}`);
    const file = await open(unfinished, 'wx');
    try {
      await file.writeFile(`${JSON.stringify({ ...config, epoch: String(config.epoch) })}\n`);
      await file.sync();
      await link(unfinished, this.#path(config.version));
    } catch (error) {
      if (errnoCode(error) === 'EEXIST') return { kind: 'conflict' };
      throw error;
    } finally {
      await file.close();
      await rm(unfinished, { force: true });
    }
    await syncDirectory(this.#directory);
    await rm(this.#path(config.version - KEPT), { force: true });
    return { kind: 'current', config };
  }

  #path(version: number): string {
    return join(this.#directory, `config-${String(version).padStart(12, '0')}.json`);
  }

  async #versions(): Promise<readonly number[]> {
    const names = await readdir(this.#directory);
    return names
      .flatMap((name) => Number(NAME.exec(name)?.[1] ?? Number.NaN))
      .filter(Number.isInteger)
      .sort((a, b) => a - b);
  }
}

function parse(text: string): VolumeConfig {
  const { version, epoch, primary, inSync, members } = JSON.parse(text);
  return { version, epoch: toEpoch(BigInt(epoch)), primary, inSync, members };
}
