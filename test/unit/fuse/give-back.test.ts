import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { F } from '../../../fuse/inode/inode-table.ts';
import { giveBack } from '../../../fuse/ops/request.ts';
import { OP } from '../../../fuse/protocol/abi.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';

const ROOT = 1;

describe('giveBack, when the caller of a request was killed', () => {
  let driver: FuseDriver;

  beforeEach(() => {
    driver = new FuseDriver(1);
  });

  afterEach(() => driver.close());

  const lookupsOf = (name: string) => {
    const slot = driver.lookup(ROOT, name);
    driver.forget(slot);
    const { inodes } = driver.context;
    return inodes.isUsed(slot) ? inodes.get(slot, F.lookups) : 0;
  };

  it('forgets what a listing with attributes looked up', () => {
    const names = ['directory', 'file', 'a name that takes more than the others'];
    for (const name of names.slice(1)) writeFileSync(join(driver.paths[0]!, name), '');
    mkdirSync(join(driver.paths[0]!, names[0]!));
    const handle = driver.ask(OP.OPENDIR, ROOT, [0, 0]).word(0);
    const { result } = driver.ask(OP.READDIRPLUS, ROOT, [handle, 0, 0, 0, 4096, 0, 0, 0, 0, 0]);
    expect(result).to.be.greaterThan(0);
    expect(names.map(lookupsOf)).to.deep.equal([1, 1, 1]);
    for (const name of names) driver.forget(driver.lookup(ROOT, name), 2); // what the kernel knows is not looked up
    driver.ask(OP.READDIRPLUS, ROOT, [handle, 0, 0, 0, 4096, 0, 0, 0, 0, 0]);
    giveBack(driver.context);
    expect(names.map(lookupsOf)).to.deep.equal([0, 0, 0]);
  });

  it('forgets what was looked up or made, and closes what was opened', () => {
    writeFileSync(join(driver.paths[0]!, 'file'), '');
    driver.ask(OP.LOOKUP, ROOT, ['file']);
    giveBack(driver.context);
    expect(lookupsOf('file')).to.equal(0);
    driver.ask(OP.CREATE, ROOT, [0o102, 0o644, 0, 0, 'new']);
    expect(driver.context.handles.count).to.equal(1);
    giveBack(driver.context);
    expect(driver.context.handles.count).to.equal(0);
    expect(lookupsOf('new')).to.equal(0);
    driver.ask(OP.OPENDIR, ROOT, [0, 0]);
    giveBack(driver.context);
    expect(driver.context.handles.count).to.equal(0);
  });
});
