/**
 * A file that was about to lose its name, and kept it: another thread closes the descriptor by which it was held, between the moment
 * in which somebody finds that descriptor and the one in which it is used. Its number may be another file's by then.
 */
import { closeSync, fstatSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { F } from '../../../fuse/inode/inode-table.ts';
import { openLower } from '../../../fuse/ops/lower-file.ts';
import { keepOpen, unpin } from '../../../fuse/ops/nameless.ts';
import { OP } from '../../../fuse/protocol/abi.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';

const O_RDWR = 2;
const SIZE = 'a file of this size';
const GETATTR_SIZE = 16 + 8;

describe('a file that is not pinned any more', () => {
  let driver: FuseDriver;
  let node: number;
  let other: number;

  beforeEach(() => {
    driver = new FuseDriver(1);
    const made = driver.ask(OP.CREATE, 1, [O_RDWR, 0o644, 0, 0, 'f']);
    node = made.word(0);
    driver.ask(OP.WRITE, node, [made.word(128), 0, 0, 0, SIZE.length, 0, 0, 0, 0, 0, SIZE]);
    writeFileSync(join(driver.paths[0]!, 'other'), '');
  });

  afterEach(() => {
    closeSync(other);
    driver.close();
  });

  /** Once, right after its descriptor was found; the number is given to another file. */
  function unpinWhenFound(): void {
    const { context } = driver;
    expect(keepOpen(context, node)).to.equal(0);
    const pinned = context.inodes.get(node, F.pinned) - 1;
    const locate = context.locate.bind(context);
    context.locate = (slot, branch) => {
      context.locate = locate;
      const result = locate(slot, branch);
      unpin(context, node);
      other = openSync(join(driver.paths[0]!, 'other'), 'r');
      expect([context.atDescriptor, other]).to.deep.equal([pinned, pinned]);
      return result;
    };
  }

  it('is looked at by its name', () => {
    unpinWhenFound();
    expect(driver.ask(OP.GETATTR, node, [0, 0, 0, 0]).word(GETATTR_SIZE)).to.equal(SIZE.length);
  });

  it('is opened by its name', () => {
    unpinWhenFound();
    const descriptor = openLower(driver.context, node, 0, 'path');
    expect(fstatSync(descriptor).size).to.equal(SIZE.length);
    closeSync(descriptor);
  });

  it('is asked for attributes by its name', () => {
    const name = 'user.test';
    driver.ask(OP.SETXATTR, node, [4, 0, name, 'here']);
    unpinWhenFound();
    expect(driver.ask(OP.GETXATTR, node, [64, 0, name]).result).to.equal(4);
  });
});
