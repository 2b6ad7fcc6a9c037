import { PassThrough } from 'node:stream';
import { expect } from 'chai';
import { ByteInput } from '../../../src/host/byte-input.ts';

const KIB = 1024;

/** Whole buffers, as they come from a socket. */
function chunkOf(length: number, byte: number): Buffer {
  return Buffer.allocUnsafeSlow(length).fill(byte);
}

describe('ByteInput', () => {
  it('gives the stream back in the portions that are asked for, whatever it came in', async () => {
    const stream = new PassThrough();
    const input = new ByteInput(stream);
    const all = Buffer.from(Array.from({ length: 300 * KIB }, (_, index) => index * 7));
    for (let at = 0; at < all.length; at += 60 * KIB) stream.write(Buffer.from(all.subarray(at, at + 60 * KIB)));
    stream.end();
    const portions: Buffer[] = [];
    for (const length of [28, 100 * KIB, 28, 5, 60 * KIB, 1, 139 * KIB, 962])
      portions.push((await input.take(length))!);
    expect(Buffer.concat(portions).equals(all)).to.equal(true);
    expect(await input.take(1)).to.equal(undefined);
  });

  it('gives back the memory of what was copied, and leaves what somebody has a view of', async () => {
    const stream = new PassThrough();
    const input = new ByteInput(stream);
    const [copied, viewed] = [chunkOf(64 * KIB, 1), chunkOf(64 * KIB, 2)];
    stream.write(copied);
    stream.write(viewed);
    const whole = (await input.take(96 * KIB))!;
    const rest = (await input.take(32 * KIB))!;
    expect([copied.length, viewed.length]).to.deep.equal([0, 64 * KIB]);
    expect([whole[0], whole.at(-1), rest[0], rest.at(-1)]).to.deep.equal([1, 2, 2, 2]);
  });

  it('never gives back what may be only a part of something', async () => {
    const stream = new PassThrough();
    const input = new ByteInput(stream);
    const large = chunkOf(256 * KIB, 3);
    for (let at = 0; at < large.length; at += 64 * KIB) stream.write(large.subarray(at, at + 64 * KIB));
    expect((await input.take(200 * KIB))!.every((byte) => byte === 3)).to.equal(true);
    expect(large.length).to.equal(256 * KIB);
  });

  it('has long portions put where they stay, whatever has come before they were asked for', async () => {
    const input = new ByteInput(new PassThrough());
    const put = (content: Buffer) => {
      for (let at = 0; at < content.length; ) {
        const room = input.room();
        const bytes = content.copy(room, 0, at);
        at += bytes;
        input.arrived(bytes, room);
      }
    };
    const all = Buffer.from(Array.from({ length: 400 * KIB }, (_, index) => index * 11));
    put(all.subarray(0, 28 + 20 * KIB));
    const first = await input.take(28);
    const long = input.take(300 * KIB);
    const before = input.room().buffer;
    put(all.subarray(28 + 20 * KIB, 350 * KIB));
    const placed = (await long)!;
    expect(before).to.equal(placed.buffer);
    put(all.subarray(350 * KIB));
    const rest = await input.take(100 * KIB - 28);
    expect(Buffer.concat([first!, placed, rest!]).equals(all)).to.equal(true);
  });
});
