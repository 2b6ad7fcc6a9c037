import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { F } from '../../../fuse/inode/inode-table.ts';
import { WORD } from '../../../fuse/inode/layout.ts';
import { OP } from '../../../fuse/protocol/abi.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';

const ROOT = 1;

describe('what the kernel forgets while other requests are served', () => {
  let driver: FuseDriver;

  beforeEach(() => {
    driver = new FuseDriver(2);
  });

  afterEach(() => driver.close());

  it('stays in a directory that is being listed just then', () => {
    const { context } = driver;
    for (const path of driver.paths) mkdirSync(join(path, 'd'));
    writeFileSync(join(driver.paths[0]!, 'd/file'), '');
    const directory = driver.lookup(ROOT, 'd');
    const file = driver.lookup(directory, 'file');
    const handle = driver.ask(OP.OPENDIR, directory, [0, 0]).word(0);
    // Between the first branch, where the name was seen, and the second.
    const { descriptor } = context.directories;
    let forgotten = false;
    context.directories.descriptor = (slot, branch) => {
      if (slot === directory && branch === 1 && !forgotten) {
        forgotten = true;
        const request = context.u8.slice(context.request, context.request + 256);
        driver.forget(file);
        context.u8.set(request, context.request);
      }
      return descriptor.call(context.directories, slot, branch);
    };
    expect(driver.ask(OP.READDIR, directory, [handle, 0, 0, 0, 4096, 0]).result).to.be.greaterThan(0);
    expect(forgotten).to.equal(true);
    expect(driver.lookup(directory, 'file')).to.be.greaterThan(0);
    expect(driver.ask(OP.RMDIR, ROOT, ['d']).result).to.equal(-39); // ENOTEMPTY
  });

  it('takes both parents of a linked file with it', () => {
    for (const name of ['one', 'two']) mkdirSync(join(driver.paths[0]!, name));
    writeFileSync(join(driver.paths[0]!, 'one/file'), '');
    const [one, two] = [driver.lookup(ROOT, 'one'), driver.lookup(ROOT, 'two')];
    const file = driver.lookup(one, 'file');
    expect(driver.ask(OP.LINK, two, [file, 0, 'link']).word(0)).to.equal(file);
    // Parents first, as the kernel may: they stay for their child.
    driver.forget(one);
    driver.forget(two);
    expect(driver.context.inodes.isUsed(one) && driver.context.inodes.isUsed(two)).to.equal(true);
    driver.forget(file, 2);
    expect(driver.context.u32[WORD.inodeCount]).to.equal(1);
    expect(driver.context.inodes.get(ROOT, F.liveChildren)).to.equal(0);
  });
});
