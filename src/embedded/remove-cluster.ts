/**
 * Taking away what a cluster left on this machine, whoever killed it and when: its processes (by pid and start time, as
 * recorded), its mounts, its loop devices, its directory.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { messageOf, UnionError } from '../base/errors.ts';
import { command } from '../host/command.ts';
import { loopDevices } from '../host/loop-device.ts';
import { abortConnection, BLOCK_FS_TYPE, unmountOnce } from '../host/mounter.ts';
import { isWithin, readMountInfo } from '../host/mountinfo.ts';
import { isAlive, type ProcessIdentity } from '../host/process-identity.ts';
import { endProcesses, recordedChildren } from './children.ts';
import { listDirectories, readRun, runDirectories } from './kubelet/container.ts';

const PROCESS_LIMIT_MS = 5_000;
const LOOP_LIMIT_MS = 5_000;

/** The process that runs the cluster of this directory, if one does. */
export function runningCluster(clusterDir: string): ProcessIdentity | undefined {
  try {
    const identity: ProcessIdentity = JSON.parse(readFileSync(join(clusterDir, 'cluster.json'), 'utf8'));
    return isAlive(identity) ? identity : undefined;
  } catch {
    return undefined;
  }
}

/** Ends, unmounts and removes everything of a cluster that no longer runs. Throws if one does, or if something stays. */
export async function removeCluster(clusterDir: string): Promise<void> {
  const running = runningCluster(clusterDir);
  if (running && running.pid !== process.pid) {
    throw new UnionError(
      'FAILED_PRECONDITION',
      `a cluster runs in ${clusterDir}, as process ${running.pid}; end it first`,
    );
  }
  if (!existsSync(clusterDir)) return;
  const problems = await releaseMachine(clusterDir);
  if (problems.length > 0) {
    throw new UnionError('FAILED_PRECONDITION', `${clusterDir} cannot be removed: ${problems.join('; ')}`);
  }
  rmSync(clusterDir, { recursive: true, force: true });
}

/** Ends recorded processes, unmounts and detaches what lies under the directory. Returns what could not be done. */
export async function releaseMachine(clusterDir: string): Promise<readonly string[]> {
  const problems: string[] = [];
  const processes = [...recordedChildren(clusterDir), ...containerProcesses(clusterDir)];
  for (const { pid } of await endProcesses(processes, { clock: systemClock, limitMs: PROCESS_LIMIT_MS })) {
    problems.push(`process ${pid} does not end`);
  }
  const mounted = () => readMountInfo().filter(({ mountpoint }) => isWithin(mountpoint, clusterDir));
  // Block volumes that are still attached wait for replicas that have been ended above; what lies on them must not wait too.
  for (const { mountpoint, fsType } of mounted()) if (fsType === BLOCK_FS_TYPE) await abortConnection(mountpoint);
  // What is still used goes by itself from now on. A device is told by its file's path, which a file has as long as it is mounted.
  await letGoOfLoops(clusterDir);
  // Later mounts lie on or in earlier ones. A union whose server is gone has nothing left to write: it may be cut off.
  for (const { mountpoint, fsType } of [...mounted()].reverse()) {
    try {
      await unmountOnce(mountpoint, { lazy: fsType.startsWith('fuse') });
    } catch (error) {
      problems.push(`cannot unmount ${mountpoint}: ${messageOf(error)}`);
    }
  }
  problems.push(...(await detachLoops(clusterDir)));
  return problems;
}

/** First processes of the containers of all nodes. */
function containerProcesses(clusterDir: string): readonly ProcessIdentity[] {
  const nodes = join(clusterDir, 'nodes');
  return listDirectories(nodes).flatMap((node) => {
    const pods = join(nodes, node, 'kubelet', 'pods');
    return listDirectories(pods).flatMap((uid) => {
      const containers = join(pods, uid, 'containers');
      const runs = listDirectories(containers).flatMap((name) => runDirectories(join(containers, name)));
      return runs.map(readRun).flatMap((run) => (run.kind !== 'exited' && run.init ? [run.init] : []));
    });
  });
}

/** Waits for loop devices, which go with the last who uses them. */
async function detachLoops(clusterDir: string): Promise<readonly string[]> {
  const signal = AbortSignal.timeout(LOOP_LIMIT_MS);
  try {
    while ((await letGoOfLoops(clusterDir)) > 0) await systemClock.sleep(20, signal);
    return [];
  } catch {
    return (await devicesWithin(clusterDir, AbortSignal.timeout(LOOP_LIMIT_MS))).map(
      (device) => `${device} stays in use`,
    );
  }
}

/** Resolves to how many there were. */
async function letGoOfLoops(clusterDir: string): Promise<number> {
  const signal = AbortSignal.timeout(LOOP_LIMIT_MS);
  const devices = await devicesWithin(clusterDir, signal);
  for (const device of devices) await command('losetup', ['--detach', device], signal).catch(() => {});
  return devices.length;
}

/** Devices backed by files under the directory, removed files included. */
async function devicesWithin(clusterDir: string, signal: AbortSignal): Promise<readonly string[]> {
  const loops = await loopDevices(signal);
  return loops.filter(({ file }) => isWithin(file, clusterDir)).map(({ device }) => device);
}
