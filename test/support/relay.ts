/**
 * A wire between two programs on this machine that can be cut: TCP from a port of its own to another one. While it is cut nothing passes
 * and nobody is told, as in a network; those who had come by then are sent away when it is whole again.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class Relay {
  readonly #server: Server;
  readonly #to: number;
  readonly #sockets = new Set<Socket>();
  #cut = false;
  /** Bytes that have passed in the direction of who listens. */
  passed = 0;

  private constructor(to: number) {
    this.#to = to;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  static async open(to: number): Promise<Relay> {
    const relay = new Relay(to);
    relay.#server.listen(0, '127.0.0.1');
    await once(relay.#server, 'listening');
    return relay;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.unpipe().pause();
  }

  heal(): void {
    this.#cut = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.heal();
    this.#server.close();
  }

  #accept(socket: Socket): void {
    this.#hold(socket);
    if (this.#cut) {
      socket.pause();
      return;
    }
    const onward = connect(this.#to, '127.0.0.1');
    this.#hold(onward);
    socket.on('data', (data) => {
      this.passed += data.length;
    });
    socket.pipe(onward).pipe(socket);
    for (const [one, other] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      one.once('close', () => {
        if (!this.#cut) other.destroy();
      });
    }
  }

  #hold(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => this.#sockets.delete(socket));
  }
}
