/**
 * What a test may leave behind on the machine: mounts, loop devices, processes. Taken before and after, and compared.
 * Only what names `marker` counts, a directory of the test's own: other tests may run beside it.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { expect } from 'chai';

export interface Leaks {
  readonly mounts: readonly string[];
  readonly loops: readonly string[];
  readonly processes: readonly string[];
}

/** What there is now that names `marker`. */
export function findLeaks(marker: string): Leaks {
  const loops = execFileSync('losetup', ['--list', '--noheadings', '--raw', '--output', 'NAME,BACK-FILE'], {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
  return {
    mounts: readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .filter((line) => line.includes(marker)),
    loops: loops.split('\n').filter((line) => line.includes(marker)),
    processes: processesWith(marker),
  };
}

/** Waits for things to go that go by themselves, such as loop devices after their last unmount; then insists. */
export async function expectNoLeaks(marker: string, limitMs = 30_000): Promise<void> {
  const until = Date.now() + limitMs;
  let leaks = findLeaks(marker);
  while (count(leaks) > 0 && Date.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    leaks = findLeaks(marker);
  }
  expect(leaks, `left behind by ${marker}`).to.deep.equal({ mounts: [], loops: [], processes: [] });
}

function count({ mounts, loops, processes }: Leaks): number {
  return mounts.length + loops.length + processes.length;
}

/** Pids and command lines of running processes, this one excepted. */
export function processesWith(marker: string): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return [];
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      return line.includes(marker) ? [`${pid} ${line}`] : [];
    } catch {
      return []; // it ended meanwhile
    }
  });
}
