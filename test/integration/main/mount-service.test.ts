/** A kept mount as a service of systemd (deploy/systemd): keeper and servers are killed together, and the next ones go on. */
import { mkdirSync, mkdtempSync, realpathSync } from 'node:fs';
import { appendFile, open, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { MountProcesses } from '../../support/kept-mount.ts';
import { removeFolderWithMounts, unmount } from '../../support/loop-branches.ts';
import { until } from '../../support/processes.ts';
import { ServiceManager } from '../../support/service-manager.ts';
import { fuse, needs } from '../../support/skip.ts';

const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));

describe('a kept mount as a service', () => {
  let folder: string;
  let manager: ServiceManager;
  let union: MountProcesses;

  before(function () {
    needs(this, fuse);
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'union-service-')));
    for (const name of ['a', 'b', 'union']) mkdirSync(join(folder, name));
    manager = new ServiceManager(folder);
    union = new MountProcesses(join(folder, 'union'));
  });

  after(async () => {
    await union?.kill();
    manager?.close();
    if (folder !== undefined) removeFolderWithMounts(folder);
  });

  it('goes on when all of its processes are killed at once', async () => {
    const branches = ['a', 'b'].map((name) => join(folder, name)).join(':');
    const start = async () => {
      const keeper = manager.start(program, ['mount', '--foreground', '-o', 'keep', branches, union.mountpoint]);
      await until(() => manager.isReady());
      return keeper;
    };
    await start();
    const log = join(union.mountpoint, 'log');
    const file = await open(log, 'a');
    await file.write('before\n');
    await union.kill();
    const [appended] = await Promise.all([appendFile(log, 'while none lives\n'), start()]);
    expect(appended).to.equal(undefined);
    await file.write('after\n');
    await file.close();
    expect(await readFile(log, 'utf8')).to.equal('before\nwhile none lives\nafter\n');
    unmount(union.mountpoint);
    await until(() => union.processes().length === 0);
    // What is stored is no mount any more.
    await start();
    await appendFile(log, 'mounted anew\n');
    unmount(union.mountpoint);
    await until(() => union.processes().length === 0);
  });
});
