/**
 * The client of a replicated volume: over NBD, to whichever replica serves it just now. When the connection ends, or is silent
 * while something is asked for, it finds who serves the volume now and asks again for what was not answered, in the same order.
 *
 * Each write asks to be durable before it is answered. So a replica that dies, or this process, takes nothing with it that
 * anybody was told is written: there is no volatile cache to lose, and whoever takes over has nothing to know.
 * An export is for one connection at a time (NbdExport): what an older one had sent is never done after what this one asks for.
 */
import { createConnection, type Socket } from 'node:net';
import { constants } from 'node:os';
import { type FileContent, FileError } from '../../../fuse/index.ts';
import type { Logger } from '../../base/logger.ts';
import * as nbd from '../../protocol/nbd.ts';
import { ByteInput } from '../byte-input.ts';
import { secureClient, type TlsFiles } from '../tls.ts';
import type { PeerAddress } from './peer-network.ts';

/** Without an answer for so long, others are tried; whoever has no others waits for this one. */
const STALL_MS = 1_000;
/** After so long the connection itself is in doubt. */
const DEAD_MS = 10_000;
const LOOK_MS = 200;
const HANDSHAKE_MS = 1_000;
const RETRY_MS = 100;

const { command, commandFlags, nbdError } = nbd;

export interface VolumeClientOptions {
  readonly exportName: string;
  /** Asked again whenever somebody wants to know: the volume may have grown, and replicas may be elsewhere. */
  readonly config: () => { readonly sizeBytes: number; readonly addresses: readonly ReplicaAddress[] };
  /** With it, only to whose certificate names the node. */
  readonly tls?: () => Promise<TlsFiles | undefined>;
  readonly log: Logger;
}

/** A replica, and the node that it must be on. */
export interface ReplicaAddress extends PeerAddress {
  readonly node: string;
}

interface Greeted {
  readonly size: number;
  readonly socket: Socket;
  readonly input: ByteInput;
}

interface Asked {
  readonly request: nbd.NbdRequest;
  readonly data: Buffer | undefined;
  readonly resolve: (data: Buffer) => void;
  readonly reject: (error: Error) => void;
}

interface Connection {
  readonly address: string;
  readonly socket: Socket;
  readonly input: ByteInput;
}

export class VolumeClient implements FileContent {
  readonly #options: VolumeClientOptions;
  /** What is not answered yet, in the order in which it was asked. */
  readonly #asked = new Map<bigint, Asked>();
  readonly #supervision: NodeJS.Timeout;
  #cookie = 0n;
  #connection: Connection | undefined;
  #isSearching = false;
  /** Since when an answer is waited for. */
  #waitingSince = 0;
  #closed = false;

  constructor(options: VolumeClientOptions) {
    this.#options = options;
    this.#supervision = setInterval(() => this.#supervise(), LOOK_MS);
    void this.#search();
  }

  get sizeBytes(): number {
    return this.#options.config().sizeBytes;
  }

  read(offset: number, length: number): Promise<Buffer> {
    return this.#ask({ type: command.read, flags: 0, offset, length });
  }

  async write(offset: number, data: Buffer): Promise<void> {
    await this.#ask({ type: command.write, flags: commandFlags.fua, offset, length: data.length }, data);
  }

  async flush(): Promise<void> {
    await this.#ask({ type: command.flush, flags: 0, offset: 0, length: 0 });
  }

  async zero(offset: number, length: number, release: boolean): Promise<void> {
    const type = release ? command.trim : command.writeZeroes;
    await this.#ask({ type, flags: commandFlags.fua, offset, length });
  }

