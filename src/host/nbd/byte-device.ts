/**
 * A volume in bytes: what frontends speak, over an engine that knows whole blocks.
 * A change that begins or ends inside a block reads that block and writes it whole. Meanwhile other changes of the block wait, so
 * that two halves written at the same time both arrive.
 */
import type { ClientAnswer, ClientRequest } from '../../block/ports.ts';
import { BLOCK_SIZE } from '../../block/units.ts';

/** One volume as its replica serves it. */
export interface BlockDevice {
  readonly name: string;
  /** May grow. */
  readonly blocks: number;
  /** Memory for the data of a write, of any content. */
  room(bytes: number): Buffer;
  request(body: ClientRequest): Promise<ClientAnswer>;
}

export class ByteDevice {
  readonly name: string;
  readonly #device: BlockDevice;
  /** Blocks that are being patched. */
  readonly #patching = new Map<number, Promise<void>>();

  constructor(device: BlockDevice) {
    this.name = device.name;
    this.#device = device;
  }

  get sizeBytes(): number {
    return this.#device.blocks * BLOCK_SIZE;
  }

  async read(offset: number, length: number): Promise<ClientAnswer> {
    const { first, blocks, aligned } = blocksOf(offset, length);
    const answer = await this.#device.request({ kind: 'read', lba: first, blocks });
    if (aligned || !answer.ok || answer.data === undefined) return answer;
    const start = offset - first * BLOCK_SIZE;
    return { ...answer, data: answer.data.subarray(start, start + length) };
  }

  /** Where the data of a write may lie. */
  room(bytes: number): Buffer {
    return this.#device.room(bytes);
  }

  flush(): Promise<ClientAnswer> {
    return this.#device.request({ kind: 'flush' });
  }

  /** `data` belong to the engine from here on. */
  async write(offset: number, data: Uint8Array, fua: boolean): Promise<ClientAnswer> {
    const { first, blocks, aligned } = blocksOf(offset, data.length);
    for (let held = this.#held(first, blocks); held; held = this.#held(first, blocks)) await held;
    if (aligned) return await this.#device.request({ kind: 'write', lba: first, data, fua });
    const edges = [...new Set([first, first + blocks - 1])];
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const edge of edges) this.#patching.set(edge, promise);
    try {
      const whole = Buffer.alloc(blocks * BLOCK_SIZE);
      for (const edge of edges) {
        const old = await this.#device.request({ kind: 'read', lba: edge, blocks: 1 });
        if (!old.ok || old.data === undefined) return old;
        whole.set(old.data, (edge - first) * BLOCK_SIZE);
      }
      whole.set(data, offset - first * BLOCK_SIZE);
      return await this.#device.request({ kind: 'write', lba: first, data: whole, fua });
    } finally {
      for (const edge of edges) this.#patching.delete(edge);
      resolve();
    }
  }

  /** Zeros; with `trim` only as far as whole blocks go. */
  async zero(
    offset: number,
    length: number,
    how: { readonly trim: boolean; readonly fua: boolean },
  ): Promise<ClientAnswer> {
    const first = Math.ceil(offset / BLOCK_SIZE);
    const blocks = Math.floor((offset + length) / BLOCK_SIZE) - first;
    const { trim, fua } = how;
    if (blocks <= 0) return trim ? await this.#nothing(fua) : await this.write(offset, Buffer.alloc(length), fua);
    const head = first * BLOCK_SIZE - offset;
    const tail = offset + length - (first + blocks) * BLOCK_SIZE;
    if (!trim && head > 0) {
      const answer = await this.write(offset, Buffer.alloc(head), fua);
      if (!answer.ok) return answer;
    }
    if (!trim && tail > 0) {
      const answer = await this.write(offset + length - tail, Buffer.alloc(tail), fua);
      if (!answer.ok) return answer;
    }
    for (let held = this.#held(first, blocks); held; held = this.#held(first, blocks)) await held;
    return await this.#device.request({ kind: trim ? 'trim' : 'zero', lba: first, blocks, fua });
  }

  /** A trim of less than a block. */
  #nothing(fua: boolean): Promise<ClientAnswer> {
    return this.#device.request(fua ? { kind: 'flush' } : { kind: 'read', lba: 0, blocks: 1 });
  }

  /** What a change of these blocks has to wait for. */
  #held(first: number, blocks: number): Promise<void> | undefined {
    if (this.#patching.size === 0) return undefined;
    for (const [block, done] of this.#patching) if (block >= first && block < first + blocks) return done;
    return undefined;
  }
}

function blocksOf(offset: number, length: number) {
  const first = Math.floor(offset / BLOCK_SIZE);
  const blocks = Math.ceil((offset + length) / BLOCK_SIZE) - first;
  return { first, blocks, aligned: offset % BLOCK_SIZE === 0 && length % BLOCK_SIZE === 0 };
}
