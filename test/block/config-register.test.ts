/** A configuration in files: changed by one of many at a time. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { toEpoch } from '../../src/block/units.ts';
import type { VolumeConfig } from '../../src/block/volume-config.ts';
import { ConfigRegister } from '../../src/host/block/config-register.ts';

const config = (version: number, primary: string): VolumeConfig => ({
  version,
  epoch: toEpoch(version),
  primary,
  inSync: [primary],
  members: ['a', 'b'],
});

describe('ConfigRegister', () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'union-block-config-'));
  });

  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('lets one of many that propose the same version have its way', async () => {
    const registers = Array.from({ length: 12 }, () => new ConfigRegister(directory));
    for (let version = 1; version <= 12; version++) {
      const outcomes = await Promise.all(
        registers.map((register, index) => register.replace(config(version, `n${index}`))),
      );
      const won = outcomes.flatMap((outcome) => (outcome.kind === 'current' ? [outcome.config] : []));
      expect(won).to.have.length(1);
      expect(await registers[0]!.read()).to.deep.equal(won[0]);
    }
    expect(readdirSync(directory).length).to.be.lessThan(12);
  });

  it('refuses a version that does not follow the current one', async () => {
    const register = new ConfigRegister(directory);
    await register.replace(config(1, 'a'));
    for (const version of [0, 1, 3])
      expect(await register.replace(config(version, 'b'))).to.deep.equal({ kind: 'conflict' });
    expect((await register.read()).primary).to.equal('a');
  });
});
