/** What a branch's mode permits, and what becomes of files in use when it changes. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { type LoopBranches, makeLoopBranches, runProgram } from '../../support/loop-branches.ts';
import { fuse, loop, needs } from '../../support/skip.ts';
import { mountUnion, type UnionMount } from '../../support/union-mount.ts';

const mebibyte = 1024 ** 2;
const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));

describe('a branch whose mode changes', () => {
  let branches: LoopBranches;
  let union: UnionMount;

  before(async function () {
    needs(this, fuse, loop);
    branches = makeLoopBranches([32 * mebibyte, 32 * mebibyte]);
    const [a, b] = branches.paths as [string, string];
    for (const name of ['read', 'held']) writeFileSync(join(b, name), 'content');
    const mountpoint = join(branches.folder, 'union');
    mkdirSync(mountpoint);
    union = await mountUnion({ branches: [a, `${b}=RO`], mountpoint, options: ['minfreespace=1M'] });
  });

  after(async () => {
    await union?.close();
    branches?.close();
  });

  it('from RO to RW lets files be written that were read before, at once or when their readers have closed them', () => {
    const held = openSync(join(union.mountpoint, 'held'), 'r');
    const read = join(union.mountpoint, 'read');
    expect(readFileSync(read, 'utf8')).to.equal('content');
    expect(() => openSync(read, 'r+')).to.throw('EROFS');
    runProgram(program, ['branch', 'set', union.mountpoint, `${branches.paths[1]}=RW`]);
    writeFileSync(read, 'written', { flag: 'r+' });
    expect(readFileSync(read, 'utf8')).to.equal('written');
    expect(() => openSync(join(union.mountpoint, 'held'), 'r+')).to.throw('EBUSY');
    expect(readSync(held, Buffer.alloc(9))).to.equal(7);
    closeSync(held);
    // The close reaches the server behind the program's back.
    const { status, stderr } = spawnSync(
      'sh',
      ['-c', 'until printf w 1<> "$0"; do :; done 2> /dev/null', join(union.mountpoint, 'held')],
      {
        encoding: 'utf8',
        timeout: 60_000,
      },
    );
    expect(stderr).to.equal('');
    expect(status).to.equal(0);
    expect(readFileSync(join(branches.paths[1]!, 'held'), 'utf8')).to.equal('wontent');
  });

  it('from RW to RO lets those write on who have files open, and nobody else', () => {
    const path = join(union.mountpoint, 'read');
    const open = openSync(path, 'r+');
    runProgram(program, ['branch', 'set', union.mountpoint, `${branches.paths[1]}=RO`]);
    writeSync(open, 'W');
    expect(readFileSync(path, 'utf8')).to.equal('Written');
    expect(() => openSync(path, 'r+')).to.throw('EROFS');
    closeSync(open);
  });
});
