import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { expect } from 'chai';
import { silentLogger } from '../../../src/base/logger.ts';
import type { ClientAnswer, ClientRequest } from '../../../src/block/ports.ts';
import { BLOCK_SIZE, toEpoch } from '../../../src/block/units.ts';
import { VolumeClient } from '../../../src/host/block/volume-client.ts';
import { ByteInput } from '../../../src/host/byte-input.ts';
import { issueCertificate, makeAuthority } from '../../../src/host/development-ca.ts';
import { ByteDevice } from '../../../src/host/nbd/byte-device.ts';
import { NbdExport } from '../../../src/host/nbd/exports.ts';
import { NbdServer } from '../../../src/host/nbd/server.ts';
import type { TlsFiles } from '../../../src/host/tls.ts';
import * as nbd from '../../../src/protocol/nbd.ts';
import { eventually } from '../../support/eventually.ts';

const NAME = 'volume/node';
const BLOCKS = 8;
const SIZE = BLOCKS * BLOCK_SIZE;

/** A replica in memory; all of them share `blocks`, as replicas do. */
class Replica {
  readonly asked: ClientRequest[] = [];
  isServing = false;
  /** When not, requests are taken and never answered. */
  answers = true;
  readonly #blocks: Map<number, Uint8Array>;
  readonly #export: NbdExport;
  readonly #server: NbdServer;
  port = 0;

  constructor(blocks: Map<number, Uint8Array>, tls?: TlsFiles) {
    this.#blocks = blocks;
    const request = (body: ClientRequest) => this.#request(body);
    const device = new ByteDevice({ name: NAME, blocks: BLOCKS, room: Buffer.allocUnsafeSlow, request });
    this.#export = new NbdExport(device, { isServing: () => this.isServing, isSingle: true });
    const listen = { host: '127.0.0.1', port: 0 };
    this.#server = new NbdServer({ listen, exports: [this.#export], tls, log: silentLogger });
  }

  async listen(): Promise<void> {
    this.port = Number((await this.#server.listen()).split(':').at(-1));
  }

  /** As a process that dies. */
  cut(): void {
    this.isServing = false;
    this.#export.cut();
  }

  async close(): Promise<void> {
    await this.#server.close();
  }

  async #request(body: ClientRequest): Promise<ClientAnswer> {
    this.asked.push(body);
    if (!this.answers) return await new Promise(() => {});
    if (body.kind === 'write') this.#blocks.set(body.lba, Uint8Array.from(body.data));
    const data = body.kind === 'read' ? (this.#blocks.get(body.lba) ?? new Uint8Array(BLOCK_SIZE)) : undefined;
    return { ok: true, epoch: toEpoch(1), data };
  }
}

function clientOf(replicas: readonly { readonly port: number }[], tls?: TlsFiles): VolumeClient {
  const config = () => ({
    sizeBytes: SIZE,
    addresses: replicas.map(({ port }) => ({ node: 'node-1', host: '127.0.0.1', port })),
  });
  return new VolumeClient({ exportName: NAME, config, tls: async () => tls, log: silentLogger });
}

function block(byte: number): Buffer {
  return Buffer.alloc(BLOCK_SIZE, byte);
}

describe('VolumeClient', function () {
  this.timeout(20_000);
  let replicas: [Replica, Replica];
  let client: VolumeClient;

  beforeEach(async () => {
    const blocks = new Map<number, Uint8Array>();
    replicas = [new Replica(blocks), new Replica(blocks)];
    for (const replica of replicas) await replica.listen();
    client = clientOf(replicas);
  });

  afterEach(async () => {
    client.close();
    for (const replica of replicas) await replica.close();
  });

  it('waits until one of the replicas serves, and asks for durable writes only', async () => {
    const written = client.write(BLOCK_SIZE, block(7));
    replicas[1].isServing = true;
    await written;
    expect(Buffer.from(await client.read(BLOCK_SIZE, BLOCK_SIZE))).to.deep.equal(block(7));
    expect(replicas[1].asked[0]).to.include({ kind: 'write', lba: 1, fua: true });
  });

  it('asks the next replica for what the one before did not answer, in the same order', async () => {
    const [first, second] = replicas;
    first.isServing = true;
    await client.flush();
    first.answers = false;
    const written = [1, 2, 3].map((lba) => client.write(lba * BLOCK_SIZE, block(lba)));
    await eventually('the writes to arrive', () => first.asked.length === 4);
    second.isServing = true;
    first.cut();
    await Promise.all(written);
    expect(second.asked.map((body) => 'lba' in body && body.lba)).to.deep.equal([1, 2, 3]);
  });

  it('leaves a replica that has fallen silent for one that serves', async () => {
    const [first, second] = replicas;
    first.isServing = true;
    await client.flush();
    first.answers = false;
    second.isServing = true;
    await client.write(0, block(1));
    expect(second.asked.map(({ kind }) => kind)).to.deep.equal(['write']);
  });

  it('stays with a silent replica while there is no other', async () => {
    const [first] = replicas;
    first.isServing = true;
    await client.flush();
    first.answers = false;
    const written = client.write(0, block(1));
    const outcome = await Promise.race([
      written.then(() => 'answered'),
      new Promise((resolve) => setTimeout(() => resolve('waits'), 1_500)),
    ]);
    expect(outcome).to.equal('waits');
    first.asked.length = 0;
    first.answers = true;
    // Only what is asked anew is answered: the connection is still the first one.
    await client.write(BLOCK_SIZE, block(2));
    expect(first.asked).to.have.length(1);
    written.catch(() => {});
  });

  it('passes by who is nothing of the kind', async () => {
    const sockets: Socket[] = [];
    const stranger: Server = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => {});
      socket.write('SSH-2.0-OpenSSH_9.2p1 and more\r\n');
    });
    stranger.listen(0, '127.0.0.1');
    await once(stranger, 'listening');
    const { port } = stranger.address() as { port: number };
    replicas[0].isServing = true;
    const other = clientOf([{ port }, replicas[0]]);
    await other.write(0, block(1));
    other.close();
    for (const socket of sockets) socket.destroy();
    stranger.close();
    expect(replicas[0].asked).to.have.length(1);
  });
});

