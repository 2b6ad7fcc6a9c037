/**
 * The second part of an NBD connection: requests, served side by side and answered as they get done. What is under way is
 * bounded; beyond that the client is not read from.
 */
import type { Socket } from 'node:net';
import type { ClientAnswer } from '../../block/ports.ts';
import { BLOCK_SIZE } from '../../block/units.ts';
import * as nbd from '../../protocol/nbd.ts';
import { giveBack } from '../buffers.ts';
import type { ByteInput } from '../byte-input.ts';
import type { NbdExport } from './exports.ts';
import { ALLOCATION_ID, MAX_REQUEST_BYTES, type Negotiated } from './handshake.ts';

/** Bytes of requests and replies of one connection that are held here, besides one more request. */
const MAX_HELD_BYTES = 64 * 1024 ** 2;
/** What a request holds besides its data. */
const REQUEST_BYTES = 512;
/** So much of a range is looked at for one answer to block status; the client asks again for the rest. */
const MAX_STATUS_BYTES = 4 * 1024 ** 2;
const ZEROS = Buffer.alloc(BLOCK_SIZE);

/** A refusal as the protocol has it. */
interface Refusal {
  readonly error: number;
  readonly message: string;
}

type Served = { readonly data?: Uint8Array; readonly extents?: readonly nbd.Extent[] } | Refusal;

const { command, commandFlags, nbdError } = nbd;

/** Flags that each command may have. */
const FLAGS: Readonly<Record<number, number>> = {
  [command.read]: commandFlags.dontFragment,
  [command.write]: commandFlags.fua,
  [command.flush]: 0,
  [command.trim]: commandFlags.fua,
  [command.cache]: 0,
  [command.writeZeroes]: commandFlags.fua | commandFlags.noHole | commandFlags.fastZero,
  [command.blockStatus]: commandFlags.requestOne,
};

export class Transmission {
  readonly #chosen: NbdExport;
  readonly #socket: Socket;
  readonly #input: ByteInput;
  readonly #structured: boolean;
  readonly #allocation: boolean;
  #held = 0;
  #underWay = 0;
  #corked = false;
  #wake: (() => void) | undefined;

  constructor({ chosen, socket, input, structured, allocation }: Negotiated) {
    this.#chosen = chosen;
    this.#socket = socket;
    this.#input = input;
    this.#structured = structured;
    this.#allocation = allocation;
  }

