/** Child processes and waits of tests: no sleeps, every wait with a deadline. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const DEADLINE_MS = 60_000;

/** Waits for a condition on something that tells nobody when it is met. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not so in ${DEADLINE_MS} ms: ${condition}`);
    await delay(2);
  }
}

export function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** Ends a child with SIGKILL, if it has not ended, and waits for its end. */
export async function killed(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

/** The fields of /proc/ID/stat behind the name, which may hold spaces; none of a process or thread (`PID/task/TID`) that has ended. */
export function statFields(id: string): readonly string[] {
  try {
    const stat = readFileSync(`/proc/${id}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return [];
  }
}
