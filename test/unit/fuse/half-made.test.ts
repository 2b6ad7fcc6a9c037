/**
 * A directory that a server was just making on one more branch when it was killed. Its request is done again, but perhaps on another
 * branch: policies choose by chance, and by how full branches are.
 */
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { OP } from '../../../fuse/protocol/abi.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';
import { Killed, Killer } from '../../support/killer.ts';

const ROOT = 1;
const O_RDWR = 2;
const EXCHANGE = 2;

describe('a directory that a killed server was making on a branch', () => {
  const endings = { removed: ['UNLINK', 'RMDIR'], renamed: ['RENAME'], exchanged: ['RENAME2'] } as const;
  for (const [ending, operations] of Object.entries(endings))
    it(`leaves nothing when it is ${ending} later`, () => {
      const bodies = {
        UNLINK: ['new'],
        RMDIR: ['d'],
        RENAME: [ROOT, 0, 'd', 'other'],
        RENAME2: [ROOT, 0, EXCHANGE, 0, 'd', 'other'],
      };
      let between = 0;
      for (let stores = 0, isOver = false; !isOver; stores++) {
        const killer = new Killer();
        const driver = new FuseDriver(2, 'exclusive', undefined, { view: killer.view });
        try {
          const made = () => driver.paths.filter((path) => existsSync(join(path, 'd')));
          mkdirSync(join(driver.paths[1]!, 'd'));
          const directory = driver.lookup(ROOT, 'd');
          if (ending === 'exchanged') driver.ask(OP.MKNOD, ROOT, [0o100644, 0, 0, 0, 'other']);
          driver.place(OP.CREATE, directory, [O_RDWR, 0o640, 0, 0, 'new']);
          killer.arm(stores);
          Killed.survive(() => driver.perform());
          killer.arm();
          isOver = driver.context.inodes.onBranch(directory, 0);
          if (made().length === 2 && !isOver) between++;
          driver.restart();
          // The first one is not chosen again.
          driver.context.branchTable.set(0, { mode: 'NC', minFreeSpaceBytes: 0 });
          driver.resume();
          for (const operation of operations) {
            const node = operation === 'UNLINK' ? directory : ROOT;
            expect(driver.ask(OP[operation], node, bodies[operation]).result, operation).to.equal(0);
          }
          const left = made().filter((path) => !statSync(join(path, 'd')).isFile());
          expect(left, `killed after ${stores} stores`).to.deep.equal([]);
        } finally {
          driver.close();
        }
      }
      expect(between).to.be.above(0);
    });
});
