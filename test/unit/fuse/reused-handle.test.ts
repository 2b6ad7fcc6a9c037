/**
 * A handle that a server was just closing when it was killed. Nobody waits for a close, so its number may be somebody else's by then: the
 * request, done again, must not close that one.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { WORD } from '../../../fuse/inode/layout.ts';
import { OP } from '../../../fuse/protocol/abi.ts';
import { FuseDriver } from '../../support/fuse-driver.ts';
import { Killed, Killer } from '../../support/killer.ts';

const ROOT = 1;
const O_RDWR = 2;

describe('a handle whose number was given out again before a server was killed', () => {
  const kinds = {
    file: { open: OP.OPEN, close: OP.RELEASE, flags: O_RDWR },
    directory: { open: OP.OPENDIR, close: OP.RELEASEDIR, flags: 0 },
  } as const;
  for (const [kind, { open, close, flags }] of Object.entries(kinds))
    it(`stays open: of a ${kind}`, () => {
      let reused = 0;
      for (let stores = 0, isOver = false; !isOver; stores++) {
        const killer = new Killer();
        const driver = new FuseDriver(1, 'exclusive', undefined, { view: killer.view });
        try {
          const path = join(driver.paths[0]!, kind);
          if (kind === 'file') writeFileSync(path, 'text');
          else mkdirSync(path);
          const node = driver.lookup(ROOT, kind);
          const handle = driver.ask(open, node, [flags, 0]).word(0);
          driver.place(close, node, [handle, 0, 0, 0, 0, 0]);
          killer.arm(stores);
          isOver = Killed.survive(() => driver.perform()) !== undefined;
          killer.arm();
          const isClosed = !driver.context.handles.isUsed(handle);
          const isSettled = driver.context.u32[WORD.tableLock] === 0;
          let next = 0;
          if (isClosed && isSettled) {
            const other = driver.otherContext();
            driver.through(other, () => {
              next = driver.ask(open, node, [flags, 0]).word(0);
            });
            expect(next).to.equal(handle);
          }
          driver.restart();
          if (isOver) continue;
          if (next !== 0) reused++;
          expect(driver.resume().result, `killed after ${stores} stores`).to.equal(0);
          const { context } = driver;
          expect(context.handles.isUsed(handle), `killed after ${stores} stores`).to.equal(next !== 0);
          if (next !== 0) expect(driver.ask(close, node, [next, 0, 0, 0, 0, 0]).result).to.equal(0);
          expect(context.handles.count).to.equal(0);
        } finally {
          driver.close();
        }
      }
      expect(reused).to.be.above(0);
    });
});
