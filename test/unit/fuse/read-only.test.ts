/** Mode RO where the kernel does not help: on a mounted union it keeps many a change from the server. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { OP } from '../../../fuse/protocol/abi.ts';
import { EROFS, O_RDONLY, O_RDWR, O_WRONLY } from '../../../fuse/sys/constants.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';

const ROOT = 1;

describe('a branch of mode RO', () => {
  it('lets files be opened for reading alone, where they are read through the server', () => {
    const driver = new FuseDriver(1);
    try {
      writeFileSync(join(driver.paths[0]!, 'file'), '');
      driver.context.branchTable.set(0, { mode: 'RO', minFreeSpaceBytes: 0 });
      const open = (flags: number) => driver.ask(OP.OPEN, driver.lookup(ROOT, 'file'), [flags, 0]).result;
      expect([O_WRONLY, O_RDWR].map(open)).to.deep.equal([-EROFS, -EROFS]);
      expect(open(O_RDONLY)).to.be.greaterThan(0);
    } finally {
      driver.close();
    }
  });
});
