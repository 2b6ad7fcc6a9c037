/** State memory of older versions: gone on with, killed at any store, or refused. */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { expect } from 'chai';
import { H } from '../../../fuse/inode/handle-table.ts';
import { F, INODE } from '../../../fuse/inode/inode-table.ts';
import { IDLE_AT, LAYOUT, STATE_VERSION, TOTAL_BYTES, WORD } from '../../../fuse/inode/layout.ts';
import { D } from '../../../fuse/inode/name-index.ts';
import { PROGRESS } from '../../../fuse/inode/progress.ts';
import { State } from '../../../fuse/inode/state.ts';
import { unreadableState } from '../../../fuse/inode/versions.ts';
import { close, munmap } from '../../../fuse/sys/libc.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';
import { Killed, Killer } from '../../support/killer.ts';
import { load } from '../../support/state-fixture.ts';

const fixture = (version: number) => load(readFileSync(new URL(`state-version-${version}.gz`, import.meta.url)));

describe('state memory', () => {
  /** The branches as the server of state-fixture.ts left them. */
  const branches = () => {
    const folder = mkdtempSync(join(tmpdir(), 'union-versions-'));
    mkdirSync(join(folder, 'b0/d/new'), { recursive: true });
    writeFileSync(join(folder, 'b0/d/open'), '');
    return folder;
  };

  for (let version = 5; version < STATE_VERSION; version++)
    it(`of version ${version} is gone on with, also when the successor is killed at any store`, () => {
      const killer = new Killer();
      for (let at = 0, isKilled = true; isKilled; at++) {
        const memory = fixture(version);
        expect(unreadableState(memory)).to.equal(undefined);
        killer.arm(at);
        isKilled = diesOpening(memory, killer);
        killer.arm();
        const driver = new FuseDriver(2, 'exclusive', undefined, { folder: branches(), memory });
        const { u32 } = driver.context;
        expect(u32[WORD.handleCount], `killed after ${at}`).to.equal(1);
        expect([u32[IDLE_AT >>> 2], u32[WORD.backingHand]]).to.deep.equal([3, 1]);
        expect(driver.resume().result).to.be.above(0);
        const directory = driver.lookup(1, 'd');
        for (const name of ['open', 'new']) expect(driver.lookup(directory, name)).to.be.above(0);
        expect([u32[WORD.version], u32[WORD.layout]]).to.deep.equal([STATE_VERSION, LAYOUT]);
        driver.close();
      }
    });

  it('of a version that nobody reads is refused, with both versions', () => {
    for (const version of [4, STATE_VERSION + 1]) {
      const memory = fixture(5);
      writeSync(memory, new Uint32Array([version]), 0, 4, WORD.version * 4);
      const message = `state memory has version ${version}, this program reads ${STATE_VERSION}`;
      expect(unreadableState(memory)).to.include(message);
      expect(() => State.open(memory, 0)).to.throw(message);
      close(memory);
    }
  });

  it('that is damaged is refused, with what is wrong', () => {
    const memory = fixture(5);
    writeSync(memory, new Uint32Array([0xffffffff]), 0, 4, WORD.inodeBump * 4);
    expect(() => State.open(memory, 0)).to.throw('state memory is damaged: inodeBump is 4294967295');
    close(memory);
  });

  it('gets a new version, and a fixture of the one before, when what is in it changes', () => {
    const words = crc32(JSON.stringify([WORD, F, INODE, D, H, PROGRESS]));
    const remedy = 'raise STATE_VERSION if a release has this version, write the step from it, and keep its fixture';
    expect([STATE_VERSION, LAYOUT, words], remedy).to.deep.equal([6, 1960503296, 1799473537]);
  });
});

/** Whether opening it is killed. */
function diesOpening(memory: number, killer: Killer): boolean {
  try {
    const { base } = State.open(memory, 0, killer.view);
    munmap(base, TOTAL_BYTES);
    return false;
  } catch (error) {
    if (Killed.is(error)) return true;
    throw error;
  }
}
