/**
 * The two processes of `union-csi mount -o keep` and what they tell each other. Both have every descriptor: the channel between
 * them, the state memory, and the mount's. Either can be killed: the channel ends, and the other starts it again.
 *
 *   keeper → server  serve         the server before is dead to its last thread: take over
 *   server → keeper  serving       the mount answers
 *                    ended         it was unmounted
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { MountBranch } from './mount-checks.ts';
import type { MountRequest } from './mount-options.ts';

/** First arguments of `union-csi mount`, each followed by a KeptMount as JSON. */
export const KEEPER = '--keeper';
export const KEPT_SERVER = '--kept-server';

export type Message = 'serve' | 'serving' | 'ended';

export interface KeptMount extends Pick<MountRequest, 'policies' | 'moveOnNoSpace' | 'cache' | 'readOnly'> {
  readonly branches: readonly MountBranch[];
  readonly mountpoint: string;
  /** `major:minor` of the mount. */
  readonly device: string;
  /** Deaths in a minute after which the mount is given up. */
  readonly keep: number;
  readonly readers: number;
}

export interface Descriptors {
  readonly state: number;
  readonly devices: readonly number[];
}

/** Numbers in a process that was started with `startKept`: those before are standard ones and the channel. */
export function ownDescriptors({ readers }: KeptMount): Descriptors {
  return { state: 4, devices: Array.from({ length: readers }, (_, index) => 5 + index) };
}

export function startKept(
  role: typeof KEEPER | typeof KEPT_SERVER,
  mount: KeptMount,
  { state, devices }: Descriptors,
): ChildProcess {
  return spawn(process.execPath, [...process.execArgv, process.argv[1]!, 'mount', role, JSON.stringify(mount)], {
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', state, ...devices],
  });
}
