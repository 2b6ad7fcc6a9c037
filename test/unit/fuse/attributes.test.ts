/** Offsets are those of include/uapi/linux/fuse.h and linux/stat.h, written down here a second time. */
import { expect } from 'chai';
import fc from 'fast-check';
import { writeAttrOut, writeEntry, writeNegativeEntry, writeStatxOut } from '../../../fuse/protocol/attributes.ts';

interface Stat {
  readonly blksize: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
  readonly size: bigint;
  readonly blocks: bigint;
  readonly atime: bigint;
  readonly atimeNs: number;
  readonly ctime: bigint;
  readonly ctimeNs: number;
  readonly mtime: bigint;
  readonly mtimeNs: number;
  readonly major: number;
  readonly minor: number;
}

const FROM = 1024;
const TO = 64;

function memory(stat: Stat): { u32: Uint32Array; view: DataView } {
  const buffer = new ArrayBuffer(2048);
  const view = new DataView(buffer);
  new Uint8Array(buffer).fill(0xaa, 0, FROM);
  const u32 = (offset: number, value: number) => view.setUint32(FROM + offset, value, true);
  const i64 = (offset: number, value: bigint) => view.setBigInt64(FROM + offset, value, true);
  u32(4, stat.blksize);
  u32(16, stat.nlink);
  u32(20, stat.uid);
  u32(24, stat.gid);
  view.setUint16(FROM + 28, stat.mode, true);
  i64(32, 0x1234n); // the lower number, which must not show
  i64(40, stat.size);
  i64(48, stat.blocks);
  i64(64, stat.atime);
  u32(72, stat.atimeNs);
  i64(96, stat.ctime);
  u32(104, stat.ctimeNs);
  i64(112, stat.mtime);
  u32(120, stat.mtimeNs);
  u32(128, stat.major);
  u32(132, stat.minor);
  return { u32: new Uint32Array(buffer), view };
}

function expectAttr(view: DataView, at: number, stat: Stat): void {
  const u32 = (offset: number) => view.getUint32(at + offset, true);
  const i64 = (offset: number) => view.getBigInt64(at + offset, true);
  expect(view.getBigUint64(at, true)).to.equal(0x0000000b0000000an);
  expect([i64(8), i64(16)]).to.deep.equal([stat.size, stat.blocks]);
  expect([i64(24), i64(32), i64(40)]).to.deep.equal([stat.atime, stat.mtime, stat.ctime]);
  expect([u32(48), u32(52), u32(56)]).to.deep.equal([stat.atimeNs, stat.mtimeNs, stat.ctimeNs]);
  expect([u32(60), u32(64), u32(68), u32(72)]).to.deep.equal([stat.mode, stat.nlink, stat.uid, stat.gid]);
  const rdev = ((stat.minor & 0xff) | (stat.major << 8) | ((stat.minor & ~0xff) << 12)) >>> 0;
  expect([u32(76), u32(80), u32(84)]).to.deep.equal([rdev, stat.blksize, 0]);
}

const word = fc.integer({ min: 0, max: 0xffffffff });
const time = fc.bigInt({ min: -(2n ** 40n), max: 2n ** 40n });
const nanoseconds = fc.integer({ min: 0, max: 999_999_999 });
const stats = fc.record<Stat>({
  blksize: word,
  nlink: word,
  uid: word,
  gid: word,
  mode: fc.integer({ min: 0, max: 0xffff }),
  size: fc.bigInt({ min: 0n, max: 2n ** 62n }),
  blocks: fc.bigInt({ min: 0n, max: 2n ** 53n }),
  atime: time,
  atimeNs: nanoseconds,
  ctime: time,
  ctimeNs: nanoseconds,
  mtime: time,
  mtimeNs: nanoseconds,
  major: fc.integer({ min: 0, max: 0xfff }),
  minor: fc.integer({ min: 0, max: 0xfffff }),
});

describe('replies with attributes', () => {
  it('fuse_attr_out: validity, then fuse_attr', () => {
    fc.assert(
      fc.property(stats, word, (stat, ttl) => {
        const { u32, view } = memory(stat);
        writeAttrOut(u32, TO, FROM, 10, 11, ttl);
        expect([view.getBigUint64(TO, true), view.getBigUint64(TO + 8, true)]).to.deep.equal([BigInt(ttl), 0n]);
        expectAttr(view, TO + 16, stat);
        expect(view.getUint8(TO + 104), 'nothing after it').to.equal(0xaa);
      }),
    );
  });

  it('fuse_entry_out: node, generation, validity of name and attributes, then fuse_attr', () => {
    fc.assert(
      fc.property(stats, word, word, (stat, node, generation) => {
        const { u32, view } = memory(stat);
        writeEntry(u32, TO, FROM, { node, generation, inoLow: 10, inoHigh: 11, entryTtl: 5, attrTtl: 6 });
        const words = [0, 8, 16, 24].map((offset) => view.getBigUint64(TO + offset, true));
        expect(words).to.deep.equal([BigInt(node), BigInt(generation), 5n, 6n]);
        expect(view.getBigUint64(TO + 32, true)).to.equal(0n);
        expectAttr(view, TO + 40, stat);
        expect(view.getUint8(TO + 128)).to.equal(0xaa);
      }),
    );
  });

  it('fuse_entry_out for a name that there is not: node 0, and how long that counts', () => {
    const { u32, view } = memory(fc.sample(stats, 1)[0]!);
    writeNegativeEntry(u32, TO, 7);
    const words = Array.from({ length: 16 }, (_, index) => view.getBigUint64(TO + 8 * index, true));
    expect(words).to.deep.equal([0n, 0n, 7n, ...Array(13).fill(0n)]);
    expect(view.getUint8(TO + 128)).to.equal(0xaa);
  });

  it('fuse_statx_out: validity, flags, spare, then struct statx with our number', () => {
    fc.assert(
      fc.property(stats, (stat) => {
        const { u32, view } = memory(stat);
        writeStatxOut(u32, TO, FROM, 10, 11, 9);
        expect(view.getBigUint64(TO, true)).to.equal(9n);
        for (const offset of [8, 16, 24]) expect(view.getBigUint64(TO + offset, true)).to.equal(0n);
        expect(view.getBigUint64(TO + 32 + 32, true)).to.equal(0x0000000b0000000an);
        expect(view.getUint32(TO + 32 + 16, true)).to.equal(stat.nlink);
        expect(view.getBigInt64(TO + 32 + 112, true)).to.equal(stat.mtime);
        expect(view.getUint8(TO + 288)).to.equal(0xaa);
      }),
    );
  });
});
