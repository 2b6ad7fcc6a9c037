import { crc32 } from 'node:zlib';
import { expect } from 'chai';
import fc from 'fast-check';
import { type Batch, decodeBatch, decodeHeader, encodeBatch, type LogRecord } from '../../../src/block/batch.ts';
import { blockCrcs, joinCrcs } from '../../../src/block/block-crc.ts';
import { decodeSuperblock, encodeSuperblock, type Superblock } from '../../../src/block/superblock.ts';
import {
  blankPage,
  decodePage,
  ENTRIES_PER_PAGE,
  encodePage,
  getEntry,
  setEntry,
  ZERO_CRC,
} from '../../../src/block/table-page.ts';
import { BLOCK_SIZE, toEpoch, toLsn } from '../../../src/block/units.ts';

const u32 = fc.nat(0xffff_ffff);
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const uuid = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString('hex'));
const point = fc.record({ lsn: u64.map(toLsn), epoch: u64.map(toEpoch), hash: uuid });

const superblock: fc.Arbitrary<Superblock> = fc.record({
  sequence: u64,
  volume: uuid,
  replica: uuid,
  geometry: fc.record({ blocks: u32, ringBlocks: u32 }),
  promised: u64.map(toEpoch),
  checkpoint: point,
  tail: u32,
  complete: fc.boolean(),
});

const record: fc.Arbitrary<LogRecord> = fc.oneof(
  fc.record({
    kind: fc.constant('write' as const),
    lba: u32,
    data: fc
      .tuple(fc.constantFrom(1, 2, 3, 16), fc.nat(255))
      .map(([blocks, byte]) => Buffer.alloc(blocks * BLOCK_SIZE, byte)),
  }),
  fc.record({ kind: fc.constantFrom('zero' as const, 'trim' as const), lba: u32, blocks: u32 }),
  fc.record({ kind: fc.constant('resize' as const), blocks: u32 }),
  fc.constant({ kind: 'epoch' as const }),
);

const batch = fc
  .record({
    volume: uuid,
    epoch: u64.map(toEpoch),
    previous: fc.record({
      lsn: fc.bigInt({ min: 0n, max: 1n << 60n }).map(toLsn),
      epoch: u64.map(toEpoch),
      hash: uuid,
    }),
    records: fc.array(record, { minLength: 1, maxLength: 8 }),
  })
  .map(({ records, ...identity }) => ({ identity, records, encoded: encodeBatch(identity, records) }));

function bytesOf({ parts }: Batch): Uint8Array {
  return Buffer.concat(parts);
}

function flipped(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = Buffer.from(bytes);
  const at = bit % (bytes.length * 8);
  copy[at >> 3]! ^= 1 << (at & 7);
  return copy;
}

describe('a superblock', () => {
  it('reads as it was written', () => {
    fc.assert(
      fc.property(superblock, (value) => {
        expect(decodeSuperblock(encodeSuperblock(value))).to.deep.equal({ ok: true, value });
      }),
    );
  });

  it('is empty, damaged or of another format, but never believed, when any used bit is wrong', () => {
    fc.assert(
      fc.property(superblock, fc.nat(136 * 8 - 1), (value, bit) => {
        expect(decodeSuperblock(flipped(encodeSuperblock(value), bit)).ok).to.equal(false);
      }),
    );
  });

  it('is nothing in arbitrary bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(decodeSuperblock(bytes).ok).to.equal(false);
      }),
    );
  });
});

describe('the CRC of blocks', () => {
  it('is, joined, that of all their bytes', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 5 }), (seeds) => {
        const blocks = seeds.map((seed) => Buffer.alloc(BLOCK_SIZE, String(seed)));
        expect(joinCrcs(blocks.map(blockCrcs))).to.equal(crc32(Buffer.concat(blocks)));
      }),
    );
  });
});

