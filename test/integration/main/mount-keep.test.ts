/** `union-csi mount -o keep`: server and keeper are killed, and who uses the mount only waits. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { appendFile, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { mountpointsBelow, removeFolderWithMounts } from '../../support/loop-branches.ts';
import { until } from '../../support/processes.ts';
import { fuse, needs } from '../../support/skip.ts';

const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));

describe('union-csi mount -o keep', function () {
  this.timeout(60_000);
  let folder: string;
  let mountpoint: string;

  before(function () {
    needs(this, fuse);
  });

  beforeEach(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'union-keep-')));
    mountpoint = join(folder, 'union');
    for (const name of ['a', 'b', 'union']) mkdirSync(join(folder, name));
  });

  afterEach(async () => {
    for (const { pid } of processes()) process.kill(pid, 'SIGKILL');
    await until(() => processes().length === 0);
    removeFolderWithMounts(folder);
  });

  const mount = (option: string) => {
    const branches = `${join(folder, 'a')}:${join(folder, 'b')}`;
    const { status, stderr } = spawnSync(program, ['mount', '-o', option, branches, mountpoint], { encoding: 'utf8' });
    expect(stderr).to.equal('');
    expect(status).to.equal(0);
  };

  /** Those of this mount; the server is the one that has the most of its threads pinned to the work: the oldest. */
  const processes = () =>
    readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((name) => ({ pid: Number(name), command: commandOf(name) }))
      .filter(({ command }) => command.includes(folder) && command.includes('cli.'))
      .sort((one, other) => one.pid - other.pid);
  const servers = () => processes().filter(({ command }) => command.includes('--kept-server'));
  const keepers = () => processes().filter(({ command }) => !command.includes('--kept-server'));

  it('goes on when the server is killed, and when the keeper is', async () => {
    mount('keep=100');
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
    mount('keep=2');
    await until(() => servers().length === 2);
    process.kill(servers()[0]!.pid, 'SIGKILL');
    await appendFile(join(mountpoint, 'log'), 'once\n');
    await until(() => servers().length === 2);
    process.kill(servers()[0]!.pid, 'SIGKILL');
    await until(() => processes().length === 0);
    expect(mountpointsBelow(folder)).to.deep.equal([]);
  });
});

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return ''; // it has ended
  }
}
