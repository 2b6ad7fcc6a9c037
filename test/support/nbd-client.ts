/** A small NBD client for tests: fixed newstyle, simple replies, many requests under way. */
import { createConnection, type Socket } from 'node:net';
import { ByteInput } from '../../src/host/byte-input.ts';
import * as nbd from '../../src/protocol/nbd.ts';

/** The connection ended before the answer came. */
export class Disconnected extends Error {}

interface UnderWay {
  readonly length: number;
  readonly resolve: (data: Buffer) => void;
  readonly reject: (error: Error) => void;
}

export class NbdClient {
  readonly #socket: Socket;
  readonly #input: ByteInput;
  readonly #underWay = new Map<bigint, UnderWay>();
  #cookie = 0n;
  #ended = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#input = new ByteInput(socket);
    socket.on('error', () => {});
  }

  static async connect(where: { path: string } | { port: number; host: string }): Promise<NbdClient> {
    const socket = createConnection(where);
    const client = new NbdClient(socket);
    await client.#need(nbd.GREETING_LENGTH);
    socket.write(Buffer.concat([nbd.encodeClientFlags(), nbd.encodeOption(nbd.option.exportName)]));
    await client.#need(nbd.EXPORT_LENGTH);
    void client.#receive();
    return client;
  }

  read(offset: number, length: number): Promise<Buffer> {
    return this.#request({ type: nbd.command.read, offset, length, reply: length });
  }

  async write(offset: number, data: Buffer, fua = false): Promise<void> {
    const flags = fua ? nbd.commandFlags.fua : 0;
    await this.#request({ type: nbd.command.write, flags, offset, length: data.length, data });
  }

  async zero(offset: number, length: number): Promise<void> {
    await this.#request({ type: nbd.command.writeZeroes, offset, length });
  }

  async trim(offset: number, length: number): Promise<void> {
    await this.#request({ type: nbd.command.trim, offset, length });
  }

  async flush(): Promise<void> {
    await this.#request({ type: nbd.command.flush, offset: 0, length: 0 });
  }

  close(): void {
    this.#socket.destroy();
  }

  #request(wanted: {
    readonly type: number;
    readonly flags?: number;
    readonly offset: number;
    readonly length: number;
    readonly data?: Buffer;
    readonly reply?: number;
  }): Promise<Buffer> {
    if (this.#ended) return Promise.reject(new Disconnected('the connection has ended'));
    const cookie = ++this.#cookie;
    const { type, flags = 0, offset, length } = wanted;
    const header = nbd.encodeRequest({ type, flags, cookie, offset, length });
    return new Promise((resolve, reject) => {
      this.#underWay.set(cookie, { length: wanted.reply ?? 0, resolve, reject });
      this.#socket.write(header);
      if (wanted.data) this.#socket.write(wanted.data);
    });
  }

  async #receive(): Promise<void> {
    try {
      for (;;) {
        const { cookie, error } = nbd.decodeSimpleReply(await this.#need(nbd.SIMPLE_REPLY_LENGTH))!;
        const entry = this.#underWay.get(cookie)!;
        const data = error === 0 ? await this.#need(entry.length) : Buffer.alloc(0);
        this.#underWay.delete(cookie);
        if (error === 0) entry.resolve(data);
        else entry.reject(new Error(`NBD error ${error}`));
      }
    } catch (error) {
      this.#ended = true;
      for (const { reject } of this.#underWay.values()) reject(error as Error);
      this.#underWay.clear();
    }
  }

  async #need(length: number): Promise<Buffer> {
    const bytes = await this.#input.take(length);
    if (bytes === undefined) throw new Disconnected('the connection has ended');
    return bytes;
  }
}
