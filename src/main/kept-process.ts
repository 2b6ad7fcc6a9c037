/**
 * The processes of `union-csi mount -o keep` and what they tell each other: a keeper, and a server, or a refuser in place of one.
 * All have every descriptor: the channel between them, the state memory, and the mount's. Each can be killed: the channel ends, and
 * the other starts it again, from the program as it is installed then. So a keeper and a server may be of different versions.
 *
 *   keeper → server  serve         the server before is dead to its last thread: take over
 *                    make way      another server is ready: finish what was begun, and end
 *                    { refused }   there will be no other server, because …
 *   server → keeper  ready         it could take over
 *                    { unfit }     it could not, because …
 *                    serving       the mount answers
 *                    refusing      the mount answers EIO
 *                    upgrade       start another server, and have this one make way
 *                    ended         it was unmounted
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { MountBranch } from './mount-checks.ts';
import type { MountRequest } from './mount-options.ts';

/** First arguments of `union-csi mount`, each followed by a KeptMount as JSON. */
export const ROLE = { keeper: '--keeper', server: '--kept-server', refuser: '--refuser' } as const;
export type Role = (typeof ROLE)[keyof typeof ROLE];

export type ToServer = 'serve' | 'make way' | { readonly refused: string };
export type ToKeeper = 'ready' | 'serving' | 'refusing' | 'upgrade' | 'ended' | { readonly unfit: string };

export interface KeptMount extends Pick<MountRequest, 'policies' | 'moveOnNoSpace' | 'cache' | 'readOnly'> {
  readonly branches: readonly MountBranch[];
  readonly mountpoint: string;
  /** `major:minor` of the mount. */
  readonly device: string;
  /** Deaths in a minute after which the mount answers EIO. */
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

export function startKept(role: Role, mount: KeptMount, { state, devices }: Descriptors): ChildProcess {
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1]!, 'mount', role, JSON.stringify(mount)], {
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', state, ...devices],
  });
  return child.on('error', () => {}); // seen as the end of its channel
}

/** A peer may have died: then the end of its channel says so, and no message matters. */
export function send(peer: ChildProcess | NodeJS.Process, message: ToServer | ToKeeper): void {
  // Without a callback an error would end this process.
  if (peer.connected) peer.send?.(message, undefined, undefined, () => {});
}
