/**
 * What a server offers, and who uses it. All connections to an export are one session of a disk with a volatile cache: when
 * the epoch of its answers changes, or the replica does not serve any more, writes that were answered and not flushed may be
 * gone. Then every connection is cut, as by a crash of the machine that has the disk, and nothing is answered in between.
 */
import type { Socket } from 'node:net';
import type { ClientAnswer } from '../../block/ports.ts';
import type { ByteDevice } from './byte-device.ts';

export interface NbdExportOptions {
  /** While this says no, whoever comes is sent away, to try another replica. */
  readonly isServing?: () => boolean;
  /** One connection at a time: whoever comes takes the place of who was there, of whom nothing is done from then on. */
  readonly isSingle?: boolean;
}

export class NbdExport {
  readonly device: ByteDevice;
  readonly #options: NbdExportOptions;
  readonly #sockets = new Set<Socket>();
  #epoch: bigint | undefined;

  constructor(device: ByteDevice, options: NbdExportOptions = {}) {
    this.device = device;
    this.#options = options;
  }

  get isServing(): boolean {
    return this.#options.isServing?.() ?? true;
  }

  join(socket: Socket): void {
    if (this.#options.isSingle) this.cut();
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0) this.#epoch = undefined;
    });
  }

  /** Whether the answer belongs to the session that this socket has begun. */
  accepts(answer: ClientAnswer, socket: Socket): boolean {
    if (!this.#sockets.has(socket)) return false;
    if (!answer.ok && answer.error !== 'moved') return true;
    if (answer.ok) this.#epoch ??= answer.epoch;
    if (answer.ok && answer.epoch === this.#epoch) return true;
    this.cut();
    return false;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
    this.#epoch = undefined;
  }
}