  /** What was not answered is rejected. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#supervision);
    this.#connection?.socket.destroy();
    for (const { reject } of this.#asked.values()) reject(new FileError(constants.errno.EIO));
    this.#asked.clear();
  }

  #ask(body: Omit<nbd.NbdRequest, 'cookie'>, data?: Buffer): Promise<Buffer> {
    if (this.#closed) return Promise.reject(new FileError(constants.errno.EIO));
    const cookie = ++this.#cookie;
    if (this.#asked.size === 0) this.#waitingSince = performance.now();
    return new Promise((resolve, reject) => {
      const asked: Asked = { request: { ...body, cookie }, data, resolve, reject };
      this.#asked.set(cookie, asked);
      if (this.#connection) send(this.#connection.socket, asked);
    });
  }

  #supervise(): void {
    const waitedMs = performance.now() - this.#waitingSince;
    if (this.#asked.size === 0 || this.#connection === undefined || waitedMs < STALL_MS) return;
    if (waitedMs >= DEAD_MS) this.#connection.socket.destroy();
    else void this.#search();
  }

  /** Looks for who serves the volume, until somebody does; while there is a connection, once among the others. */
  async #search(): Promise<void> {
    if (this.#isSearching) return;
    this.#isSearching = true;
    try {
      do {
        for (const address of this.#options.config().addresses) {
          if (this.#closed) return;
          if (keyOf(address) === this.#connection?.address) continue;
          const connection = await this.#connect(address);
          if (connection) return this.#use(connection);
        }
        if (this.#connection === undefined) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      } while (this.#connection === undefined && !this.#closed);
    } finally {
      this.#isSearching = false;
    }
    if (this.#connection === undefined && !this.#closed) void this.#search();
  }

  /** Undefined when that replica does not serve the volume now. */
  async #connect(address: ReplicaAddress): Promise<Connection | undefined> {
    const { log } = this.#options;
    const plain = createConnection({ host: address.host, port: address.port, noDelay: true });
    plain.on('error', (error) => log.debug('volume.connection', { address: keyOf(address), error: error.message }));
    const limit = setTimeout(() => plain.destroy(), HANDSHAKE_MS);
    const greeted = await this.#greet(plain, address.node);
    clearTimeout(limit);
    if (greeted !== undefined && greeted.size >= this.sizeBytes) return { address: keyOf(address), ...greeted };
    plain.destroy();
    if (greeted) log.error('volume.too_small', { address: keyOf(address), size: greeted.size, wanted: this.sizeBytes });
    return undefined;
  }

  /** Undefined when the export is not served there, or that is not who it should be. */
  async #greet(plain: Socket, node: string): Promise<Greeted | undefined> {
    const first = new ByteInput(plain);
    const greeting = await first.take(nbd.GREETING_LENGTH);
    if (greeting === undefined || !nbd.isGreeting(greeting)) return undefined;
    plain.write(nbd.encodeClientFlags());
    const tls = await this.#options.tls?.();
    const socket = tls ? await startTls(plain, first, tls, node) : plain;
    if (socket === undefined) return undefined;
    const input = tls ? new ByteInput(socket) : first;
    socket.write(nbd.encodeOption(nbd.option.exportName, this.#options.exportName));
    const reply = await input.take(nbd.EXPORT_LENGTH);
    return reply && { size: Number(reply.readBigUInt64BE(0)), socket, input };
  }

  #use(connection: Connection): void {
    const { socket, address } = connection;
    if (this.#closed) {
      socket.destroy();
      return;
    }
    const before = this.#connection;
    this.#connection = connection;
    before?.socket.destroy();
    this.#options.log.info('volume.connected', { address, again: this.#asked.size });
    this.#waitingSince = performance.now();
    for (const asked of this.#asked.values()) send(socket, asked);
    void this.#receive(connection);
  }

  async #receive(connection: Connection): Promise<void> {
    for (;;) {
      const header = await connection.input.take(nbd.SIMPLE_REPLY_LENGTH);
      const reply = header && nbd.decodeSimpleReply(header);
      const asked = reply && this.#asked.get(reply.cookie);
      // A refusal because it is going away is none: another one will do it.
      if (asked === undefined || reply?.error === nbdError.shutdown) break;
      const { type, length } = asked.request;
      const bytes = reply?.error === 0 && type === command.read ? length : 0;
      const data = await connection.input.take(bytes);
      if (data === undefined || connection !== this.#connection) break;
      this.#waitingSince = performance.now();
      this.#asked.delete(asked.request.cookie);
      if (reply?.error === 0) asked.resolve(data);
      else asked.reject(new FileError(reply?.error ?? constants.errno.EIO));
    }
    connection.socket.destroy();
    if (connection !== this.#connection) return;
    this.#connection = undefined;
    void this.#search();
  }
}

async function startTls(plain: Socket, input: ByteInput, tls: TlsFiles, node: string): Promise<Socket | undefined> {
  plain.write(nbd.encodeOption(nbd.option.startTls));
  const reply = await input.take(nbd.OPTION_REPLY_LENGTH);
  // What follows the answer at once came unprotected.
  if (reply === undefined || nbd.decodeOptionReply(reply) !== nbd.optionReply.ack || !input.release()) return undefined;
  return await secureClient(plain, tls, node);
}

function send(socket: Socket, { request, data }: Asked): void {
  socket.cork();
  socket.write(nbd.encodeRequest(request));
  if (data) socket.write(data);
  process.nextTick(() => socket.uncork());
}

function keyOf({ host, port }: PeerAddress): string {
  return `${host}:${port}`;
}
