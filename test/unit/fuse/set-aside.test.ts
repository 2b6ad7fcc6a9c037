import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { OP } from '../../../fuse/protocol/abi.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';

const ROOT = 1;

describe('a file hidden by another of its name', () => {
  let driver: FuseDriver;

  beforeEach(() => {
    driver = new FuseDriver(2);
  });

  afterEach(() => driver.close());

  for (const name of ['notes.txt', 'n'.repeat(255)])
    it(`is set aside under a name that tells its own, of ${name.length} bytes`, () => {
      for (const [branch, path] of driver.paths.entries()) writeFileSync(join(path, name), `of branch ${branch}`);
      expect(driver.ask(OP.UNLINK, ROOT, [name]).result).to.equal(0);
      expect(driver.lookup(ROOT, name)).to.equal(0);
      const own = join(driver.paths[1]!, '.union');
      const [aside] = readdirSync(own);
      expect(aside).to.match(/^hidden-[0-9a-z]+-[0-9a-z]+-/);
      expect(name.startsWith(aside!.split('-').slice(3).join('-'))).to.equal(true);
      expect(readFileSync(join(own, aside!), 'utf8')).to.equal('of branch 1');
    });
});
