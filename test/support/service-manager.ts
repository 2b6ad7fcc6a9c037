/** What systemd does for a service with a descriptor store: it listens, keeps what it is given, and starts the service again with it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { receiveMessage } from '../../src/host/descriptor-message.ts';
import { withSocketAddress } from '../../src/host/socket-address.ts';
import { AF_UNIX, bind, errnoCode, SOCK_DGRAM, SOCK_NONBLOCK_CLOEXEC, socket } from '../../src/host/syscalls.ts';

export class ServiceManager {
  readonly stored = new Map<string, number>();
  #isReady = false;
  readonly #path: string;
  readonly #socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK_CLOEXEC, 0);

  constructor(folder: string) {
    this.#path = join(folder, 'notify');
    withSocketAddress(this.#path, (address) => bind(this.#socket, address, address.length));
  }

  start(command: string, args: readonly string[]): ChildProcess {
    this.#isReady = false;
    const env = {
      ...process.env,
      NOTIFY_SOCKET: this.#path,
      LISTEN_FDS: `${this.stored.size}`,
      LISTEN_FDNAMES: [...this.stored.keys()].join(':'),
    };
    // exec: the service has the process id that it is told.
    return spawn('sh', ['-c', 'LISTEN_PID=$$ exec "$0" "$@"', command, ...args], {
      env,
      stdio: ['ignore', 'inherit', 'inherit', ...this.stored.values()],
    });
  }

  /** Whether what was started last is ready. Takes what it said. */
  isReady(): boolean {
    for (let said = this.#receive(); said !== undefined; said = this.#receive()) {
      const fields = new Map(said.text.split('\n').map((line) => line.split('=') as [string, string]));
      if (fields.has('READY')) this.#isReady = true;
      if (fields.has('FDSTORE')) this.#store(fields.get('FDNAME')!, said.descriptors[0]!);
    }
    return this.#isReady;
  }

  close(): void {
    closeSync(this.#socket);
    for (const fd of this.stored.values()) closeSync(fd);
  }

  /** The same one again is not stored twice, as systemd has it. */
  #store(name: string, fd: number): void {
    if (this.stored.has(name)) closeSync(fd);
    else this.stored.set(name, fd);
  }

  #receive(): { text: string; descriptors: readonly number[] } | undefined {
    const buffer = Buffer.alloc(1024);
    try {
      const { length, descriptors } = receiveMessage(this.#socket, buffer);
      return { text: buffer.toString('utf8', 0, length), descriptors };
    } catch (error) {
      if (errnoCode(error) === 'EAGAIN') return undefined;
      throw error;
    }
  }
}
