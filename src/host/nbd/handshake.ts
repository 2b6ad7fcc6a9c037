/**
 * The first part of an NBD connection: fixed newstyle negotiation, up to the moment when requests begin. With TLS, the
 * connection changes over to it first, and nothing is told or offered before.
 */
import type { Socket } from 'node:net';
import { BLOCK_SIZE } from '../../block/units.ts';
import * as nbd from '../../protocol/nbd.ts';
import { ByteInput } from '../byte-input.ts';
import type { Connection } from '../direct-socket.ts';
import { secureServer, type TlsFiles } from '../tls.ts';
import type { NbdExport } from './exports.ts';

/** Longer options than any client has reason to send. */
const MAX_OPTION_BYTES = 64 * 1024;
export const MAX_REQUEST_BYTES = 32 * 1024 ** 2;
export const ALLOCATION_ID = 1;

const flag = nbd.transmissionFlags;
/** Several connections see each other's writes and flushes: all go through one replica. */
const EXPORT_FLAGS =
  flag.hasFlags |
  flag.sendFlush |
  flag.sendFua |
  flag.sendTrim |
  flag.sendWriteZeroes |
  flag.sendDf |
  flag.canMultiConnection |
  flag.sendCache |
  flag.sendFastZero;

/** What both sides have agreed on. */
export interface Negotiated {
  readonly chosen: NbdExport;
  readonly socket: Socket;
  readonly input: ByteInput;
  readonly structured: boolean;
  /** The client may ask for block status. */
  readonly allocation: boolean;
}

interface OptionRequest {
  readonly option: number;
  readonly data: Buffer;
}

export class Handshake {
  readonly #exports: readonly NbdExport[];
  readonly #tls: TlsFiles | undefined;
  #socket: Socket;
  #input: ByteInput;
  #secured = false;
  #zeroes = true;
  #structured = false;
  /** The export for which block status was asked. */
  #allocation: NbdExport | undefined;

  constructor({ socket, input }: Connection, exports: readonly NbdExport[], tls: TlsFiles | undefined) {
    this.#socket = socket;
    this.#input = input;
    this.#exports = exports;
    this.#tls = tls;
  }

  /** Undefined when the client goes away, or does not speak the protocol; the socket is to be destroyed then. */
  async run(): Promise<Negotiated | undefined> {
    this.#socket.write(nbd.encodeGreeting());
    const flags = (await this.#input.take(4))?.readUInt32BE(0);
    if (flags === undefined || flags & ~3 || !(flags & nbd.handshakeFlags.fixedNewstyle)) return undefined;
    this.#zeroes = !(flags & nbd.handshakeFlags.noZeroes);
    for (;;) {
      const request = await this.#nextOption();
      if (request === undefined) return undefined;
      const chosen = await this.#handle(request);
      if (chosen === 'close') return undefined;
      if (chosen === 'next') continue;
      const allocation = this.#structured && this.#allocation === chosen;
      return { chosen, socket: this.#socket, input: this.#input, structured: this.#structured, allocation };
    }
  }

  async #nextOption(): Promise<OptionRequest | undefined> {
    const header = await this.#input.take(16);
    if (header === undefined || header.readBigUInt64BE(0) !== nbd.OPTION_MAGIC) return undefined;
    const length = header.readUInt32BE(12);
    if (length > MAX_OPTION_BYTES) return undefined;
    const data = await this.#input.take(length);
    return data && { option: header.readUInt32BE(8), data };
  }

  async #handle(request: OptionRequest): Promise<NbdExport | 'next' | 'close'> {
    const { option } = request;
    if (option === nbd.option.abort) {
      this.#reply(request, nbd.optionReply.ack);
      this.#socket.end();
      return 'close';
    }
    if (option === nbd.option.startTls) return await this.#startTls(request);
    if (this.#tls && !this.#secured) {
      // There is no way to refuse NBD_OPT_EXPORT_NAME but to close.
      if (option === nbd.option.exportName) return 'close';
      this.#reply(request, nbd.optionReply.tlsRequired);
      return 'next';
    }
    return this.#handleSecured(request);
  }

