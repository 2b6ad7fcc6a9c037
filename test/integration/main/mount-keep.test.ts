/** `union-csi mount -o keep`: server and keeper are killed, and who uses the mount only waits. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync } from 'node:fs';
import { appendFile, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { KeptMount } from '../../support/kept-mount.ts';
import { mountpointsBelow, removeFolderWithMounts } from '../../support/loop-branches.ts';
import { until } from '../../support/processes.ts';
import { fuse, needs } from '../../support/skip.ts';

describe('union-csi mount -o keep', function () {
  this.timeout(60_000);
  let folder: string;
  let mountpoint: string;
  let union: KeptMount | undefined;

  before(function () {
    needs(this, fuse);
  });

  beforeEach(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'union-keep-')));
    mountpoint = join(folder, 'union');
    for (const name of ['a', 'b', 'union']) mkdirSync(join(folder, name));
  });

  afterEach(async () => {
    for (const { pid } of union?.processes() ?? []) process.kill(pid, 'SIGKILL');
    await until(() => union?.processes().length === 0);
    removeFolderWithMounts(folder);
  });

  const mount = (option: string) => {
    union = new KeptMount([join(folder, 'a'), join(folder, 'b')], mountpoint, [option]);
    return union;
  };

  it('goes on when the server is killed, and when the keeper is', async () => {
    const { servers, keepers, processes } = named(mount('keep=100'));
    const lines: string[] = [];
    const append = async (line: string) => {
      lines.push(line);
      await appendFile(join(mountpoint, 'log'), `${line}\n`);
    };
    await append('begin');
    for (let round = 0; round < 2; round++) {
      await until(() => servers().length === 2); // one serves, one waits
      process.kill(servers()[0]!.pid, 'SIGKILL');
      await append(`server ${round}`);
      const old = keepers()[0]!.pid;
      process.kill(old, 'SIGKILL');
      await append(`keeper ${round}`);
      await until(() => keepers().some(({ pid }) => pid !== old));
    }
    expect(await readFile(join(mountpoint, 'log'), 'utf8')).to.equal(`${lines.join('\n')}\n`);
    expect(spawnSync('umount', [mountpoint]).status).to.equal(0);
    await until(() => processes().length === 0);
  });

  it('is given up when the server dies too often', async () => {
    const { servers, processes } = named(mount('keep=2'));
    await until(() => servers().length === 2);
    process.kill(servers()[0]!.pid, 'SIGKILL');
    await appendFile(join(mountpoint, 'log'), 'once\n');
    await until(() => servers().length === 2);
    process.kill(servers()[0]!.pid, 'SIGKILL');
    await until(() => processes().length === 0);
    expect(mountpointsBelow(folder)).to.deep.equal([]);
  });
});

function named(union: KeptMount) {
  return {
    servers: () => union.servers(),
    keepers: () => union.keepers(),
    processes: () => union.processes(),
  };
}
