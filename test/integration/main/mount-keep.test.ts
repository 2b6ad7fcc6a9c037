/** `union-csi mount -o keep`: server and keeper are killed and upgraded, and who uses the mount only waits. */
import { execFile, spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { appendFile, mkdir, open, readFile, stat, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { KeptMount, type KeptProcess } from '../../support/kept-mount.ts';
import { removeFolderWithMounts, unmount } from '../../support/loop-branches.ts';
import { until } from '../../support/processes.ts';
import { fuse, needs } from '../../support/skip.ts';

describe('union-csi mount -o keep', () => {
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
    await union?.kill();
    union = undefined;
    removeFolderWithMounts(folder);
  });

  const mount = (option: string, program?: string) => {
    union = new KeptMount([join(folder, 'a'), join(folder, 'b')], mountpoint, [option], program);
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
    unmount(mountpoint);
    await until(() => processes().length === 0);
  });

  /** Kills servers until the mount is answered for by none. */
  const killServers = async (count: number) => {
    const { servers } = named(union!);
    for (let round = 0; round < count; round++) {
      await until(() => servers().length === 2); // one serves, one waits
      process.kill(servers()[0]!.pid, 'SIGKILL');
      await stat(join(mountpoint, `round ${round}`)).catch(() => {});
    }
  };

  it('answers EIO when servers die too often, and works again with a better one', async () => {
    const { processes, keepers, refusers } = named(mount('keep=2'));
    const file = await open(join(mountpoint, 'log'), 'w+');
    await file.write('before');
    await unlink(join(mountpoint, 'log'));
    await killServers(2);
    expect(await codeOf(mkdir(join(mountpoint, 'd')))).to.equal('EIO');
    const [keeper] = keepers() as [KeptProcess];
    process.kill(keeper.pid, 'SIGKILL');
    await until(() => keepers().some(({ pid }) => pid !== keeper.pid));
    expect(refusers().length).to.equal(1);
    const { stderr } = unionCsi('status', mountpoint);
    expect(stderr).to.include(`the server of ${mountpoint} died 2 times in a minute`);
    expect(unionCsi('upgrade', mountpoint)).to.include({ status: 0, stderr: '' });
    await mkdir(join(mountpoint, 'd'));
    await file.write(', after');
    const bytes = Buffer.alloc(13);
    await file.read(bytes, 0, 13, 0);
    expect(bytes.toString()).to.equal('before, after');
    expect((await file.stat()).nlink).to.equal(0);
    await file.close();
    unmount(mountpoint);
    await until(() => processes().length === 0);
  });

  it('ends when it is unmounted while all is answered EIO', async () => {
    const { processes, refusers } = named(mount('keep=2'));
    await killServers(2);
    await until(() => refusers().length === 1);
    unmount(mountpoint);
    await until(() => processes().length === 0);
  });

  it('is upgraded while it is in use: server and keeper are others afterwards', async () => {
    const { servers, keepers } = named(mount('keep=2'));
    const file = await open(join(mountpoint, 'log'), 'a');
    await until(() => servers().length === 2);
    const before = union!.processes().map(({ pid }) => pid);
    for (let round = 0; round < 2; round++) {
      const [appended] = await Promise.all([
        file.write('line\n'),
        writeFile(join(mountpoint, `f${round}`), 'x', { flag: 'wx' }),
        upgrade(mountpoint),
      ]);
      expect(appended.bytesWritten).to.equal(5);
    }
    await until(() => servers().length === 2 && keepers().length === 1);
    expect(union!.processes().map(({ pid }) => pid)).not.to.have.members(before);
    expect(before).not.to.include(keepers()[0]!.pid);
    expect(await readFile(join(mountpoint, 'log'), 'utf8')).to.equal('line\n'.repeat(2));
    await file.close();
  });

  it('stays with its server when there is no better one', async () => {
    const copy = join(folder, 'program');
    for (const name of ['bin', 'src', 'fuse', 'package.json']) cpSync(at(name), join(copy, name), { recursive: true });
    symlinkSync(at('node_modules'), join(copy, 'node_modules'));
    const { servers } = named(mount('keep=2', join(copy, 'bin/union-csi')));
    await until(() => servers().length === 2);
    const [{ pid }] = servers() as [KeptProcess];
    const layout = join(copy, 'fuse/inode/layout.ts');
    writeFileSync(layout, readFileSync(layout, 'utf8').replace(/STATE_VERSION = \d+/, 'STATE_VERSION = 9999'));
    const { status, stderr } = unionCsi('upgrade', mountpoint);
    expect(stderr).to.match(/state memory has version \d+, this program reads 9999.*; the mount goes on as before/);
    expect(status).to.equal(1);
    rmSync(layout);
    expect(unionCsi('upgrade', mountpoint).stderr).to.include('the program as it is installed now does not start');
    await writeFile(join(mountpoint, 'f'), 'x');
    expect(servers().map((server) => server.pid)).to.include(pid);
  });
});

const at = (path: string) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));

function unionCsi(...args: readonly string[]) {
  const { status, stderr } = spawnSync(at('bin/union-csi'), args, { encoding: 'utf8' });
  return { status, stderr };
}

/** As `unionCsi`, while this process uses the mount. */
async function upgrade(mountpoint: string): Promise<void> {
  await promisify(execFile)(at('bin/union-csi'), ['upgrade', mountpoint]);
}

async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  return await work.then(
    () => undefined,
    (error: NodeJS.ErrnoException) => error.code,
  );
}

function named(union: KeptMount) {
  return {
    servers: () => union.servers(),
    keepers: () => union.keepers(),
    refusers: () => union.refusers(),
    processes: () => union.processes(),
  };
}
