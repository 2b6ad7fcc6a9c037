/**
 * What a replica knows of the configuration, and the change of it that it has proposed.
 * A proposal is undecided until a version as new as its own is seen: even a conflict or a lost answer tells nothing for sure,
 * and while it is undecided both the old and the new in-sync set count (README.md, "Configuration").
 */
import type { ConfigOutcome, Effect } from './ports.ts';
import { REFRESH_MS } from './timing.ts';
import type { ReplicaId } from './units.ts';
import type { VolumeConfig } from './volume-config.ts';

export class Membership {
  readonly #emit: (effect: Effect) => void;
  #config: VolumeConfig | undefined;
  #proposal: VolumeConfig | undefined;
  #inSync: readonly ReplicaId[] = [];
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(emit: (effect: Effect) => void) {
    this.#emit = emit;
  }

  get config(): VolumeConfig | undefined {
    return this.#config;
  }

  get proposal(): VolumeConfig | undefined {
    return this.#proposal;
  }

  /** Members that may be in sync, whichever way the proposal is decided. The same array until that changes. */
  get inSync(): readonly ReplicaId[] {
    return this.#inSync;
  }

  #changed(): void {
    this.#inSync = [...new Set([...(this.#config?.inSync ?? []), ...(this.#proposal?.inSync ?? [])])];
  }

  propose(config: VolumeConfig, now: number): void {
    this.#proposal = config;
    this.#changed();
    this.#askedAt = now;
    this.#emit({ kind: 'propose', config });
  }

  decided(outcome: ConfigOutcome, now: number): void {
    if (outcome.kind === 'unknown') return;
    if (outcome.kind === 'conflict') {
      this.#refresh(now);
      return;
    }
    const { config } = outcome;
    if (config.version > (this.#config?.version ?? -1)) this.#config = config;
    if (this.#proposal && config.version >= this.#proposal.version) this.#proposal = undefined;
    this.#changed();
  }

  tick(now: number): void {
    if (now - this.#askedAt < REFRESH_MS) return;
    this.#refresh(now);
    if (this.#proposal) this.#emit({ kind: 'propose', config: this.#proposal });
  }

  #refresh(now: number): void {
    this.#askedAt = now;
    this.#emit({ kind: 'refresh' });
  }
}
