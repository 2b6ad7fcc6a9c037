/**
 * Bytes of a stream in the portions that a protocol wants. Reading ahead is bounded: the stream is paused while more is here
 * than was asked for.
 * What was copied out of is given back at once.
 */
import type { Readable } from 'node:stream';
import { giveBack } from './buffers.ts';

const MAX_AHEAD = 1024 ** 2;
/** So little is copied, so that what it lies in can be given back. */
const MAX_COPY_BYTES = 64;

interface Chunk {
  readonly whole: Buffer;
  /** What has not been taken yet. */
  bytes: Buffer;
  /** Somebody has a view of a part of it. */
  shared: boolean;
}

export class ByteInput {
  readonly #stream: Readable;
  readonly #chunks: Chunk[] = [];
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
    this.#chunks.push({ bytes: chunk, whole: chunk, shared: false });
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
    if (first.bytes.length >= length && length > MAX_COPY_BYTES) {
      const result = first.bytes.subarray(0, length);
      first.shared = true;
      this.#advance(first, length);
      return result;
    }
    const result = length <= MAX_COPY_BYTES ? Buffer.allocUnsafe(length) : Buffer.allocUnsafeSlow(length);
    for (let done = 0; done < length; ) {
      const chunk = this.#chunks[0]!;
      const part = chunk.bytes.subarray(0, length - done);
      result.set(part, done);
      done += part.length;
      this.#advance(chunk, part.length);
    }
    return result;
  }

  /** So many bytes of the first chunk have been taken. */
  #advance(chunk: Chunk, length: number): void {
    if (length < chunk.bytes.length) {
      chunk.bytes = chunk.bytes.subarray(length);
      return;
    }
    this.#chunks.shift();
    if (!chunk.shared) giveBack(chunk.whole);
  }
}
