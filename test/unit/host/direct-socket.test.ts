import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { type Connection, directSocket } from '../../../src/host/direct-socket.ts';

const KIB = 1024;

describe('directSocket', () => {
  let server: Server;
  let client: Socket;

  /** A client, and the other end of its connection. */
  async function connected(): Promise<Connection> {
    server = createServer({ pauseOnConnect: true });
    const path = join(tmpdir(), `union-direct-${process.pid}.sock`);
    server.listen({ path });
    await once(server, 'listening');
    client = createConnection({ path });
    const [accepted] = await once(server, 'connection');
    return directSocket(accepted);
  }

  afterEach(async () => {
    client.destroy();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  });

  it('gives what was sent in the portions that are asked for, and sends answers', async () => {
    const { socket, input } = await connected();
    const all = Buffer.from(Array.from({ length: 3000 * KIB }, (_, index) => (index * 13) >> 3));
    client.write(all);
    const portions: Buffer[] = [];
    for (const length of [28, 1024 * KIB, 28, 4096, 5, 64 * KIB, 1, 1800 * KIB]) {
      portions.push((await input.take(length))!);
    }
    const taken = Buffer.concat(portions);
    expect(taken.equals(all.subarray(0, taken.length))).to.equal(true);
    socket.write('answer');
    const [answer] = await once(client, 'data');
    expect(String(answer)).to.equal('answer');
  });

  it('ends in the middle of a portion when the client goes away', async () => {
    const { input } = await connected();
    client.write(Buffer.alloc(100 * KIB));
    const portion = input.take(200 * KIB);
    client.end();
    expect(await portion).to.equal(undefined);
  });

  it('is one of the connections that the server waits for', async () => {
    const { socket } = await connected();
    let closed = false;
    const closing = new Promise<void>((resolve) => {
      server.close(() => {
        closed = true;
        resolve();
      });
    });
    await new Promise(setImmediate);
    expect(closed).to.equal(false);
    socket.destroy();
    await closing;
  });
});
