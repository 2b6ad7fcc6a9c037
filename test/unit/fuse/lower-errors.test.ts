import { closeSync, mkdirSync, openSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { OP } from '../../../fuse/protocol/abi.ts';
import { EBADF, EIO, O_PATH } from '../../../fuse/sys/constants.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';

const ROOT = 1;

describe('an error of a branch', () => {
  let driver: FuseDriver;

  afterEach(() => driver.close());

  /** While the root of the second branch cannot be asked: whatever needs it answers EBADF. */
  const withoutSecond = <T>(use: () => T): T => {
    const { root } = driver.context.branches[1]!;
    closeSync(root);
    try {
      return use();
    } finally {
      const again = openSync(driver.paths[1]!, O_PATH);
      expect(again, 'the number of the root').to.equal(root);
    }
  };
  const lookup = (name: string) => driver.ask(OP.LOOKUP, ROOT, [name]).result;

  for (const cache of ['exclusive', 'shared'] as const) {
    it(`is told of a name that no other branch has, with cache=${cache}: it is not taken for missing`, () => {
      driver = new FuseDriver(2, cache);
      writeFileSync(join(driver.paths[0]!, 'file'), '');
      expect(withoutSecond(() => lookup('missing'))).to.equal(-EBADF);
      expect(withoutSecond(() => lookup('file'))).to.be.greaterThan(0);
      expect(lookup('missing')).to.be.greaterThan(0); // a negative entry
    });
  }

  it('is told of what may be in a directory that it did not show, also by a successor of the server', () => {
    driver = new FuseDriver(2);
    for (const path of driver.paths) mkdirSync(join(path, 'd'));
    writeFileSync(join(driver.paths[1]!, 'd/file'), '');
    const directory = withoutSecond(() => driver.lookup(ROOT, 'd'));
    const look = () => driver.ask(OP.LOOKUP, directory, ['file']).result;
    expect(look()).to.equal(-EIO);
    driver.restart();
    expect(look()).to.equal(-EIO);
  });

  it('is told by syncfs, which reaches every branch', () => {
    driver = new FuseDriver(2);
    expect(driver.ask(OP.SYNCFS, ROOT, [0, 0]).result).to.equal(0);
    expect(withoutSecond(() => driver.ask(OP.SYNCFS, ROOT, [0, 0]).result)).to.be.lessThan(0);
  });

  it('never makes a directory look empty, nor lets it be removed', () => {
    driver = new FuseDriver(2);
    for (const path of driver.paths) mkdirSync(join(path, 'd'));
    writeFileSync(join(driver.paths[1]!, 'd/file'), '');
    driver.lookup(ROOT, 'd');
    expect(withoutSecond(() => driver.ask(OP.RMDIR, ROOT, ['d']).result)).to.be.lessThan(0);
    for (const path of driver.paths) expect(readdirSync(path)).to.include('d');
  });
});
