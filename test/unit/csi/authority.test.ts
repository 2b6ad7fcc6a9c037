/** The mending of `:authority`, byte by byte; that Node then answers such clients is tested in server.test.ts. */
import { expect } from 'chai';
import fc from 'fast-check';
import { AuthorityMender, mendHeaders } from '../../../src/csi/authority.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

function frame(type: number, flags: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header[8] = 1;
  return Buffer.concat([header, payload]);
}

const literal = (text: string) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)]);
/** `:method: POST` by index, a field with a literal name, then `:authority` to be kept in the table. */
const block = (authority: string) =>
  Buffer.concat([
    Buffer.from([0x83, 0x00]),
    literal('x-name'),
    literal('value'),
    Buffer.from([0x41]),
    literal(authority),
  ]);

describe('mendHeaders', () => {
  it('replaces the literal value and leaves the rest', () => {
    expect(mendHeaders(frame(1, 4, block('/csi/csi.sock')))).to.deep.equal(frame(1, 4, block('u')));
  });

  it('finds the value behind padding and priority, and keeps the padding', () => {
    const padded = (authority: string) =>
      frame(1, 0x2c, Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 16]), block(authority), Buffer.alloc(2)]));
    expect(mendHeaders(padded('/a'))).to.deep.equal(padded('u'));
  });

  it('replaces the empty authority of the static table', () => {
    const mended = mendHeaders(frame(1, 4, Buffer.from([0x83, 0x81, 0x86])));
    expect(mended).to.deep.equal(frame(1, 4, Buffer.from([0x83, 0x01, 0x01, 0x75, 0x86])));
  });

  it('leaves a block without authority, and one that is cut off, as it is', () => {
    for (const payload of [Buffer.from([0x83, 0x86]), Buffer.from([0x41, 0x7f]), Buffer.from([0x41, 0x05, 0x2f])]) {
      expect(mendHeaders(frame(1, 4, payload))).to.deep.equal(frame(1, 4, payload));
    }
  });

  it('takes any bytes without throwing, and writes a frame of the length that it says', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat(255), (payload, flags) => {
        const mended = mendHeaders(frame(1, flags, Buffer.from(payload)));
        expect(mended.readUIntBE(0, 3)).to.equal(mended.length - 9);
      }),
    );
  });
});

describe('AuthorityMender', () => {
  const input = Buffer.concat([
    ...[PREFACE, frame(4, 0, Buffer.alloc(6)), frame(1, 4, block('/run/csi.sock'))],
    ...[frame(0, 1, Buffer.from('data')), frame(1, 4, block('/run/csi.sock'))],
  ]);
  const output = Buffer.concat([
    ...[PREFACE, frame(4, 0, Buffer.alloc(6)), frame(1, 4, block('u'))],
    ...[frame(0, 1, Buffer.from('data')), frame(1, 4, block('u'))],
  ]);

  it('gives the same bytes however its input is cut', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: input.length }), { maxLength: 12 }), (cuts) => {
        const mender = new AuthorityMender();
        const got: Buffer[] = [];
        mender.on('data', (chunk) => got.push(chunk));
        const edges = [0, ...cuts.sort((a, b) => a - b), input.length];
        for (let i = 1; i < edges.length; i++) {
          mender._transform(input.subarray(edges[i - 1], edges[i]), 'utf8', () => {});
        }
        for (let chunk = mender.read(); chunk !== null; chunk = mender.read()) got.push(chunk);
        expect(Buffer.concat(got)).to.deep.equal(output);
      }),
    );
  });
});
