/** The commands about a mounted union, each against a real one: status, where, branch, check, and mounting from fstab. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { prepareControlSocket } from '../../../src/host/mount-control.ts';
import { mountAt } from '../../../src/host/mountinfo.ts';
import type { StatusReport } from '../../../src/main/status.ts';
import { removeFolderWithMounts, unmount } from '../../support/loop-branches.ts';
import { until } from '../../support/processes.ts';
import { fuse, needs } from '../../support/skip.ts';
import { mountUnion, type UnionMount } from '../../support/union-mount.ts';

const program = fileURLToPath(new URL('../../../bin/union-csi', import.meta.url));
const helper = fileURLToPath(new URL('../../../bin/mount.fuse.union', import.meta.url));
const sockets = '/run/union-csi';

describe('commands about a mounted union', () => {
  let folder: string;
  let a: string;
  let b: string;
  let mountpoint: string;
  let union: UnionMount | undefined;

  before(function () {
    needs(this, fuse);
  });

  beforeEach(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'union-commands-')));
    chmodSync(folder, 0o755);
    [a, b, mountpoint] = ['a', 'b', 'union'].map((name) => join(folder, name)) as [string, string, string];
    for (const path of [a, b, mountpoint]) mkdirSync(path);
  });

  afterEach(async () => {
    await union?.close();
    union = undefined;
    removeFolderWithMounts(folder);
  });

  const mount = async (...options: string[]) => {
    const rules = options.length > 0 ? options : ['category.create=ff', 'minfreespace=1M'];
    union = await mountUnion({ branches: [a, b], mountpoint, options: rules });
    await until(() => socketsOf(union!.pid).length === 1);
  };
  const run = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', timeout: 60_000 });
    return { status, stdout, stderr };
  };
  const says = (stdout: string, status = 0) => ({ status, stdout, stderr: '' });
  const fails = (command: string, message: string, status = 1) => ({
    status,
    stdout: '',
    stderr: `union-csi ${command}: ${message}\n`,
  });
  const status = (path = mountpoint): StatusReport => JSON.parse(run('status', '--json', path).stdout);
  const inUnion = (...path: string[]) => join(mountpoint, ...path);

  describe('status', () => {
    it('tells rules, branches and counts', async () => {
      await mount('category.create=mfs', 'minfreespace=7M');
      writeFileSync(inUnion('file'), '');
      const report = status();
      expect(report).to.include({
        mountpoint,
        pid: union!.pid,
        cache: 'exclusive',
        readOnly: false,
      });
      expect(report.policies).to.deep.equal(['category.create=mfs']);
      expect(report.branches.map(({ path }) => path)).to.deep.equal([a, b]);
      expect(report.branches[0]).to.include({ mode: 'RW', health: 'ok', minFreeSpaceBytes: 7 * 1024 ** 2 });
      expect(report.operations).to.be.greaterThan(0);
      expect(report.indexedNames).to.be.greaterThan(0);
      expect(report.namesUnknown).to.be.greaterThan(0);
      expect(report.namesAsked).to.be.at.least(report.namesUnknown + report.namesRemembered);
      expect(run('status', mountpoint).stdout).to.include(`${mountpoint}: served by process ${union!.pid} for `);
    });

    it('counts what goes on: open handles, and operations per second', async () => {
      await mount();
      writeFileSync(inUnion('file'), 'x');
      const handle = spawn('tail', ['-f', inUnion('file')], { stdio: ['ignore', 'pipe', 'ignore'] });
      await once(handle.stdout!, 'data');
      const quiet = status();
      expect(quiet.openHandles).to.equal(1);
      const busy = spawn('sh', ['-c', `while :; do : > '${inUnion('made')}'; rm '${inUnion('made')}'; done`]);
      try {
        await until(() => existsSync(join(a, 'made')));
        expect(status().operationsPerSecond).to.be.greaterThan(0);
      } finally {
        for (const child of [handle, busy]) {
          const ended = once(child, 'exit');
          child.kill('SIGKILL');
          await ended;
        }
      }
    });

    it('finds the union that a path is in', async () => {
      await mount();
      mkdirSync(inUnion('d'));
      expect(status(inUnion('d')).mountpoint).to.equal(mountpoint);
    });

    it('tells a branch that is below its reserve', async () => {
      await mount('minfreespace=4000T');
      expect(status().branches[0]!.health).to.equal('full');
    });

    it('says what is wrong', async () => {
      expect(run('status', folder)).to.deep.equal(fails('status', `no union is mounted at ${folder}`));
      expect(run('status')).to.deep.equal(fails('status', 'the mountpoint is missing: union-csi status MOUNTPOINT', 2));
      await mount();
      rmSync(join(sockets, socketsOf(union!.pid)[0]!));
      expect(run('status', mountpoint).stderr).to.include(
        `the server of ${mountpoint} has no control socket in ${sockets}: it was not mounted by union-csi mount`,
      );
    });

    it('leaves no socket behind', async () => {
      await mount();
      await union!.close();
      expect(socketsOf(union!.pid)).to.deep.equal([]);
    });

    it('listens where no other server of the device does, or did', () => {
      const device = '0:4000000000';
      const stale = join(sockets, `${device}-1.sock`);
      mkdirSync(sockets, { recursive: true });
      writeFileSync(stale, '');
      expect(prepareControlSocket(device)).to.equal(join(sockets, `${device}-${process.pid}.sock`));
      expect(existsSync(stale)).to.equal(false);
    });
  });

  describe('where', () => {
    it('tells the branch of files, links and special files, and all of a directory', async () => {
      for (const branch of [a, b]) mkdirSync(join(branch, 'd'));
      writeFileSync(join(b, 'd', 'file'), '');
      symlinkSync('file', join(b, 'd', 'link'));
      spawnSync('mkfifo', [join(b, 'd', 'fifo')]);
      await mount();
      const paths = ['d', 'd/file', 'd/link', 'd/fifo', '.'].map((path) => inUnion(path));
      expect(run('where', ...paths)).to.deep.equal(
        says([`${a}/d`, `${b}/d`, `${b}/d/file`, `${b}/d/link`, `${b}/d/fifo`, a, b, ''].join('\n')),
      );
    });

    it('follows a rename and a bind mount', async () => {
      await mount();
      mkdirSync(inUnion('d'));
      writeFileSync(inUnion('old'), '');
      spawnSync('mv', [inUnion('old'), inUnion('d', 'new')]);
      mkdirSync(join(folder, 'bound'));
      expect(spawnSync('mount', ['--bind', inUnion('d'), join(folder, 'bound')]).status).to.equal(0);
      expect(run('where', join(folder, 'bound', 'new'))).to.deep.equal(says(`${a}/d/new\n`));
      unmount(join(folder, 'bound'));
    });

    it('says what is wrong', async () => {
      await mount();
      expect(run('where', a)).to.deep.equal(fails('where', `${a} is not on a mounted union`));
      expect(run('where', inUnion('none'))).to.deep.equal(fails('where', `${inUnion('none')} does not exist`));
      expect(run('where')).to.deep.equal(fails('where', 'a path is missing: union-csi where PATH…', 2));
      symlinkSync('x', inUnion('link'));
      const asUser = spawnSync('setpriv', ['--reuid=65534', '--clear-groups', program, 'where', inUnion('link')], {
        encoding: 'utf8',
      });
      expect(asUser.stderr).to.include('is a link or special file: only root can ask where it is; run it with sudo');
    });
  });

  describe('branch set', () => {
    it('moves new files elsewhere, and refuses changes on RO, at once', async () => {
      await mount();
      writeFileSync(inUnion('first'), '');
      expect(run('branch', 'set', mountpoint, `${a}=NC`)).to.deep.equal(
        says(`branch ${a} of ${mountpoint}: NC, 1.00 MiB reserved\n`),
      );
      writeFileSync(inUnion('second'), '');
      writeFileSync(inUnion('first'), 'changed');
      expect(run('where', inUnion('first'), inUnion('second'))).to.deep.equal(says(`${a}/first\n${b}/second\n`));
      expect(run('branch', 'set', mountpoint, `${a}=RO`).status).to.equal(0);
      expect(() => writeFileSync(inUnion('first'), 'again')).to.throw('EROFS');
      expect(run('branch', 'set', mountpoint, `${a}=RW,4000T`).status).to.equal(0);
      writeFileSync(inUnion('first'), 'again');
      writeFileSync(inUnion('third'), '');
      expect(run('where', inUnion('third'))).to.deep.equal(says(`${b}/third\n`));
      expect(status().branches[0]).to.include({ mode: 'RW', minFreeSpaceBytes: 4000 * 1024 ** 4, health: 'full' });
    });

    it('says what is wrong', async () => {
      await mount();
      const set = (...args: string[]) => run('branch', 'set', ...args);
      expect(set(mountpoint, a)).to.deep.equal(fails('branch', `say what to set: ${a}=MODE[,MINFREE]`, 2));
      expect(set(mountpoint, `${folder}=RO`).stderr).to.include(`${folder} is no branch of ${mountpoint}`);
      expect(set(mountpoint, `${a}=RR`)).to.deep.equal(
        fails('branch', `unknown mode RR of branch ${a}; did you mean RW?`, 2),
      );
      expect(set(folder, `${a}=RO`)).to.deep.equal(fails('branch', `no union is mounted at ${folder}`));
      expect(run('branch', 'ste')).to.deep.equal(fails('branch', 'unknown action ste; did you mean set?', 2));
    });
  });

  describe('branch add', () => {
    it('takes new files, and merges what is there with them', async () => {
      await mount();
      mkdirSync(inUnion('d'));
      writeFileSync(inUnion('d', 'old'), 'old');
      readdirSync(inUnion('d'));
      const c = join(folder, 'c');
      mkdirSync(join(c, 'lost+found'), { recursive: true });
      for (const branch of [a, b]) run('branch', 'set', mountpoint, `${branch}=NC`);
      expect(() => writeFileSync(inUnion('d', 'new'), '')).to.throw('EROFS');
      expect(run('branch', 'add', mountpoint, `${c}=RW,2M`)).to.deep.equal(
        says(`${c} is a branch of ${mountpoint} now: RW, 2.00 MiB reserved\n`),
      );
      writeFileSync(inUnion('d', 'new'), 'new');
      mkdirSync(inUnion('e'));
      expect(readdirSync(inUnion('d')).sort()).to.deep.equal(['new', 'old']);
      expect(readdirSync(mountpoint).sort()).to.deep.equal(['d', 'e']);
      expect(readFileSync(join(c, 'd', 'new'), 'utf8')).to.equal('new');
      expect(run('where', inUnion('d'), inUnion('e'))).to.deep.equal(says(`${a}/d\n${c}/d\n${c}/e\n`));
      expect(statSync(inUnion('d')).mode).to.equal(statSync(join(a, 'd')).mode);
      rmSync(inUnion('d'), { recursive: true });
      expect([a, c].map((branch) => existsSync(join(branch, 'd')))).to.deep.equal([false, false]);
      expect(status().branches.map(({ path }) => path)).to.deep.equal([a, b, c]);
    });

    it('serves those who are at work meanwhile', async () => {
      await mount();
      const script = `i=0; while [ $i -lt 3000 ]; do i=$((i+1)); : > '${mountpoint}/f'$i || exit 1; done`;
      const worker = spawn('sh', ['-c', script], { stdio: ['ignore', 'ignore', 'inherit'] });
      const exited = once(worker, 'exit');
      for (let number = 0; number < 5; number++) {
        const path = join(folder, `more-${number}`);
        mkdirSync(path);
        expect(run('branch', 'add', mountpoint, `${path}=RW,0`).stderr).to.equal('');
        expect(run('branch', 'set', mountpoint, `${path}=RW,1`).stderr).to.equal('');
      }
      expect(await exited).to.deep.equal([0, null]);
      expect(readdirSync(mountpoint)).to.have.length(3000);
    });

    it('says what is wrong', async () => {
      await mount();
      const add = (path: string) => run('branch', 'add', mountpoint, path);
      expect(add(a)).to.deep.equal(fails('branch', `${a} is a branch of ${mountpoint} already`));
      expect(add(folder)).to.deep.equal(
        fails('branch', `${mountpoint} lies inside branch ${folder}; take another directory`),
      );
      mkdirSync(join(a, 'inner'));
      expect(add(join(a, 'inner'))).to.deep.equal(
        fails('branch', `branch ${a}/inner lies inside ${a}; take another directory`),
      );
      expect(add(`${folder}/none`)).to.deep.equal(fails('branch', `branch ${folder}/none does not exist`));
      expect(status().branches).to.have.length(2);
    });
  });

  describe('check', () => {
    it('looks at a mounted union, and repairs without disturbing it', async () => {
      for (const [branch, mode] of [
        [a, 0o755],
        [b, 0o700],
      ] as const) {
        mkdirSync(join(branch, 'd'));
        chmodSync(join(branch, 'd'), mode);
      }
      await mount();
      const found = `/d: mode 0700 owner 0:0 on ${b}, but the union shows mode 0755 owner 0:0\n`;
      const count = '2 directories and 0 files on 2 branches';
      expect(run('check', mountpoint)).to.deep.equal(says(`${found}${count}: 1 problem\n`, 1));
      expect(run('check', '--repair', mountpoint)).to.deep.equal(
        says(
          `${found}  changed ${b}/d from mode 0700 owner 0:0 to mode 0755 owner 0:0\n${count}: 1 problem, 1 repaired\n`,
        ),
      );
      expect(run('check', mountpoint)).to.deep.equal(says(`${count}: nothing is wrong\n`));
    });

    it('looks at branches that are not mounted, in their order', () => {
      for (const branch of [a, b]) writeFileSync(join(branch, 'f'), '');
      const line = (one: string, other: string) =>
        `/f: the file on ${one} shows and hides the file on ${other}; rename or remove one of them on its branch\n`;
      const count = '1 directory and 1 file on 2 branches: 1 problem';
      expect(run('check', b, a)).to.deep.equal(says(`${line(b, a)}${count}\n`, 1));
      expect(run('check', '--repair', `${a}:${b}=RO`)).to.deep.equal(says(`${line(a, b)}${count}, 0 repaired\n`, 1));
    });

    it('compares extended attributes', async () => {
      for (const branch of [a, b]) mkdirSync(join(branch, 'd'));
      spawnSync('setfattr', ['-n', 'user.note', '-v', 'x', join(b, 'd')]);
      expect(run('check', a, b).stdout).to.include(
        `/d: user.note on ${b} is not what the union shows; set it again through the union\n`,
      );
    });

    it('says what is wrong', () => {
      expect(run('check')).to.deep.equal(fails('check', 'name a mountpoint or branches; see --help', 2));
      expect(run('check', `${folder}/none`)).to.deep.equal(fails('check', `branch ${folder}/none does not exist`));
    });
  });

  describe('mount.fuse.union', () => {
    /** Runs mount(8) in a mount namespace of its own where the helper is in /sbin; `then` runs after it there. */
    const inNamespace = (then: string) => {
      const fstab = join(folder, 'fstab');
      writeFileSync(fstab, `${folder}/[ab] ${mountpoint} fuse.union nosuid,nofail,category.create=ff 0 0\n`);
      const script = [
        'set -e',
        'mount -t tmpfs none /usr/local',
        'mkdir /usr/local/sbin && cp -a /sbin/. /usr/local/sbin/',
        `ln -s '${helper}' /usr/local/sbin/mount.fuse.union`,
        'mount --bind /usr/local/sbin /sbin',
        then,
        `umount '${mountpoint}'`,
      ].join('\n');
      return spawnSync('unshare', ['--mount', 'sh', '-c', script, 'sh', fstab], { encoding: 'utf8', timeout: 60_000 });
    };

    it('mounts from fstab, and mount -a leaves it alone the second time', () => {
      const { status, stdout, stderr } = inNamespace(
        `mount -a -T "$1" && mount -a -T "$1" && touch '${mountpoint}/made' && grep '${mountpoint}' /proc/mounts`,
      );
      expect({ status, stderr }).to.deep.equal({ status: 0, stderr: '' });
      expect(stdout.split('\n')).to.have.length(2);
      expect(stdout).to.include(`${folder}/[ab] ${mountpoint} fuse.union rw,nosuid`);
      expect(existsSync(join(a, 'made'))).to.equal(true);
    });

    it('passes options and messages on, and mounts nothing when asked to fake it', () => {
      const call = (...args: string[]) => spawnSync(helper, [a, mountpoint, ...args], { encoding: 'utf8' });
      expect(call('-f', '-o', 'nonsense')).to.include({ status: 0, stderr: '' });
      expect(call('-n', '-s', '-v', '-t', 'fuse.union', '-o', 'rw,minfreespac=1')).to.include({
        status: 2,
        stderr: 'union-csi mount: unknown option minfreespac; did you mean minfreespace?\n',
      });
      expect(call('-N', '/proc/1/ns/mnt').stderr).to.include('a mount in another namespace is not possible');
      expect(mountAt(mountpoint)).to.equal(undefined);
    });
  });
});

/** Names of the control sockets of a server. */
function socketsOf(pid: number): readonly string[] {
  return existsSync(sockets) ? readdirSync(sockets).filter((name) => name.endsWith(`-${pid}.sock`)) : [];
}