describe('a log batch', () => {
  it('reads as it was written', () => {
    fc.assert(
      fc.property(batch, ({ identity, records, encoded }) => {
        const decoded = decodeBatch(bytesOf(encoded));
        expect(decoded.ok).to.equal(true);
        if (!decoded.ok) return;
        const { parts: _, ...whole } = encoded;
        expect(decoded.value).to.deep.include(whole);
        expect(decoded.value.records.map(plain)).to.deep.equal(records.map(plain));
        expect(decoded.value.previousHash).to.equal(identity.previous.hash);
        expect(decoded.value.end.lsn).to.equal(identity.previous.lsn + BigInt(records.length));
      }),
    );
  });

  it('is damaged when any bit of header or payload is wrong', () => {
    fc.assert(
      fc.property(batch, fc.nat(), ({ encoded }, bit) => {
        expect(decodeBatch(flipped(bytesOf(encoded), bit)).ok).to.equal(false);
      }),
    );
  });

  it('is damaged when it is cut short', () => {
    fc.assert(
      fc.property(batch, fc.nat(), ({ encoded }, length) => {
        const bytes = bytesOf(encoded);
        expect(decodeBatch(bytes.subarray(0, length % bytes.length)).ok).to.equal(false);
      }),
    );
  });

  it('is nothing in arbitrary bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2 * BLOCK_SIZE, size: 'max' }), (bytes) => {
        expect(decodeHeader(bytes).ok).to.equal(false);
        expect(decodeBatch(bytes).ok).to.equal(false);
      }),
      { numRuns: 30 },
    );
  });

  it('has another hash when anything before it was another', () => {
    fc.assert(
      fc.property(batch, uuid, ({ identity, records, encoded }, hash) => {
        fc.pre(hash !== identity.previous.hash);
        const other = encodeBatch({ ...identity, previous: { ...identity.previous, hash } }, records);
        expect(other.end.hash).not.to.equal(encoded.end.hash);
      }),
    );
  });
});

function plain(value: LogRecord): unknown {
  if (value.kind !== 'write') return value;
  return { kind: value.kind, lba: value.lba, data: Buffer.from(value.data).toString('hex') };
}

describe('a page of the extent table', () => {
  const entries = fc.array(fc.record({ entry: fc.nat(ENTRIES_PER_PAGE - 1), crc: u32, lsn: u64.map(toLsn) }), {
    maxLength: 20,
  });

  it('reads as it was written, zeros where nothing was', () => {
    fc.assert(
      fc.property(entries, fc.nat(1000), uuid, u64, (changes, index, volume, sequence) => {
        const page = blankPage(index);
        page.sequence = sequence;
        const expected = new Map<number, unknown>();
        for (const { entry, crc, lsn } of changes) {
          setEntry(page, entry, { crc, lsn });
          expected.set(entry, { crc, lsn });
        }
        const decoded = decodePage(encodePage(page, volume), { index, volume });
        if (typeof decoded === 'string') expect.fail(decoded);
        expect(decoded.sequence).to.equal(sequence);
        for (let entry = 0; entry < ENTRIES_PER_PAGE; entry++) {
          expect(getEntry(decoded, entry)).to.deep.equal(expected.get(entry) ?? { crc: ZERO_CRC, lsn: 0n });
        }
      }),
      { numRuns: 30 },
    );
  });

  it('is damaged when any bit is wrong, and when it is another page or volume', () => {
    fc.assert(
      fc.property(fc.nat(), uuid, (bit, volume) => {
        const bytes = encodePage(blankPage(7), volume);
        expect(decodePage(flipped(bytes, bit), { index: 7, volume })).to.equal('damaged');
        expect(decodePage(bytes, { index: 8, volume })).to.equal('damaged');
        expect(decodePage(bytes, { index: 7, volume: '5'.repeat(32) })).to.equal('damaged');
      }),
    );
  });

  it('is empty on a blank disk', () => {
    expect(decodePage(new Uint8Array(BLOCK_SIZE), { index: 0, volume: '0'.repeat(32) })).to.equal('empty');
  });
});
