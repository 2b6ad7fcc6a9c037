/**
 * A volume's configuration in its BlockVolume: the compare-and-swap on which the engine rests is the API server's, by
 * resourceVersion. Others write to the same status, so a lost race is only a conflict when the configuration itself has changed.
 *
 * Reads may be late: the engine takes any version that it is told for what was true once. They come from the informer's copy, so
 * that replicas that look twice a second cost the API server nothing; after a lost race it is asked itself.
 */
import { UnionError } from '../../base/errors.ts';
import type { ConfigOutcome } from '../../block/ports.ts';
import { toEpoch } from '../../block/units.ts';
import type { VolumeConfig } from '../../block/volume-config.ts';
import type { ConfigStore } from '../../host/block/config-register.ts';
import type { Repository } from '../../kubernetes/repository.ts';
import type { BlockConfig, BlockVolume } from '../../protocol/block-resources.ts';

export interface VolumeConfigOptions {
  readonly volumes: Repository<BlockVolume>;
  /** The copy that a watch keeps. */
  readonly known: (name: string) => BlockVolume | undefined;
  readonly name: string;
  readonly uid: string;
  readonly signal: AbortSignal;
}

export class VolumeConfigStore implements ConfigStore {
  readonly #options: VolumeConfigOptions;
  #isDoubtful = true;

  constructor(options: VolumeConfigOptions) {
    this.#options = options;
  }

  async read(): Promise<VolumeConfig> {
    const { known, name, uid } = this.#options;
    const copy = this.#isDoubtful ? undefined : known(name);
    const volume = copy?.metadata.uid === uid ? copy : await this.#live();
    const config = volume.status?.config;
    if (config === undefined) throw new UnionError('NOT_FOUND', `volume ${name} has no configuration yet`);
    this.#isDoubtful = false;
    return decode(config);
  }

  async replace(config: VolumeConfig): Promise<ConfigOutcome> {
    const { volumes, signal } = this.#options;
    this.#isDoubtful = true;
    for (;;) {
      const { metadata, status } = await this.#live();
      if (config.version !== (status?.config?.version ?? 0) + 1) return { kind: 'conflict' };
      const { uid, resourceVersion } = metadata;
      const patch = { metadata: { uid, resourceVersion }, status: { config: encode(config) } };
      const written = await volumes.patchStatusMerge(metadata, patch, signal);
      if (written.ok) return { kind: 'current', config };
      if (written.error.kind !== 'CONFLICT') throw new UnionError('NOT_FOUND', written.error.message);
    }
  }

  async #live(): Promise<BlockVolume> {
    const { volumes, name, uid, signal } = this.#options;
    const volume = await volumes.get({ name }, signal);
    if (volume?.metadata.uid === uid) return volume;
    throw new UnionError('NOT_FOUND', `volume ${name} does not exist any more`);
  }
}

function encode({ epoch, ...rest }: VolumeConfig): BlockConfig {
  return { ...rest, epoch: String(epoch) };
}

function decode({ epoch, ...rest }: BlockConfig): VolumeConfig {
  return { ...rest, epoch: toEpoch(BigInt(epoch)) };
}
