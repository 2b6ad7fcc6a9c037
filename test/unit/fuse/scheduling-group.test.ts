import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { ownsSchedulingGroup } from '../../../fuse/transport/scheduling-group.ts';

const stat = (pid: number, session: number) => `${pid} (node (1) x) S 1 ${session} ${session} 0 -1`;

/** A server on a machine without cgroups for CPU time, in the background. */
const INSESSION: Readonly<Record<string, string>> = {
  'proc/self/status': 'Name:\tnode\nCapInh:\t0\nCapEff:\t000001ffffffffff\n',
  'proc/self/cgroup': '0::/\n',
  'proc/self/stat': stat(40, 40),
  'proc/sys/kernel/sched_autogroup_enabled': '1\n',
  'sys/fs/cgroup/cgroup.procs': '1\n2\n',
};
const POD: Readonly<Record<string, string>> = {
  ...INSESSION,
  'proc/self/stat': stat(40, 7),
  'sys/fs/cgroup/cpu.weight': '100\n',
  'sys/fs/cgroup/cgroup.procs': '7\n40\n',
};

describe('the scheduling group', () => {
  const folders: string[] = [];

  afterEach(() => {
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
  });

  function owns(files: Readonly<Record<string, string>>, programs: Readonly<Record<string, string>> = {}): boolean {
    const root = mkdtempSync(join(tmpdir(), 'group-'));
    folders.push(root);
    const at = (path: string) => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      return join(root, path);
    };
    for (const [path, text] of Object.entries(files)) writeFileSync(at(path), text);
    for (const [pid, program] of Object.entries({ self: '/bin/node', 40: '/bin/node', ...programs }))
      symlinkSync(program, at(`proc/${pid}/exe`));
    return ownsSchedulingGroup(root);
  }

  it('of a session is its leader’s own', () => {
    expect(owns(INSESSION)).to.equal(true);
    expect(owns({ ...INSESSION, 'proc/self/stat': stat(40, 39) })).to.equal(false);
    expect(owns({ ...INSESSION, 'proc/sys/kernel/sched_autogroup_enabled': '0\n' })).to.equal(false);
  });

  it('of a cgroup is our own when only our program is in it', () => {
    expect(owns(POD, { 7: '/bin/node' })).to.equal(true);
    expect(owns(POD, { 7: '/bin/sh' })).to.equal(false);
    expect(owns(POD)).to.equal(false); // 7 has ended, or is another PID namespace's
  });

  it('of a cgroup below another one that has CPU time is shared', () => {
    const below = { ...INSESSION, 'proc/self/cgroup': '0::/user.slice/session-1.scope\n' };
    expect(owns(below)).to.equal(true);
    expect(owns({ ...below, 'sys/fs/cgroup/user.slice/cpu.weight': '100\n' })).to.equal(false);
    const own = { 'sys/fs/cgroup/user.slice/session-1.scope/cpu.weight': '100\n' };
    const members = { 'sys/fs/cgroup/user.slice/session-1.scope/cgroup.procs': '40\n' };
    expect(owns({ ...below, ...own, ...members })).to.equal(true);
  });

  it('outside of what the cgroup namespace shows is not known', () => {
    expect(owns({ ...INSESSION, 'proc/self/cgroup': '0::/../other\n' })).to.equal(false);
  });

  it('of version 1 is known in the root only', () => {
    const old = (path: string) => ({ ...INSESSION, 'proc/self/cgroup': `4:memory:/x\n1:cpu,cpuacct:${path}\n0::/\n` });
    expect(owns(old('/'))).to.equal(true);
    expect(owns(old('/docker/1'))).to.equal(false);
  });

  it('is not to be left without the right to come back', () => {
    expect(owns({ ...INSESSION, 'proc/self/status': 'CapEff:\t00000000a80425fb\n' })).to.equal(false);
  });

  it('is not known where nothing tells', () => {
    expect(owns({})).to.equal(false);
  });
});
