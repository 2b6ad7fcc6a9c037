/** A client of a block volume whose every operation is reported to the simulator's oracle: values are never used twice. */
import { BLOCK_SIZE } from '../../src/block/units.ts';
import { contentOf, readValue } from '../sim/client.ts';
import type { Oracle } from '../sim/oracle.ts';
import type { Random } from '../sim/random.ts';
import { Disconnected, type NbdClient } from './nbd-client.ts';

const HOT = 40;
/** A long write covers four or more of the blocks that are looked at; of the others nobody asks what they hold. */
const LONG_BLOCKS = 450;

/** Random operations, every one reported to the oracle. */
export class BlockWork {
  readonly #dice: Random;
  readonly #oracle: Oracle;
  readonly #blocks: number;
  readonly #looked: readonly number[];
  #nextValue = 1;
  done = 0;

  constructor(dice: Random, oracle: Oracle, blocks: number) {
    this.#dice = dice;
    this.#oracle = oracle;
    this.#blocks = blocks;
    this.#looked = [...new Set(Array.from({ length: HOT }, (_, index) => this.#lbaOf(index)))];
  }

  async readAll(client: NbdClient): Promise<void> {
    for (let index = 0; index < HOT; index++) await this.#read(client, this.#lbaOf(index));
  }

  /** Until the connection ends, or `signal` does. */
  async run(client: NbdClient, signal?: AbortSignal): Promise<void> {
    try {
      while (!signal?.aborted) {
        const lba = this.#lbaOf(this.#dice.integer(0, HOT - 1));
        const dice = this.#dice.next();
        if (dice < 0.3) await this.#read(client, lba);
        else if (dice < 0.4) await this.#flush(client);
        else if (dice < 0.43) await this.#writeLong(client, lba);
        else await this.#change(client, lba, dice < 0.5);
        this.done++;
      }
    } catch (error) {
      if (!(error instanceof Disconnected)) throw error;
    }
  }

  async #read(client: NbdClient, lba: number): Promise<void> {
    const begun = this.#oracle.beginRead(lba);
    const data = await client.read(lba * BLOCK_SIZE, BLOCK_SIZE);
    this.#oracle.endRead(lba, begun, readValue(data, lba));
  }

  async #flush(client: NbdClient): Promise<void> {
    const since = this.#oracle.now;
    await client.flush();
    this.#oracle.flushed(since);
  }

  async #change(client: NbdClient, lba: number, zero: boolean): Promise<void> {
    const value = zero ? 0 : this.#nextValue++;
    const fua = !zero && this.#dice.chance(0.2);
    const operation = this.#oracle.beginWrite(lba, value);
    if (zero) await client.zero(lba * BLOCK_SIZE, BLOCK_SIZE);
    else await client.write(lba * BLOCK_SIZE, contentOf(value), fua);
    if (fua) this.#oracle.forced(lba, operation);
    this.#oracle.endWrite(lba, operation);
  }

  async #writeLong(client: NbdClient, lba: number): Promise<void> {
    const blocks = Math.min(LONG_BLOCKS, this.#blocks - lba);
    const data = Buffer.alloc(blocks * BLOCK_SIZE, 0xee);
    const fua = this.#dice.chance(0.2);
    const begun = this.#looked
      .filter((block) => block >= lba && block < lba + blocks)
      .map((block) => {
        const value = this.#nextValue++;
        data.set(contentOf(value), (block - lba) * BLOCK_SIZE);
        return { block, operation: this.#oracle.beginWrite(block, value) };
      });
    await client.write(lba * BLOCK_SIZE, data, fua);
    for (const { block, operation } of begun) {
      if (fua) this.#oracle.forced(block, operation);
      this.#oracle.endWrite(block, operation);
    }
  }

  /** All over the volume, and over several pages of its table. */
  #lbaOf(index: number): number {
    return (index * 101) % this.#blocks;
  }
}