  /** Serves until the client leaves or breaks the protocol. */
  async run(): Promise<void> {
    this.#chosen.join(this.#socket);
    for (;;) {
      const header = await this.#input.take(nbd.REQUEST_LENGTH);
      const request = header && nbd.decodeRequest(header);
      if (request === undefined || request.type === command.disconnect) break;
      const payloadLength = request.type === command.write ? request.length : 0;
      // There is no way back into step but to read all of it.
      if (payloadLength > MAX_REQUEST_BYTES) break;
      const payload = await this.#input.take(payloadLength, (bytes) => this.#chosen.device.room(bytes));
      // What a connection that was cut had sent must not be done after what its successor asks for.
      if (payload === undefined || this.#socket.destroyed) break;
      const bytes = REQUEST_BYTES + (request.type === command.read ? request.length : payloadLength);
      void this.#serve(request, payload, bytes);
      while (this.#held > MAX_HELD_BYTES && !this.#socket.destroyed) await this.#change();
    }
    while (this.#underWay > 0 && !this.#socket.destroyed) await this.#change();
    this.#socket.end();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      this.#socket.once('close', resolve);
    });
  }

  async #serve(request: nbd.NbdRequest, payload: Buffer, bytes: number): Promise<void> {
    this.#held += bytes;
    this.#underWay++;
    const served = this.#refusal(request) ?? (await this.#execute(request, payload));
    this.#underWay--;
    const release = (error?: Error | null) => {
      this.#held -= bytes;
      this.#wake?.();
      // What a device has read is for this reply alone. A connection that broke may still be sending it.
      if (!error && served && 'data' in served && served.data) giveBack(served.data);
    };
    if (served === undefined || this.#socket.destroyed) release();
    else this.#reply(request, served, release);
  }

  #refusal({ type, flags, offset, length }: nbd.NbdRequest): Refusal | undefined {
    const allowed = FLAGS[type];
    if (allowed === undefined || (type === command.blockStatus && !this.#allocation)) {
      return { error: nbdError.invalid, message: `command ${type} is not known here` };
    }
    if (flags & ~allowed) return { error: nbdError.invalid, message: `flags ${flags} do not go with command ${type}` };
    if (type === command.flush) return undefined;
    if (length === 0) return { error: nbdError.invalid, message: 'a request for nothing' };
    if (type === command.read && length > MAX_REQUEST_BYTES) {
      return { error: nbdError.overflow, message: `at most ${MAX_REQUEST_BYTES} bytes can be read at once` };
    }
    if (offset + length <= this.#chosen.device.sizeBytes) return undefined;
    const writes = type === command.write || type === command.writeZeroes;
    return { error: writes ? nbdError.noSpace : nbdError.invalid, message: 'beyond the end of the volume' };
  }

  /** Undefined when nothing may be answered. */
  async #execute(request: nbd.NbdRequest, payload: Buffer): Promise<Served | undefined> {
    if (request.type === command.blockStatus) return await this.#status(request);
    const answer = await this.#ask(request, payload);
    if (!this.#chosen.accepts(answer, this.#socket)) return undefined;
    if (!answer.ok) return refusalOf(answer.error);
    return request.type === command.read && answer.data ? { data: answer.data } : {};
  }

  #ask({ type, flags, offset, length }: nbd.NbdRequest, payload: Buffer): Promise<ClientAnswer> {
    const { device } = this.#chosen;
    const fua = (flags & commandFlags.fua) !== 0;
    switch (type) {
      case command.write:
        return device.write(offset, payload, fua);
      case command.flush:
        return device.flush();
      case command.trim:
        return device.zero(offset, length, { trim: true, fua });
      // All zeros are thin: NO_HOLE would have to reserve room in the log and in the extents.
      case command.writeZeroes:
        return device.zero(offset, length, { trim: false, fua });
      default:
        return device.read(offset, Math.min(length, MAX_REQUEST_BYTES));
    }
  }

  /** What is zeros is told from what is read: a table that has lost a page must not make data look like a hole. */
  async #status({ offset, length, flags }: nbd.NbdRequest): Promise<Served | undefined> {
    const wanted = Math.min(length, MAX_STATUS_BYTES);
    const answer = await this.#chosen.device.read(offset, wanted);
    if (!this.#chosen.accepts(answer, this.#socket)) return undefined;
    if (!answer.ok && answer.error !== 'damaged') return refusalOf(answer.error);
    const data = answer.ok ? answer.data : undefined;
    // Damaged content is content: whoever reads it gets the error.
    const extents = data ? extentsOf(data) : [{ length: wanted, flags: nbd.allocation.data }];
    return { extents: flags & commandFlags.requestOne ? extents.slice(0, 1) : extents };
  }

  #reply(request: nbd.NbdRequest, served: Served, done: (error?: Error | null) => void): void {
    const parts = this.#encode(request, served);
    this.#cork();
    parts.forEach((part, index) => {
      this.#socket.write(part, index === parts.length - 1 ? done : undefined);
    });
  }

  #encode({ cookie, offset }: nbd.NbdRequest, served: Served): readonly Uint8Array[] {
    if ('error' in served) {
      if (!this.#structured) return [nbd.encodeSimpleReply(cookie, served.error)];
      return [nbd.encodeError(cookie, served.error, served.message)];
    }
    const { data, extents } = served;
    if (extents) return [nbd.encodeBlockStatus(cookie, ALLOCATION_ID, extents)];
    if (data === undefined) return [this.#structured ? nbd.encodeDone(cookie) : nbd.encodeSimpleReply(cookie, 0)];
    if (!this.#structured) return [nbd.encodeSimpleReply(cookie, 0), data];
    return [nbd.encodeDataHeader(cookie, offset, data.length), data];
  }

  /** All replies of one turn of the event loop go out in one system call. */
  #cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    this.#socket.cork();
    setImmediate(() => {
      this.#corked = false;
      this.#socket.uncork();
    });
  }
}

function refusalOf(error: 'moved' | 'damaged' | 'out-of-range'): Refusal {
  if (error === 'damaged') return { error: nbdError.io, message: 'the data are damaged on every replica in sync' };
  return { error: nbdError.invalid, message: 'beyond the end of the volume' };
}

/** Stretches of zeros and of data, block by block. */
function extentsOf(data: Uint8Array): readonly nbd.Extent[] {
  const extents: { length: number; flags: number }[] = [];
  for (let at = 0; at < data.length; at += BLOCK_SIZE) {
    const block = data.subarray(at, at + BLOCK_SIZE);
    const flags = ZEROS.subarray(0, block.length).equals(block) ? nbd.allocation.holeAndZero : nbd.allocation.data;
    const last = extents.at(-1);
    if (last?.flags === flags) last.length += block.length;
    else extents.push({ length: block.length, flags });
  }
  return extents;
}
