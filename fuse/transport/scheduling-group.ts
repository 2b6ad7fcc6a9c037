/**
 * Whether the kernel's scheduler sees this server by itself. CPU time is shared among groups first, and within a group among its
 * threads: a group is a cgroup with a cpu controller or, where that is the root, a session (sched(7), "The autogroup feature").
 * Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst.
 */
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

/** Bit of CAP_SYS_NICE in a set of capabilities. */
const CAP_SYS_NICE = 1n << 23n;
/** Of "STATE PPID PGRP SESSION …", behind the name in parentheses. */
const SESSION_FIELD = 3;

/** Whether nobody else's threads are in our scheduling group, and we may leave SCHED_IDLE again. `root`: of what is read, for tests. */
export function ownsSchedulingGroup(root = '/'): boolean {
  try {
    return mayLeaveIdle(root) && isAlone(root);
  } catch {
    return false; // a kernel without, or a /proc that does not tell
  }
}

function mayLeaveIdle(root: string): boolean {
  const [, effective] = /^CapEff:\s+([0-9a-f]+)$/m.exec(readFileSync(join(root, 'proc/self/status'), 'utf8'))!;
  return (BigInt(`0x${effective}`) & CAP_SYS_NICE) !== 0n;
}

function isAlone(root: string): boolean {
  const lines = readFileSync(join(root, 'proc/self/cgroup'), 'utf8').trim().split('\n');
  const paths = new Map(lines.map((line) => line.split(':').slice(1) as [string, string]));
  for (const [controllers, path] of paths)
    if (controllers.split(',').includes('cpu')) return path === '/' && isAloneInSession(root);
  const unified = join(root, 'sys/fs/cgroup');
  const own = resolve(unified, `.${paths.get('') ?? '/'}`);
  if (!own.startsWith(unified)) return false; // of another cgroup namespace
  if (hasController(own))
    return readFileSync(join(own, 'cgroup.procs'), 'utf8')
      .trim()
      .split('\n')
      .every((pid) => isOurs(root, pid));
  for (let above = own; above.length > unified.length; above = dirname(above)) if (hasController(above)) return false;
  return isAloneInSession(root);
}

/** The root cgroup has no weight. */
const hasController = (cgroup: string) => existsSync(join(cgroup, 'cpu.weight'));

/** A keeper, and the server before or after this one, run the same program. */
function isOurs(root: string, pid: string): boolean {
  return readlinkSync(join(root, 'proc', pid, 'exe')) === readlinkSync(join(root, 'proc/self/exe'));
}

/** A session that we lead has nobody but us and whom we started. */
function isAloneInSession(root: string): boolean {
  if (readFileSync(join(root, 'proc/sys/kernel/sched_autogroup_enabled'), 'utf8').trim() !== '1') return false;
  const stat = readFileSync(join(root, 'proc/self/stat'), 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[SESSION_FIELD] === stat.slice(0, stat.indexOf(' '));
}
