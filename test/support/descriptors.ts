/** What another process has open. */
import { readdirSync, readlinkSync } from 'node:fs';

export interface OpenDescriptor {
  readonly number: number;
  /** What its link in /proc says: a path, or what the kernel calls it. */
  readonly target: string;
  /** That link, through which it can be looked at. */
  readonly link: string;
}

/** Nothing of a process that has ended; what it closes meanwhile is left out. */
export function descriptorsOf(pid: number): readonly OpenDescriptor[] {
  const directory = `/proc/${pid}/fd`;
  return unlessGone(() => readdirSync(directory), []).flatMap((fd) => {
    const link = `${directory}/${fd}`;
    return unlessGone(() => [{ number: Number(fd), target: readlinkSync(link), link }], []);
  });
}

function unlessGone<T>(look: () => T, otherwise: T): T {
  try {
    return look();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return otherwise;
    throw error;
  }
}
