/** Frames between replicas: what is sent arrives as it was, and nothing else is ever taken for a message. */
import { crc32 } from 'node:zlib';
import { expect } from 'chai';
import fc from 'fast-check';
import type { Message } from '../../../src/block/messages.ts';
import { toEpoch, toLsn } from '../../../src/block/units.ts';
import { decodeFrame, encodeFrame, FRAME_HEADER_BYTES, frameLength, MAX_FRAME_BYTES } from '../../../src/block/wire.ts';

const VOLUME = '1f'.repeat(16);
const u32 = fc.nat(0xffff_ffff);
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const hash = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString('hex'));
const point = fc.record({ lsn: u64.map(toLsn), epoch: u64.map(toEpoch), hash });
const epoch = u64.map(toEpoch);
const time = fc.double({ noNaN: true });
const data = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
const status = fc.record({
  usable: fc.boolean(),
  intact: fc.boolean(),
  durable: point,
  committed: point,
  rebuild: fc.option(fc.record({ session: u32, received: u32 }), { nil: undefined }),
});
const kind = <K extends Message['kind']>(name: K) => fc.constant(name);

const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({ kind: kind('hello'), epoch, beat: time, committed: point }),
  fc.record({ kind: kind('append'), epoch, committed: point, parts: data.map((bytes) => [bytes]) }),
  fc.record({ kind: kind('status'), epoch, beat: fc.option(time, { nil: undefined }), status }),
  fc.record({ kind: kind('nack'), epoch }),
  fc.record({
    kind: kind('reset'),
    epoch,
    session: u32,
    start: point,
    blocks: u32,
    seen: fc.record({ usable: fc.boolean(), durable: point }),
  }),
  fc.record({
    kind: kind('base'),
    epoch,
    session: u32,
    index: u32,
    lba: u32,
    blocks: u32,
    data: fc.option(data, { nil: undefined }),
  }),
  fc.record({ kind: kind('seal'), epoch, session: u32, count: u32 }),
);

function decode(frame: Buffer, volume = VOLUME): Message | undefined {
  const header = frame.subarray(0, FRAME_HEADER_BYTES);
  return decodeFrame(volume, header, frame.subarray(FRAME_HEADER_BYTES));
}

describe('a frame', () => {
  it('reads as it was written, and says how long it is', () => {
    fc.assert(
      fc.property(message, (sent) => {
        const frame = Buffer.concat(encodeFrame(VOLUME, sent));
        expect(frameLength(frame)).to.equal(frame.length - FRAME_HEADER_BYTES);
        expect(decode(frame)).to.deep.equal(sent);
      }),
    );
  });

  it('is nothing when any bit of it is wrong, or it is for another volume', () => {
    fc.assert(
      fc.property(message, fc.nat(), (sent, bit) => {
        const frame = Buffer.concat(encodeFrame(VOLUME, sent));
        expect(decode(frame, 'a'.repeat(32))).to.equal(undefined);
        const at = 32 + (bit % ((frame.length - 4) * 8));
        frame[at >> 3]! ^= 1 << (at & 7);
        expect(decode(frame)).to.equal(undefined);
      }),
    );
  });

  it('is nothing when it is too short for its kind, whatever its checksum says', () => {
    fc.assert(
      fc.property(message, fc.nat(), (sent, cut) => {
        const frame = Buffer.concat(encodeFrame(VOLUME, { ...sent, ...(sent.kind === 'append' && { parts: [] }) }));
        if (sent.kind === 'base' && sent.data) return;
        const short = frame.subarray(0, FRAME_HEADER_BYTES + (cut % (frame.length - FRAME_HEADER_BYTES)));
        short.writeUInt32LE(crc32(short.subarray(FRAME_HEADER_BYTES)), 4);
        expect(decode(short)).to.equal(undefined);
      }),
    );
  });

  it('of a length that none has is refused before it is read', () => {
    const header = Buffer.alloc(FRAME_HEADER_BYTES);
    header.writeUInt32LE(MAX_FRAME_BYTES + 1, 0);
    expect(frameLength(header)).to.equal(undefined);
  });
});
