/** The NBD server's parts without tools of others: bytes in portions, changes inside a block, and clients that send anything. */
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { expect } from 'chai';
import fc from 'fast-check';
import { silentLogger } from '../../../src/base/logger.ts';
import type { ClientAnswer, ClientRequest } from '../../../src/block/ports.ts';
import { BLOCK_SIZE, toEpoch } from '../../../src/block/units.ts';
import { ByteInput } from '../../../src/host/byte-input.ts';
import { ByteDevice } from '../../../src/host/nbd/byte-device.ts';
import { NbdExport } from '../../../src/host/nbd/exports.ts';
import { NbdServer } from '../../../src/host/nbd/server.ts';
import * as nbd from '../../../src/protocol/nbd.ts';
import { TestVolume, VOLUME_NAME } from '../../support/block-volume.ts';
import { Disconnected, NbdClient } from '../../support/nbd-client.ts';

const BLOCKS = 8;

/** A device in memory whose requests wait for their turn, in an order that fast-check chooses. */
function memoryDevice(scheduler: fc.Scheduler) {
  const content = Buffer.alloc(BLOCKS * BLOCK_SIZE);
  const epoch = toEpoch(1);
  const request = async (body: ClientRequest): Promise<ClientAnswer> => {
    await scheduler.schedule(Promise.resolve(), body.kind);
    if (body.kind === 'flush' || body.kind === 'resize') return { ok: true, epoch, data: undefined };
    const start = body.lba * BLOCK_SIZE;
    if (body.kind === 'write') content.set(body.data, start);
    else if (body.kind === 'read') {
      return { ok: true, epoch, data: Buffer.from(content.subarray(start, start + body.blocks * BLOCK_SIZE)) };
    } else content.fill(0, start, start + body.blocks * BLOCK_SIZE);
    return { ok: true, epoch, data: undefined };
  };
  return { content, device: new ByteDevice({ name: 'memory', blocks: BLOCKS, room: Buffer.allocUnsafeSlow, request }) };
}

describe('ByteDevice', () => {
  it('loses no part of changes that share blocks, whatever order they are served in', async () => {
    const change = fc.record({ length: fc.integer({ min: 1, max: 2 * BLOCK_SIZE }), zero: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), fc.array(change, { minLength: 2, maxLength: 6 }), async (scheduler, changes) => {
        const { content, device } = memoryDevice(scheduler);
        content.fill(0xff);
        // Side by side, so that each byte has one right value.
        let offset = 100;
        const expected = Buffer.from(content);
        const done = changes.map(({ length, zero }, index) => {
          const end = Math.min(offset + length, content.length);
          const at = offset;
          offset = end;
          expected.fill(zero ? 0 : index + 1, at, end);
          if (end === at) return undefined;
          if (zero) return device.zero(at, end - at, { trim: false, fua: false });
          return device.write(at, Buffer.alloc(end - at, index + 1), false);
        });
        await scheduler.waitFor(Promise.all(done));
        expect(content.equals(expected)).to.equal(true);
      }),
    );
  });

  it('reads any stretch of bytes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.nat(20_000),
        fc.integer({ min: 1, max: 9000 }),
        async (scheduler, offset, length) => {
          const { content, device } = memoryDevice(scheduler);
          for (let index = 0; index < content.length; index++) content[index] = (index * 7) & 0xff;
          const answer = await scheduler.waitFor(device.read(offset, length));
          expect(answer.ok && Buffer.from(answer.data!).equals(content.subarray(offset, offset + length))).to.equal(
            true,
          );
        },
      ),
    );
  });

  it('trims whole blocks only', async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), async (scheduler) => {
        const { content, device } = memoryDevice(scheduler);
        content.fill(1);
        await scheduler.waitFor(device.zero(100, 2 * BLOCK_SIZE, { trim: true, fua: false }));
        expect([content[100], content[BLOCK_SIZE], content[2 * BLOCK_SIZE - 1], content[2 * BLOCK_SIZE]]).to.deep.equal(
          [1, 0, 0, 1],
        );
      }),
      { numRuns: 1 },
    );
  });
});

