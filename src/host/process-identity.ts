/**
 * A process told apart from a later one with the same number: pid and start time (field 22 of proc_pid_stat(5), in clock
 * ticks since boot). Whoever records a process to end it later records both.
 */
import { readFileSync } from 'node:fs';

export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: string;
}

/** The identity of a running process; undefined when there is none, or only a zombie. */
export function processIdentity(pid: number): ProcessIdentity | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  const startTime = parseStartTime(stat);
  return startTime === undefined ? undefined : { pid, startTime };
}

/** Field 22 of a stat line. The name, field 2, may hold spaces and parentheses: fields are counted from the last `)`. */
export function parseStartTime(stat: string): string | undefined {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const state = fields[0];
  return state === 'Z' || state === 'X' ? undefined : fields[19];
}

export function isAlive(identity: ProcessIdentity): boolean {
  return processIdentity(identity.pid)?.startTime === identity.startTime;
}
