/**
 * In place of a server that died too often: a child of the node plugin that answers EIO to all (fuse/transport/refusal.ts), until it
 * is killed or the node plugin has ended.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { refuseRequests } from '../../fuse/index.ts';
import type { Refuser } from '../csi/held-union.ts';

/** First argument of `union-csi server`; the number of devices follows. */
export const REFUSE = '--refuse';
/** Where the descriptors are in the child: the state memory's, and behind it those of the devices. */
const FIRST = 3;

/** Each takes some 60 MB of the node plugin's memory; mounts beyond these end instead. */
const MAX_REFUSERS = 3;

export function limitedRefusers(): (descriptors: readonly number[]) => Refuser | undefined {
  let running = 0;
  return (descriptors) => {
    if (running >= MAX_REFUSERS) return undefined;
    running++;
    const refuser = startRefuser(descriptors);
    void refuser.ended.then(() => {
      running--;
    });
    return refuser;
  };
}

/** `program`: what runs `union-csi`, by default as this process was started. */
export function startRefuser(
  descriptors: readonly number[],
  [command, ...args]: readonly string[] = [process.execPath, ...process.execArgv, process.argv[1]!],
): Refuser {
  const child: ChildProcess = spawn(command!, [...args, 'server', REFUSE, String(descriptors.length - 1)], {
    stdio: ['pipe', 'inherit', 'inherit', ...descriptors],
  });
  const ended = new Promise<void>((resolve) => {
    child.on('exit', () => resolve()).on('error', () => resolve());
  });
  return {
    ended,
    end: () => {
      child.kill('SIGKILL');
      return ended;
    },
  };
}

export async function refuse(devices: number): Promise<number> {
  // Its reader waits in read(2), and is not to be told otherwise.
  const die = () => process.kill(process.pid, 'SIGKILL');
  process.stdin.on('end', die).on('error', die).resume();
  await refuseRequests({ state: FIRST, devices: Array.from({ length: devices }, (_, index) => FIRST + 1 + index) });
  return 0;
}
