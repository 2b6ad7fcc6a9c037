/**
 * For a mount whose servers die too often: every request is answered EIO, so that nobody waits, and the connection lives. What is open
 * stays open, and works again when a better server takes over. Of the state memory only those requests are looked at that dead
 * servers had read, and nothing is changed: what the servers die of may be in there.
 *
 * The next server finishes those requests all the same, and is told that their answers are not wanted any more. What is closed or
 * forgotten meanwhile stays counted until the mount ends.
 */
import { Worker } from 'node:worker_threads';
import { unreadableState } from '../inode/versions.ts';
import type { RefuserData } from './refuser.ts';

export interface Refused {
  readonly state: number;
  readonly devices: readonly number[];
}

/** Resolves when the connection has ended. Until then the process can only be killed. */
export async function refuseRequests({ state, devices }: Refused): Promise<void> {
  const file = new URL(`./refuser${import.meta.url.slice(import.meta.url.lastIndexOf('.'))}`, import.meta.url);
  const workerData: RefuserData = { devices, stateFd: unreadableState(state) === undefined ? state : undefined };
  const worker = new Worker(file, { workerData });
  await new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
}
