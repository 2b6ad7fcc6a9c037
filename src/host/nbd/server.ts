/**
 * An NBD server on a unix socket or a TCP port. One connection's failure is its own; whoever does not finish the handshake in
 * time is cut. Source: the protocol document named in protocol/nbd.ts.
 */
import { rmSync } from 'node:fs';
import { createServer, type ListenOptions, type Server, type Socket } from 'node:net';
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { ByteInput } from '../byte-input.ts';
import { directSocket } from '../direct-socket.ts';
import type { TlsFiles } from '../tls.ts';
import type { NbdExport } from './exports.ts';
import { Handshake } from './handshake.ts';
import { Transmission } from './transmission.ts';

const HANDSHAKE_MS = 10_000;
const MAX_CONNECTIONS = 256;

export interface NbdServerOptions {
  readonly listen: ListenOptions;
  /** May change: each client sees what there is when it asks. */
  readonly exports: readonly NbdExport[];
  /** With it nothing is served without TLS; clients need a certificate of its authority. */
  readonly tls: TlsFiles | undefined;
  readonly log: Logger;
}

export class NbdServer {
  readonly #options: NbdServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(options: NbdServerOptions) {
    this.#options = options;
    // With TLS bytes are taken from the socket by somebody else.
    const pauseOnConnect = options.tls === undefined;
    this.#server = createServer({ noDelay: true, pauseOnConnect }, (socket) => void this.#serve(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Where it listens: of a port 0, the one that was chosen. */
  async listen(): Promise<string> {
    const { listen } = this.#options;
    // A socket that a killed process has left behind; whoever may serve holds the replica's lock.
    if (listen.path !== undefined) rmSync(listen.path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(listen, resolve);
    });
    const address = this.#server.address();
    if (typeof address !== 'object' || address === null) return String(address);
    return `${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #serve(accepted: Socket): Promise<void> {
    const { exports, tls, log } = this.#options;
    const connection = tls ? { socket: accepted, input: new ByteInput(accepted) } : directSocket(accepted);
    const { socket } = connection;
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.on('error', (error) => log.debug('nbd.socket', { error: error.message }));
    const timer = setTimeout(() => socket.destroy(), HANDSHAKE_MS);
    try {
      const negotiated = await new Handshake(connection, exports, tls).run();
      clearTimeout(timer);
      if (negotiated === undefined) {
        if (!socket.writableEnded) socket.destroy();
        return;
      }
      const { device } = negotiated.chosen;
      log.debug('nbd.connected', { export: device.name });
      await new Transmission(negotiated).run();
    } catch (error) {
      log.error('nbd.connection', { error: messageOf(error) });
      socket.destroy();
    } finally {
      clearTimeout(timer);
    }
  }
}
