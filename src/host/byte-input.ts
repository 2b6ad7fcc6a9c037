/**
 * Bytes of a stream in the portions that a protocol wants. Reading ahead is bounded: the stream is paused while more is here
 * than was asked for. What is long is put where it will stay as it comes, by the kernel itself where the socket allows it
 * (direct-socket.ts); what was copied out of is given back at once.
 */
import type { Readable } from 'node:stream';
import { giveBack } from './buffers.ts';

const MAX_AHEAD = 1024 ** 2;
/** So little is copied, so that what it lies in can be given back. */
const MAX_COPY_BYTES = 64;
/** Portions of at least so many bytes have a place of their own before they have come. */
const MIN_PLACED_BYTES = 32 * 1024;
/** Where bytes arrive that nobody has asked for yet. */
const ARRIVAL_BYTES = 64 * 1024;
const MIN_ARRIVAL_BYTES = 16 * 1024;

interface Chunk {
  readonly whole: Buffer;
  /** What has not been taken yet. */
  bytes: Buffer;
  /** Somebody has a view of a part of it. */
  shared: boolean;
}

/** A long portion that is on its way. */
interface Place {
  readonly bytes: Buffer;
  filled: number;
}

export class ByteInput {
  #stream: Readable | undefined;
  readonly #chunks: Chunk[] = [];
  #place: Place | undefined;
  #arrivals = Buffer.alloc(0);
  #available = 0;
  #ended = false;
  #wanted = 0;
  #wake: (() => void) | undefined;
  readonly #onData = (chunk: Buffer) => this.#add({ bytes: chunk, whole: chunk, shared: false });
  readonly #onEnd = () => this.#end();

  constructor(stream?: Readable) {
    if (stream) this.attach(stream);
  }

  /** Of a stream that had to know of this first. */
  attach(stream: Readable): void {
    this.#stream = stream;
    stream.on('data', this.#onData);
    for (const event of ['end', 'close', 'error']) stream.on(event, this.#onEnd);
  }

  /** The next `length` bytes, in memory of `room` if they are many; undefined when the stream ends before. One call at a time. */
  async take(length: number, room: (bytes: number) => Buffer = Buffer.allocUnsafeSlow): Promise<Buffer | undefined> {
    if (this.#available < length && length >= MIN_PLACED_BYTES) return await this.#takePlaced(room(length));
    while (this.#available < length) {
      if (this.#ended) return undefined;
      this.#wanted = length;
      await this.#more();
    }
    this.#wanted = 0;
    this.#available -= length;
    return this.#cut(length);
  }

  /** Leaves the stream to somebody else, paused; false when bytes have come that nobody asked for. */
  release(): boolean {
    this.#stream?.pause();
    this.#stream?.off('data', this.#onData);
    for (const event of ['end', 'close', 'error']) this.#stream?.off(event, this.#onEnd);
    return this.#available === 0;
  }

  /** Where the next bytes may be put, by whoever then tells `arrived`. */
  room(): Buffer {
    const place = this.#place;
    if (place && place.filled < place.bytes.length) return place.bytes.subarray(place.filled);
    if (this.#arrivals.length < MIN_ARRIVAL_BYTES) this.#arrivals = Buffer.allocUnsafeSlow(ARRIVAL_BYTES);
    return this.#arrivals;
  }

  /** So many bytes have been put at the beginning of `room`. Meanwhile another place may have been wanted. */
  arrived(bytes: number, room: Uint8Array): void {
    const place = this.#place;
    if (place && room.buffer === place.bytes.buffer) {
      place.filled += bytes;
      if (place.filled === place.bytes.length) this.#wakeUp();
      return;
    }
    const chunk = this.#arrivals.subarray(0, bytes);
    this.#arrivals = this.#arrivals.subarray(bytes);
    this.#add({ bytes: chunk, whole: chunk, shared: true });
  }

  async #takePlaced(bytes: Buffer): Promise<Buffer | undefined> {
    const place: Place = { bytes, filled: this.#copy(bytes, this.#available) };
    this.#available = 0;
    this.#place = place;
    while (place.filled < bytes.length && !this.#ended) await this.#more();
    this.#place = undefined;
    return place.filled < bytes.length ? undefined : bytes;
  }

  async #more(): Promise<void> {
    if (this.#stream?.isPaused()) this.#stream.resume();
    await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  #add(chunk: Chunk): void {
    this.#chunks.push(chunk);
    this.#available += chunk.bytes.length;
    const place = this.#place;
    if (place && place.filled < place.bytes.length) {
      const bytes = Math.min(this.#available, place.bytes.length - place.filled);
      place.filled += this.#copy(place.bytes.subarray(place.filled), bytes);
      this.#available -= bytes;
      if (place.filled === place.bytes.length) this.#wakeUp();
    } else if (this.#available >= this.#wanted) this.#wakeUp();
    if (this.#available >= this.#wanted + MAX_AHEAD) this.#stream?.pause();
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
    this.#copy(result, length);
    return result;
  }

  /** Moves so many bytes of the chunks to the beginning of `target`. */
  #copy(target: Buffer, length: number): number {
    for (let done = 0; done < length; ) {
      const chunk = this.#chunks[0]!;
      const part = chunk.bytes.subarray(0, length - done);
      target.set(part, done);
      done += part.length;
      this.#advance(chunk, part.length);
    }
    return length;
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
