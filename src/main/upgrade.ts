/** `union-csi upgrade`: another server, of the program as it is installed now, goes on with a mount that has a keeper. */
import { setTimeout as delay } from 'node:timers/promises';
import { askMountStatus, findUnion, tellMount } from '../host/mount-control.ts';
import type { MountInfo } from '../host/mountinfo.ts';
import { parseFlags, UsageError } from './flags.ts';

export const upgradeHelp = `usage: union-csi upgrade MOUNTPOINT

Has another server go on with a union that was mounted with -o keep: of the program as it is installed now, so
call it after an upgrade. Who uses the mount notices a pause of some tenths of a second and nothing else. A
server that cannot read what the old one leaves is not let in: the message says so, and the old one goes on.

Also when the servers of the union died too often and all is answered EIO: what programs had open works again,
if the new server lives.
`;

const LIMIT_MS = 20_000;
const STEP_MS = 20;

export async function run(argv: string[]): Promise<number> {
  const { positionals } = parseFlags(upgradeHelp, { args: argv, allowPositionals: true });
  const [mountpoint, extra] = positionals;
  if (mountpoint === undefined) throw new UsageError('mountpoint is missing: union-csi upgrade MOUNTPOINT');
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}; see --help`);
  const signal = AbortSignal.timeout(LIMIT_MS);
  const mount = findUnion(mountpoint);
  const before = await serverOf(mount, signal);
  await tellMount(mount, { op: 'upgrade' }, signal);
  for (;;) {
    const now = await serverOf(mount, signal);
    if (now !== undefined && now !== before) {
      process.stdout.write(`${mount.mountpoint} is served by process ${now} now\n`);
      return 0;
    }
    if (signal.aborted) throw new Error(`no other server answers for ${mount.mountpoint}; see union-csi status`);
    await delay(STEP_MS);
  }
}

/** Its process id; undefined while none answers. */
async function serverOf(mount: MountInfo, signal: AbortSignal): Promise<number | undefined> {
  try {
    return (await askMountStatus(mount, signal)).pid;
  } catch {
    return undefined;
  }
}
