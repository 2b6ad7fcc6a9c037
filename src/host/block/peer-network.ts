/**
 * The way between replicas: one connection per direction and pair, made by who has something to say. Messages may be lost, as
 * the engine allows: what cannot be sent now is dropped, and a connection over which nothing is heard back is made anew,
 * because TCP would go on waiting long after the network is well again.
 * With TLS each side must be who it says it is: the certificate's common name is the replica's id.
 */
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Message } from '../../block/messages.ts';
import type { ReplicaId } from '../../block/units.ts';
import { decodeFrame, encodeFrame, FRAME_HEADER_BYTES, frameLength } from '../../block/wire.ts';
import { ByteInput } from '../byte-input.ts';
import { nameOf, secureClient, secureServer, type TlsFiles } from '../tls.ts';
import type { ReplicaNetwork } from './replica-host.ts';

/** Of one peer, waiting to be sent; more is dropped. */
const MAX_WAITING_BYTES = 64 * 1024 ** 2;
/** A connection over which nothing has come back for so long is made anew; no more often than that either. */
const SILENT_MS = 1500;
const RETRY_MS = 200;
const MAX_NAME_BYTES = 253;

export interface PeerAddress {
  readonly host: string;
  readonly port: number;
}

interface PeerNetworkOptions {
  readonly id: ReplicaId;
  /** 32 hex digits. */
  readonly volume: string;
  /** Of all members, this one too. */
  readonly members: ReadonlyMap<ReplicaId, PeerAddress>;
  readonly tls: TlsFiles | undefined;
  readonly log: Logger;
}

interface Link {
  readonly address: PeerAddress;
  /** Undefined while there is none, or one is being made. */
  socket: Socket | undefined;
  connectedAt: number;
  triedAt: number;
  heardAt: number;
}

export class PeerNetwork implements ReplicaNetwork {
  readonly #options: PeerNetworkOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #links = new Map<ReplicaId, Link>();
  #receive: (from: ReplicaId, message: Message) => void = () => {};
  #closed = false;

  constructor(options: PeerNetworkOptions) {
    this.#options = options;
    this.#server = createServer({ noDelay: true }, (socket) => void this.#accept(socket));
    const never = Number.NEGATIVE_INFINITY;
    for (const [id, address] of options.members) {
      if (id === options.id) continue;
      this.#links.set(id, { address, socket: undefined, connectedAt: never, triedAt: never, heardAt: never });
    }
  }

  async listen(): Promise<void> {
    const { id, members } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ ...members.get(id)! }, resolve);
    });
  }

  deliver(receive: (from: ReplicaId, message: Message) => void): void {
    this.#receive = receive;
  }

  send(to: ReplicaId, message: Message): void {
    const link = this.#links.get(to);
    if (link === undefined || this.#closed) return;
    const now = performance.now();
    const { socket } = link;
    if (socket && now - Math.max(link.heardAt, link.connectedAt) > SILENT_MS) {
      socket.destroy();
      link.socket = undefined;
    }
    if (link.socket === undefined) {
      if (now - link.triedAt >= RETRY_MS) void this.#connect(to, link);
      return;
    }
    if (link.socket.writableLength > MAX_WAITING_BYTES) return;
    link.socket.cork();
    for (const part of encodeFrame(this.#options.volume, message)) link.socket.write(part);
    const corked = link.socket;
    process.nextTick(() => corked.uncork());
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const socket of this.#sockets) socket.destroy();
    if (this.#server.listening) await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #hold(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.on('error', (error) => this.#options.log.debug('block.peer', { error: error.message }));
  }

  async #connect(to: ReplicaId, link: Link): Promise<void> {
    const { id, tls } = this.#options;
    link.triedAt = performance.now();
    const plain = createConnection({ ...link.address, noDelay: true });
    this.#hold(plain);
    const connected = await new Promise<boolean>((resolve) => {
      plain.once('connect', () => resolve(true));
      plain.once('close', () => resolve(false));
    });
    const socket = connected && tls ? await secureClient(plain, tls, to) : plain;
    if (!connected || socket === undefined || this.#closed || link.socket) {
      plain.destroy();
      return;
    }
    // Nothing comes back on this connection; reading is how its end is noticed.
    socket.resume();
    const name = Buffer.from(id);
    socket.write(Buffer.concat([Buffer.from([name.length]), name]));
    link.socket = socket;
    link.connectedAt = performance.now();
    socket.once('close', () => {
      if (link.socket === socket) link.socket = undefined;
    });
  }

  async #accept(plain: Socket): Promise<void> {
    const { tls, log } = this.#options;
    this.#hold(plain);
    try {
      const socket = tls ? await secureServer(plain, tls) : plain;
      if (socket) await this.#listenTo(socket);
    } catch (error) {
      log.error('block.peer', { error: messageOf(error) });
    }
    plain.destroy();
  }

  async #listenTo(socket: Socket | TLSSocket): Promise<void> {
    const { volume, tls, log } = this.#options;
    socket.on('error', () => {});
    const input = new ByteInput(socket);
    const length = (await input.take(1))?.[0] ?? 0;
    const from = (await input.take(Math.min(length, MAX_NAME_BYTES)))?.toString() ?? '';
    const link = this.#links.get(from);
    if (link === undefined || (tls && nameOf(socket as TLSSocket) !== from)) {
      log.warn('block.stranger', { from });
      return;
    }
    for (;;) {
      const header = await input.take(FRAME_HEADER_BYTES);
      const size = header && frameLength(header);
      const body = size === undefined ? undefined : await input.take(size);
      const message = header && body && decodeFrame(volume, header, body);
      if (message === undefined || this.#closed) return;
      link.heardAt = performance.now();
      this.#receive(from, message);
    }
  }
}
