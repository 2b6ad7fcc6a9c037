import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { DirectWriter } from '../../../src/host/block/direct-writer.ts';
import { alignedBuffer } from '../../../src/host/buffers.ts';

const MIB = 1024 ** 2;
const PAGE = 4096;

describe('DirectWriter', () => {
  let folder: string;
  let writer: DirectWriter;
  const path = () => join(folder, 'log');

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'union-direct-'));
    writeFileSync(path(), Buffer.alloc(4 * MIB, 1));
    writer = await DirectWriter.open(path());
  });

  afterEach(async () => {
    await writer.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('writes long data and short ones beside them, and whoever reads the file sees them', async () => {
    const header = Buffer.alloc(2 * PAGE + 1, 2).subarray(1);
    const long = alignedBuffer(MIB).fill(3);
    const between = Buffer.alloc(PAGE + 7, 4).subarray(7);
    const last = alignedBuffer(PAGE).fill(5);
    expect(readFileSync(path()).every((byte) => byte === 1)).to.equal(true);
    const parts = [header, long, between, last];
    // Some filesystems cannot: then nothing is to change.
    const done = await writer.write(parts, 4 * PAGE);
    const expected = Buffer.alloc(4 * MIB, 1);
    if (done) expected.set(Buffer.concat(parts), 4 * PAGE);
    expect(readFileSync(path()).equals(expected)).to.equal(true);
  });

  it('leaves to others what is short, or would have to be copied', async () => {
    expect(await writer.write([alignedBuffer(PAGE)], 0)).to.equal(false);
    expect(await writer.write([Buffer.alloc(MIB + PAGE).subarray(1, MIB + 1)], 0)).to.equal(false);
    await writer.close();
    expect(await writer.write([alignedBuffer(MIB)], 0)).to.equal(false);
    expect(readFileSync(path()).every((byte) => byte === 1)).to.equal(true);
  });
});
