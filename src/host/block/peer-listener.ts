/**
 * Where the replicas of one machine are reached by others: one port for all volumes. A connection begins with who made it and for
 * which volume: a length (1 byte), the sender's id, the volume's UUID (16 bytes).
 * With TLS each side must be who it says it is: the certificate's common name is the sender's id.
 */
import { createServer, type ListenOptions, type Server, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { ReplicaId } from '../../block/units.ts';
import { ByteInput } from '../byte-input.ts';
import { nameOf, secureServer, type TlsFiles } from '../tls.ts';

const MAX_NAME_BYTES = 253;
const VOLUME_BYTES = 16;

/** What a connection says first. */
export function encodeIntroduction(id: ReplicaId, volume: string): Buffer {
  const name = Buffer.from(id);
  return Buffer.concat([Buffer.from([name.length]), name, Buffer.from(volume, 'hex')]);
}

/** Reads a connection until it ends or breaks the protocol. */
export type PeerReader = (from: ReplicaId, input: ByteInput) => Promise<void>;

export interface PeerListenerOptions {
  readonly listen: ListenOptions;
  readonly tls: TlsFiles | undefined;
  readonly log: Logger;
}

export class PeerListener {
  readonly #options: PeerListenerOptions;
  readonly #server: Server;
  readonly #sockets = new Map<Socket, string | undefined>();
  /** By volume. */
  readonly #readers = new Map<string, PeerReader>();

  constructor(options: PeerListenerOptions) {
    this.#options = options;
    this.#server = createServer({ noDelay: true }, (socket) => void this.#accept(socket));
  }

  /** The port that it listens on. */
  async listen(): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#options.listen, resolve);
    });
    const address = this.#server.address();
    return typeof address === 'object' && address ? address.port : 0;
  }

  /** From now on connections for the volume (32 hex digits) are read there. */
  register(volume: string, reader: PeerReader): void {
    this.#readers.set(volume, reader);
  }

  unregister(volume: string): void {
    this.#readers.delete(volume);
    for (const [socket, of] of this.#sockets) if (of === volume) socket.destroy();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets.keys()) socket.destroy();
    if (this.#server.listening) await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #accept(plain: Socket): Promise<void> {
    const { tls, log } = this.#options;
    this.#sockets.set(plain, undefined);
    plain.once('close', () => this.#sockets.delete(plain));
    plain.on('error', (error) => log.debug('block.peer', { error: error.message }));
    try {
      const socket = tls ? await secureServer(plain, tls) : plain;
      if (socket) await this.#read(plain, socket);
    } catch (error) {
      log.error('block.peer', { error: messageOf(error) });
    }
    plain.destroy();
  }

  async #read(plain: Socket, socket: Socket | TLSSocket): Promise<void> {
    const { tls, log } = this.#options;
    socket.on('error', () => {});
    const input = new ByteInput(socket);
    const length = (await input.take(1))?.[0] ?? 0;
    const from = (await input.take(Math.min(length, MAX_NAME_BYTES)))?.toString() ?? '';
    const volume = (await input.take(VOLUME_BYTES))?.toString('hex') ?? '';
    const reader = this.#readers.get(volume);
    if (tls && nameOf(socket as TLSSocket) !== from) log.warn('block.stranger', { from });
    else if (reader !== undefined) {
      this.#sockets.set(plain, volume);
      await reader(from, input);
    }
  }
}
