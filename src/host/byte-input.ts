/**
 * Bytes of a stream in the portions that a protocol wants. Reading ahead is bounded: the stream is paused while more is here
 * than was asked for.
 */
import type { Readable } from 'node:stream';

const MAX_AHEAD = 1024 ** 2;

export class ByteInput {
  readonly #stream: Readable;
  readonly #chunks: Buffer[] = [];
  #available = 0;
  #ended = false;
  #wanted = 0;
  #wake: (() => void) | undefined;
  readonly #onData = (chunk: Buffer) => this.#add(chunk);
  readonly #onEnd = () => this.#end();

  constructor(stream: Readable) {
    this.#stream = stream;
    stream.on('data', this.#onData);
    for (const event of ['end', 'close', 'error']) stream.on(event, this.#onEnd);
  }

  /** The next `length` bytes; undefined when the stream ends before. One call at a time. */
  async take(length: number): Promise<Buffer | undefined> {
    while (this.#available < length) {
      if (this.#ended) return undefined;
      this.#wanted = length;
      if (this.#stream.isPaused()) this.#stream.resume();
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    this.#wanted = 0;
    this.#available -= length;
    return this.#cut(length);
  }

  /** Leaves the stream to somebody else, paused; false when bytes have come that nobody asked for. */
  release(): boolean {
    this.#stream.pause();
    this.#stream.off('data', this.#onData);
    for (const event of ['end', 'close', 'error']) this.#stream.off(event, this.#onEnd);
    return this.#available === 0;
  }

  #add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#available += chunk.length;
    if (this.#available >= this.#wanted) this.#wakeUp();
    if (this.#available >= this.#wanted + MAX_AHEAD) this.#stream.pause();
  }

  #end(): void {
    this.#ended = true;
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  #cut(length: number): Buffer {
    const first = this.#chunks[0];
    if (first === undefined || length === 0) return Buffer.alloc(0);
    if (first.length >= length) {
      if (first.length === length) this.#chunks.shift();
      else this.#chunks[0] = first.subarray(length);
      return first.subarray(0, length);
    }
    const result = Buffer.allocUnsafeSlow(length);
    let done = 0;
    while (done < length) {
      const chunk = this.#chunks[0]!;
      const part = chunk.subarray(0, length - done);
      result.set(part, done);
      done += part.length;
      if (part.length === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(part.length);
    }
    return result;
  }
}