  #handleSecured(request: OptionRequest): NbdExport | 'next' | 'close' {
    switch (request.option) {
      case nbd.option.exportName:
        return this.#exportName(request);
      case nbd.option.list:
        this.#list(request);
        return 'next';
      case nbd.option.info:
        this.#info(request);
        return 'next';
      case nbd.option.go:
        return this.#info(request) ?? 'next';
      case nbd.option.structuredReply:
        this.#structured ||= request.data.length === 0;
        this.#reply(request, request.data.length === 0 ? nbd.optionReply.ack : nbd.optionReply.invalid);
        return 'next';
      case nbd.option.listMetaContext:
      case nbd.option.setMetaContext:
        this.#metaContext(request);
        return 'next';
      default:
        this.#reply(request, nbd.optionReply.unsupported);
        return 'next';
    }
  }

  async #startTls(request: OptionRequest): Promise<'next' | 'close'> {
    if (!this.#tls) {
      this.#reply(request, nbd.optionReply.policy);
      return 'next';
    }
    if (this.#secured || request.data.length > 0) {
      this.#reply(request, nbd.optionReply.invalid);
      return 'next';
    }
    // Whatever came before the answer came unprotected.
    if (!this.#input.release()) return 'close';
    this.#reply(request, nbd.optionReply.ack);
    const secured = await secureServer(this.#socket, this.#tls);
    if (secured === undefined) return 'close';
    this.#socket = secured;
    this.#input = new ByteInput(secured);
    this.#secured = true;
    this.#structured = false;
    this.#allocation = undefined;
    return 'next';
  }

  #exportName({ data }: OptionRequest): NbdExport | 'close' {
    const chosen = this.#find(data.toString());
    if (chosen) this.#socket.write(nbd.encodeExport(chosen.device.sizeBytes, EXPORT_FLAGS, this.#zeroes));
    return chosen ?? 'close';
  }

  #list(request: OptionRequest): void {
    if (request.data.length > 0) {
      this.#reply(request, nbd.optionReply.invalid);
      return;
    }
    for (const { device } of this.#exports.filter(({ isServing }) => isServing)) {
      const name = nbd.encodeNumberAndText(Buffer.byteLength(device.name), device.name);
      this.#reply(request, nbd.optionReply.server, name);
    }
    this.#reply(request, nbd.optionReply.ack);
  }

  /** Answers INFO and GO; the export when there is one of that name. */
  #info(request: OptionRequest): NbdExport | undefined {
    const { data } = request;
    const nameLength = data.length >= 6 ? data.readUInt32BE(0) : Number.POSITIVE_INFINITY;
    if (data.length < nameLength + 6 || data.length !== nameLength + 6 + 2 * data.readUInt16BE(4 + nameLength)) {
      this.#reply(request, nbd.optionReply.invalid);
      return undefined;
    }
    const name = data.toString('utf8', 4, 4 + nameLength);
    const chosen = this.#find(name);
    if (chosen === undefined) {
      this.#reply(request, nbd.optionReply.unknown, Buffer.from(`no export ${name} is served here`));
      return undefined;
    }
    const { device } = chosen;
    const sizes = { minimum: BLOCK_SIZE, preferred: BLOCK_SIZE, maximum: MAX_REQUEST_BYTES };
    this.#reply(request, nbd.optionReply.info, nbd.encodeInfoExport(device.sizeBytes, EXPORT_FLAGS));
    this.#reply(request, nbd.optionReply.info, nbd.encodeInfoText(nbd.info.name, device.name));
    this.#reply(request, nbd.optionReply.info, nbd.encodeInfoBlockSize(sizes));
    this.#reply(request, nbd.optionReply.ack);
    return chosen;
  }

  #metaContext(request: OptionRequest): void {
    const parsed = this.#structured ? parseMetaContext(request.data) : undefined;
    const chosen = parsed && this.#find(parsed.name);
    if (parsed === undefined || chosen === undefined) {
      this.#reply(request, parsed ? nbd.optionReply.unknown : nbd.optionReply.invalid);
      return;
    }
    const listing = request.option === nbd.option.listMetaContext;
    const all = listing && (parsed.queries.length === 0 || parsed.queries.includes('base:'));
    const wanted = all || parsed.queries.includes(nbd.BASE_ALLOCATION);
    if (!listing) this.#allocation = wanted ? chosen : undefined;
    if (wanted) {
      const context = nbd.encodeNumberAndText(listing ? 0 : ALLOCATION_ID, nbd.BASE_ALLOCATION);
      this.#reply(request, nbd.optionReply.metaContext, context);
    }
    this.#reply(request, nbd.optionReply.ack);
  }

  /** The empty name is the only export there is. */
  #find(name: string): NbdExport | undefined {
    const isOnly = name === '' && this.#exports.length === 1;
    return this.#exports.find((one) => one.isServing && (isOnly || one.device.name === name));
  }

  #reply({ option }: OptionRequest, type: number, data?: Buffer): void {
    this.#socket.write(nbd.encodeOptionReply(option, type, data));
  }
}

function parseMetaContext(data: Buffer): { readonly name: string; readonly queries: readonly string[] } | undefined {
  let at = 0;
  const number = () => {
    at += 4;
    return at <= data.length ? data.readUInt32BE(at - 4) : undefined;
  };
  const text = () => {
    const length = number();
    if (length === undefined || at + length > data.length) return undefined;
    at += length;
    return data.toString('utf8', at - length, at);
  };
  const name = text();
  const count = number();
  if (name === undefined || count === undefined || count > data.length) return undefined;
  const queries = Array.from({ length: count }, text);
  const complete = queries.every((query) => query !== undefined);
  return complete && at === data.length ? { name, queries } : undefined;
}