describe('VolumeClient with TLS', function () {
  this.timeout(20_000);

  it('speaks to the node that the certificate names, and to nobody else', async () => {
    const authority = await makeAuthority();
    const filesFor = async (name: string): Promise<TlsFiles> => ({
      ...(await issueCertificate(authority, name)),
      ca: authority.cert,
    });
    const replicas = [
      new Replica(new Map(), await filesFor('somebody-else')),
      new Replica(new Map(), await filesFor('node-1')),
    ] as const;
    for (const replica of replicas) {
      await replica.listen();
      replica.isServing = true;
    }
    const client = clientOf(replicas, await filesFor('node-2'));
    await client.write(0, block(1));
    expect(replicas.map(({ asked }) => asked.length)).to.deep.equal([0, 1]);
    client.close();
    for (const replica of replicas) await replica.close();
  });
});

describe('an NBD export for one connection', () => {
  it('does nothing more of what a connection was sending when another one took its place', async () => {
    const replica = new Replica(new Map());
    await replica.listen();
    replica.isServing = true;
    const old = createConnection({ host: '127.0.0.1', port: replica.port });
    old.on('error', () => {});
    const input = new ByteInput(old);
    await input.take(nbd.GREETING_LENGTH);
    old.write(Buffer.concat([nbd.encodeClientFlags(), nbd.encodeOption(nbd.option.exportName, NAME)]));
    await input.take(nbd.EXPORT_LENGTH);
    const header = nbd.encodeRequest({ type: nbd.command.write, flags: 0, cookie: 1n, offset: 0, length: BLOCK_SIZE });
    old.write(Buffer.concat([header, block(1).subarray(1)]));
    const client = clientOf([replica]);
    await client.write(0, block(2));
    old.write(block(1).subarray(0, 1));
    // Its end says that all of it was taken, or thrown away.
    old.end();
    while (!old.destroyed) await once(old, 'close');
    expect(Buffer.from(await client.read(0, BLOCK_SIZE))).to.deep.equal(block(2));
    client.close();
    await replica.close();
  });
});
