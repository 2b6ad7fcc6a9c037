/**
 * The API server as far as a volume needs it: one configuration that changes by compare-and-swap. Calls take time, may go
 * unanswered, and an unanswered change may happen or not, or happen later.
 */
import type { ConfigOutcome } from '../../src/block/ports.ts';
import type { VolumeConfig } from '../../src/block/volume-config.ts';
import type { Queue } from './queue.ts';
import type { Random } from './random.ts';

export class ObjectStore {
  readonly #queue: Queue;
  readonly #random: Random;
  readonly #onChange: (config: VolumeConfig) => void;
  #config: VolumeConfig;
  /** Share of the calls whose answer is lost. */
  lossRate = 0;

  constructor(world: { queue: Queue; random: Random }, config: VolumeConfig, onChange: (config: VolumeConfig) => void) {
    this.#queue = world.queue;
    this.#random = world.random;
    this.#config = config;
    this.#onChange = onChange;
  }

  get config(): VolumeConfig {
    return this.#config;
  }

  call(proposal: VolumeConfig | undefined, answer: (outcome: ConfigOutcome) => void): void {
    const lost = this.#random.chance(this.lossRate);
    // A call whose answer is lost may also arrive very late.
    const arrival = lost ? this.#random.pick([1, 50, 800, Number.POSITIVE_INFINITY]) : this.#random.integer(1, 10);
    if (lost) this.#queue.after(100, () => answer({ kind: 'unknown' }));
    if (arrival === Number.POSITIVE_INFINITY) return;
    this.#queue.after(arrival, () => {
      const outcome = this.#execute(proposal);
      if (!lost) this.#queue.after(this.#random.integer(1, 10), () => answer(outcome));
    });
  }

  #execute(proposal: VolumeConfig | undefined): ConfigOutcome {
    if (proposal !== undefined) {
      if (proposal.version !== this.#config.version + 1) return { kind: 'conflict' };
      this.#config = proposal;
      this.#onChange(proposal);
    }
    return { kind: 'current', config: this.#config };
  }
}
