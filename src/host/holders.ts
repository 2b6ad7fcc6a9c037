/**
 * Who keeps a mount busy: processes with a working directory, root, executable, open file or mapping below a mountpoint.
 * Only links under /proc are read, never the mount itself, so it works on dead mounts. Processes in other mount namespaces are
 * told by the path as they see it, so some may be missed: this is for messages, not for decisions.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { isWithin } from './mountinfo.ts';

export interface Holder {
  readonly pid: number;
  readonly command: string;
}

/** At most `limit` holders of files at or below `mountpoint`. */
export function findHolders(mountpoint: string, limit = 5): readonly Holder[] {
  const holders: Holder[] = [];
  for (const name of readdirSync('/proc')) {
    if (holders.length >= limit) break;
    if (/^\d+$/.test(name) && Number(name) !== process.pid && holds(name, mountpoint)) {
      holders.push({ pid: Number(name), command: commandOf(name) });
    }
  }
  return holders;
}

/** For the end of a message: `bash (412), less (977)`. */
export function formatHolders(holders: readonly Holder[]): string {
  if (holders.length === 0) return 'something that is not visible in /proc';
  return holders.map(({ pid, command }) => `${command} (${pid})`).join(', ');
}

function holds(pid: string, mountpoint: string): boolean {
  const links = [
    'cwd',
    'root',
    'exe',
    ...entries(`/proc/${pid}/fd`, 'fd/'),
    ...entries(`/proc/${pid}/map_files`, 'map_files/'),
  ];
  return links.some((link) => {
    try {
      const target = readlinkSync(`/proc/${pid}/${link}`);
      return target.startsWith('/') && isWithin(target, mountpoint);
    } catch {
      return false; // the process or the descriptor went away
    }
  });
}

function entries(directory: string, prefix: string): readonly string[] {
  try {
    return readdirSync(directory).map((name) => prefix + name);
  } catch {
    return [];
  }
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd();
  } catch {
    return 'a process that just ended';
  }
}
