/**
 * The way between the replicas of a volume: one connection per direction and pair, made by who has something to say. Messages may be lost, as
 * the engine allows: what cannot be sent now is dropped, and a connection over which nothing is heard back is made anew,
 * because TCP would go on waiting long after the network is well again.
 * With TLS each side must be who it says it is: the certificate's common name is the replica's id.
 */
import { createConnection, type Socket } from 'node:net';
import type { Logger } from '../../base/logger.ts';
import type { Message } from '../../block/messages.ts';
import type { ReplicaId } from '../../block/units.ts';
import { decodeFrame, encodeFrame, FRAME_HEADER_BYTES, frameLength } from '../../block/wire.ts';
import type { ByteInput } from '../byte-input.ts';
import { secureClient, type TlsFiles } from '../tls.ts';
import { encodeIntroduction, type PeerListener } from './peer-listener.ts';
import type { ReplicaNetwork } from './replica-host.ts';

/** Of one peer, waiting to be sent; more is dropped. */
const MAX_WAITING_BYTES = 64 * 1024 ** 2;
/** A connection over which nothing has come back for so long is made anew; no more often than that either. */
const SILENT_MS = 1500;
const RETRY_MS = 200;

export interface PeerAddress {
  readonly host: string;
  readonly port: number;
}

interface PeerNetworkOptions {
  readonly id: ReplicaId;
  /** 32 hex digits. */
  readonly volume: string;
  /** Where a member is reached; undefined when there is no such member, or it is not known yet. */
  readonly addressOf: (id: ReplicaId) => PeerAddress | undefined;
  readonly listener: PeerListener;
  readonly tls: TlsFiles | undefined;
  readonly log: Logger;
}

interface Link {
  /** Undefined while there is none, or one is being made. */
  socket: Socket | undefined;
  connectedAt: number;
  triedAt: number;
  heardAt: number;
}

export class PeerNetwork implements ReplicaNetwork {
  readonly #options: PeerNetworkOptions;
  readonly #sockets = new Set<Socket>();
  readonly #links = new Map<ReplicaId, Link>();
  #receive: (from: ReplicaId, message: Message) => void = () => {};
  #closed = false;

  constructor(options: PeerNetworkOptions) {
    this.#options = options;
    options.listener.register(options.volume, (from, input) => this.#read(from, input));
  }

  deliver(receive: (from: ReplicaId, message: Message) => void): void {
    this.#receive = receive;
  }

  send(to: ReplicaId, message: Message): void {
    if (this.#closed) return;
    const link = this.#linkOf(to);
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
    this.#options.listener.unregister(this.#options.volume);
    for (const socket of this.#sockets) socket.destroy();
  }

  #linkOf(id: ReplicaId): Link {
    const never = Number.NEGATIVE_INFINITY;
    const link = this.#links.get(id) ?? { socket: undefined, connectedAt: never, triedAt: never, heardAt: never };
    this.#links.set(id, link);
    return link;
  }

  #hold(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.on('error', (error) => this.#options.log.debug('block.peer', { error: error.message }));
  }

  async #connect(to: ReplicaId, link: Link): Promise<void> {
    const { id, volume, tls, addressOf } = this.#options;
    link.triedAt = performance.now();
    const address = addressOf(to);
    if (address === undefined) return;
    const plain = createConnection({ ...address, noDelay: true });
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
    socket.write(encodeIntroduction(id, volume));
    link.socket = socket;
    link.connectedAt = performance.now();
    socket.once('close', () => {
      if (link.socket === socket) link.socket = undefined;
    });
  }

  async #read(from: ReplicaId, input: ByteInput): Promise<void> {
    const { volume, log, addressOf } = this.#options;
    if (addressOf(from) === undefined) {
      log.warn('block.stranger', { from });
      return;
    }
    const link = this.#linkOf(from);
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