describe('ByteInput', () => {
  it('gives the same bytes however they come and are asked for', async () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(sizes, sizes, async (chunks, portions) => {
        const total = chunks.reduce((sum, size) => sum + size, 0);
        const bytes = Buffer.from(Array.from({ length: total }, (_, index) => index & 0xff));
        const stream = new PassThrough();
        const input = new ByteInput(stream);
        let sent = 0;
        for (const size of chunks) {
          stream.write(bytes.subarray(sent, sent + size));
          sent += size;
        }
        stream.end();
        let taken = 0;
        for (const size of portions) {
          const portion = await input.take(size);
          if (taken + size > total) {
            expect(portion).to.equal(undefined);
            return;
          }
          expect(portion!.equals(bytes.subarray(taken, taken + size))).to.equal(true);
          taken += size;
        }
      }),
    );
  });
});

describe('the NBD server', () => {
  let volume: TestVolume;

  beforeEach(async () => {
    volume = await TestVolume.create();
  });

  afterEach(() => volume.remove());

  const greeting = (option: number, data: Buffer) => {
    const bytes = Buffer.alloc(20 + data.length);
    bytes.writeUInt32BE(3, 0);
    bytes.writeBigUInt64BE(nbd.OPTION_MAGIC, 4);
    bytes.writeUInt32BE(option, 12);
    bytes.writeUInt32BE(data.length, 16);
    data.copy(bytes, 20);
    return bytes;
  };

  it('goes on serving others whatever a client sends', async () => {
    const open = (await volume.open())!;
    const path = join(volume.folder, 'nbd.sock');
    const server = await open.serve({ path });
    await server.listen();
    const good = await NbdClient.connect({ path });
    await good.write(0, Buffer.alloc(BLOCK_SIZE, 5));
    const junk = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
    const something = fc.oneof(
      junk,
      fc.tuple(fc.integer({ min: 0, max: 12 }), junk).map(([option, data]) => greeting(option, data)),
      junk.map((data) => Buffer.concat([greeting(nbd.option.exportName, Buffer.alloc(0)), data])),
    );
    await fc.assert(
      fc.asyncProperty(something, async (bytes) => {
        const socket = createConnection(path);
        socket.on('error', () => {});
        socket.resume();
        socket.end(bytes);
        await new Promise((resolve) => socket.once('close', resolve));
        expect((await good.read(0, BLOCK_SIZE))[0]).to.equal(5);
      }),
      { numRuns: 150 },
    );
    good.close();
    await server.close();
    await open.close();
  });

  it('cuts every connection when answers come from another epoch, and says nothing in between', async () => {
    let epoch = 1;
    const request = async (body: ClientRequest): Promise<ClientAnswer> => {
      if (epoch === 0) return { ok: false, error: 'moved' };
      const data = body.kind === 'read' ? Buffer.alloc(body.blocks * BLOCK_SIZE) : undefined;
      return { ok: true, epoch: toEpoch(epoch), data };
    };
    const device = new ByteDevice({ name: VOLUME_NAME, blocks: BLOCKS, room: Buffer.allocUnsafeSlow, request });
    const path = join(volume.folder, 'nbd.sock');
    const options = {
      listen: { path },
      exports: [new NbdExport(device)],
      tls: undefined,
      log: silentLogger,
    };
    const server = new NbdServer(options);
    await server.listen();
    for (const next of [2, 0]) {
      const [a, b] = [await NbdClient.connect({ path }), await NbdClient.connect({ path })];
      await a.write(0, Buffer.alloc(BLOCK_SIZE));
      await b.flush();
      epoch = next;
      const outcomes = await Promise.allSettled([b.flush(), a.flush()]);
      for (const outcome of outcomes) {
        expect(outcome.status === 'rejected' && outcome.reason).to.be.instanceOf(Disconnected);
      }
      epoch = 3;
    }
    await server.close();
  });
});
