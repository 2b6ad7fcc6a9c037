/** `union-csi mount` as a person uses it: what it serves, how it ends, and what it says when something is wrong. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { mountAt } from '../../../src/host/mountinfo.ts';
import { mountpointsBelow, removeFolderWithMounts, unmount } from '../../support/loop-branches.ts';
import { hasEnded, killed, until } from '../../support/processes.ts';
import { fuse, needs } from '../../support/skip.ts';

const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));

describe('union-csi mount', () => {
  let folder: string;
  let a: string;
  let b: string;
  let mountpoint: string;
  const started: ChildProcess[] = [];

  before(function () {
    needs(this, fuse);
  });

  beforeEach(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'union-mount-')));
    chmodSync(folder, 0o755);
    [a, b, mountpoint] = ['a', 'b', 'union'].map((name) => join(folder, name)) as [string, string, string];
    for (const path of [a, b, mountpoint]) mkdirSync(path);
  });

  afterEach(async () => {
    for (const child of started.splice(0)) {
      await killed(child);
    }
    removeFolderWithMounts(folder);
    await until(() => serversOf(folder).length === 0);
  });

  const mount = (...args: string[]) => spawnSync(program, ['mount', ...args], { encoding: 'utf8', timeout: 60_000 });
  const isMounted = () => mountAt(mountpoint)?.fsType === 'fuse.union';
  const hold = async (path: string) => {
    const child = spawn('sleep', ['60'], { cwd: path });
    started.push(child);
    await once(child, 'spawn');
    return child;
  };
  const foreground = async () => {
    const child = spawn(program, ['mount', '-f', `${a}:${b}`, mountpoint], { stdio: ['ignore', 'ignore', 'pipe'] });
    started.push(child);
    let text = '';
    child.stderr!.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    await until(isMounted);
    readdirSync(mountpoint); // waits for INIT
    return { child, output: () => text };
  };

  it('says which settings of mergerfs have no effect, and mounts', () => {
    const { status, stderr } = mount('-o', 'category.action=epff,func.mkdir=all', `${a}:${b}`, mountpoint);
    expect(stderr).to.equal(
      'union-csi mount: category.action=epff has no effect: a file is on one branch, and a directory is changed on all of its branches\n',
    );
    expect(status).to.equal(0);
    mkdirSync(join(mountpoint, 'directory'));
    for (const branch of [a, b]) expect(existsSync(join(branch, 'directory'))).to.equal(true);
  });

  it('returns when the mount answers, and serves a filesystem', () => {
    expect(mount('-o', 'category.create=ff', `${a}:${b}`, mountpoint)).to.include({ status: 0, stderr: '' });
    writeFileSync(join(mountpoint, 'file'), 'content');
    mkdirSync(join(mountpoint, 'directory'));
    renameSync(join(mountpoint, 'file'), join(mountpoint, 'directory', 'renamed'));
    expect(readFileSync(join(mountpoint, 'directory', 'renamed'), 'utf8')).to.equal('content');
    expect(readFileSync(join(a, 'directory', 'renamed'), 'utf8')).to.equal('content');
    expect(mountAt(mountpoint)).to.include({ source: `${a}:${b}` });
  });

  it('ends its process when it is unmounted', async () => {
    mount(`${a}:${b}`, mountpoint);
    expect(serversOf(folder)).to.have.length(1);
    unmount(mountpoint);
    await until(() => serversOf(folder).length === 0);
  });

  it('shows the files of all branches, by globs and with modes', () => {
    for (const path of [a, b]) writeFileSync(join(path, `in-${path.at(-1)}`), '');
    expect(mount('-o', 'fsname=pool', `${a}=RO:${folder}/b*`, mountpoint)).to.include({ status: 0, stderr: '' });
    expect(readdirSync(mountpoint).sort()).to.deep.equal(['in-a', 'in-b']);
    expect(() => writeFileSync(join(mountpoint, 'in-a'), 'x')).to.throw('EROFS');
    writeFileSync(join(mountpoint, 'new'), '');
    expect(existsSync(join(b, 'new'))).to.equal(true);
    expect(mountAt(mountpoint)).to.include({ source: 'pool' });
  });

  it('mounts read only', () => {
    expect(mount('-o', 'ro', a, mountpoint)).to.include({ status: 0 });
    expect(() => writeFileSync(join(mountpoint, 'new'), '')).to.throw('EROFS');
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`unmounts on ${signal}`, async () => {
      const { child, output } = await foreground();
      child.kill(signal);
      expect(await once(child, 'exit')).to.deep.equal([0, null]);
      expect(output()).to.equal('');
      expect(isMounted()).to.equal(false);
    });
  }

  it('waits for those who use the mount, and names them', async () => {
    const { child, output } = await foreground();
    const holder = await hold(mountpoint);
    child.kill('SIGTERM');
    await until(() => output().includes('\n'));
    expect(output()).to.include(
      `union-csi mount: ${mountpoint} is in use by sleep (${holder.pid}); unmounting when they end, or at a second signal`,
    );
    expect(isMounted()).to.equal(true);
    holder.kill('SIGKILL');
    expect(await once(child, 'exit')).to.deep.equal([0, null]);
    expect(isMounted()).to.equal(false);
  });

  it('detaches a mount in use at a second signal, and serves its users to the end', async () => {
    const { child, output } = await foreground();
    const holder = await hold(mountpoint);
    child.kill('SIGTERM');
    await until(() => output().includes('\n'));
    child.kill('SIGTERM');
    await until(() => !isMounted());
    expect(hasEnded(child)).to.equal(false);
    holder.kill('SIGKILL');
    expect(await once(child, 'exit')).to.deep.equal([0, null]);
  });

  it('takes the place of a mount whose server was killed', async () => {
    const { child } = await foreground();
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(() => readdirSync(mountpoint)).to.throw('ENOTCONN');
    const again = mount(`${a}:${b}`, mountpoint);
    expect(again).to.include({ status: 0 });
    expect(again.stderr).to.include('removing the mount that a killed server left');
    expect(readdirSync(mountpoint)).to.deep.equal([]);
    expect(mountpointsBelow(folder)).to.deep.equal([mountpoint]);
  });

  describe('says on one line what is wrong, and leaves nothing', () => {
    afterEach(() => expect(mountpointsBelow(folder)).to.deep.equal([]));

    const fails = (args: readonly string[], message: string, status = 1) => {
      for (const mode of [[], ['-f']]) {
        const { stderr, status: code } = mount(...mode, ...args);
        expect(stderr).to.equal(`union-csi mount: ${message}\n`);
        expect(code).to.equal(status);
      }
    };

    it('a branch that is missing', () =>
      fails([`${a}:${folder}/none`, mountpoint], `branch ${folder}/none does not exist`));

    it('a branch that is a file', () => {
      writeFileSync(join(folder, 'file'), '');
      fails([`${a}:${folder}/file`, mountpoint], `branch ${folder}/file is not a directory`);
    });

    it('the same branch twice', () => {
      symlinkSync(a, join(folder, 'link'));
      fails([`${a}:${folder}/link`, mountpoint], `branch ${folder}/link is given twice, first as ${a}`);
    });

    it('a mountpoint that is missing', () =>
      fails([a, `${folder}/none`], `mountpoint ${folder}/none does not exist; create it with mkdir`));

    it('a mountpoint in a branch', () =>
      fails([a, a], `mountpoint ${a} lies inside branch ${a}; mount somewhere else`));

    it('an unknown policy', () =>
      fails(
        ['-o', 'category.create=epmfss', a, mountpoint],
        'unknown policy category.create=epmfss; did you mean epmfs?',
        2,
      ));

    it('an unknown option', () =>
      fails(['-o', 'minfreespac=1', a, mountpoint], 'unknown option minfreespac; did you mean minfreespace?', 2));

    it('no /dev/fuse', () => {
      const script = 'mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec "$0" mount "$1" "$2"';
      const { stderr, status } = spawnSync('unshare', ['-m', 'sh', '-c', script, program, a, mountpoint], {
        encoding: 'utf8',
      });
      const message = '/dev/fuse is missing; load the kernel module with modprobe fuse';
      expect({ stderr, status }).to.deep.equal({ stderr: `union-csi mount: ${message}\n`, status: 1 });
    });

    it('not root', () => {
      const { stderr, status } = spawnSync(
        'setpriv',
        ['--reuid=65534', '--clear-groups', program, 'mount', a, mountpoint],
        {
          encoding: 'utf8',
        },
      );
      const message = 'mounting needs root; run it with sudo';
      expect({ stderr, status }).to.deep.equal({ stderr: `union-csi mount: ${message}\n`, status: 1 });
    });
  });

  it('refuses to mount over a union that is in place', () => {
    mount(a, mountpoint);
    const { stderr, status } = mount(b, mountpoint);
    expect(stderr).to.include(`a union is already mounted at ${mountpoint}; unmount it first`);
    expect(status).to.equal(1);
    expect(mountpointsBelow(folder)).to.deep.equal([mountpoint]);
  });
});

/** Processes that serve a union of branches in `folder`. */
function serversOf(folder: string): readonly string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`--foreground\0${folder}`);
    } catch {
      return false;
    }
  });
}
