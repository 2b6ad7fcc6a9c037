/**
 * The embedded cluster as a person runs it: `union-csi cluster --dir DIR`, a process of its own with the production commands
 * below it, reached through its API server only. It can be killed and started again in the same directory.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import {
  BUILT_IN_KINDS,
  csiNodes,
  events,
  type Kind,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  unionAttachments,
  unionVolumes,
  volumeAttachments,
} from '../../src/embedded/api-server/kinds.ts';
import { recordedChildren } from '../../src/embedded/children.ts';
import { removeCluster } from '../../src/embedded/remove-cluster.ts';
import { type MountInfo, readMountInfo } from '../../src/host/mountinfo.ts';
import { DRIVER_NAME } from '../../src/protocol/resources.ts';
import { ApiClient } from './api-client.ts';
import { eventually } from './eventually.ts';
import { expectNoLeaks, findLeaks } from './leaks.ts';

const launcher = fileURLToPath(new URL('../../bin/union-csi', import.meta.url));
const LIMIT_MS = 60_000;
/** The controller's, the node's, and that of the registration. */
const SOCKETS = 3;
/** Logs, and the folder of each driver's staging directories. */
const IGNORED = /\/kubelet\/(logs|plugins\/kubernetes\.io(\/csi(\/[^/]+)?)?$)/;

/** What can be killed. */
export const VICTIMS = ['controller', 'node', 'cluster'] as const;
export type Victim = (typeof VICTIMS)[number];

export class ClusterProcess {
  readonly dir = realpathSync(mkdtempSync(join(tmpdir(), 'uc-')));
  readonly kubeconfig = join(this.dir, 'kubeconfig');
  readonly kubeletDir = join(this.dir, 'nodes', 'node-1', 'kubelet');
  readonly api = new ApiClient(() => /server: "([^"]+)"/.exec(readFileSync(this.kubeconfig, 'utf8'))![1]!);
  #child: ChildProcess | undefined;
  #printed = '';

  /** What it and its children wrote. */
  get output(): string {
    const logs = join(this.dir, 'logs');
    return [this.#printed, ...readdirSync(logs).map((name) => readFileSync(join(logs, name), 'utf8'))].join('\n');
  }

  /** Starts it, anew if it was killed; resolves when the driver's controller listens and its node is registered. */
  async start(): Promise<void> {
    await this.#ended();
    const child = spawn(launcher, ['cluster', '--dir', this.dir], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        this.#printed += chunk;
      });
    }
    this.#child = child;
    for (const until = Date.now() + LIMIT_MS; ; await delay(10)) {
      const node = await this.api.get(csiNodes, { name: 'node-1' });
      const registered = node?.spec.drivers.some(({ name }) => name === DRIVER_NAME);
      if (registered && this.#listening().length === SOCKETS) return;
      if (Date.now() > until) throw new Error(`the driver did not come up in ${LIMIT_MS} ms:\n${this.output}`);
    }
  }

  /** The process that is to be killed. */
  async pidOf(victim: Victim): Promise<number> {
    if (victim === 'cluster') return this.#child!.pid!;
    const name = victim === 'node' ? 'node-node-1' : victim;
    const find = () => recordedChildren(this.dir).find((child) => child.name === name)?.pid;
    return await eventually(`${victim} to run`, find, LIMIT_MS);
  }

  /** Mounts below its directory. */
  mounts(): readonly MountInfo[] {
    return readMountInfo().filter(({ mountpoint }) => mountpoint.startsWith(`${this.dir}/`));
  }

  /** What of it is on the machine: mounts, loop devices, processes (of these volumes too), sockets, files but for logs. */
  remains(volumeId = this.dir): readonly string[] {
    const { mounts, loops, processes } = findLeaks(this.dir);
    const serving = findLeaks(volumeId).processes.filter((line) => !processes.includes(line));
    const files = ['nodes', 'lower', 'run'].flatMap((name) =>
      readdirSync(join(this.dir, name), { recursive: true, encoding: 'utf8' }).map((path) => `${name}/${path}`),
    );
    return [
      ...[...mounts, ...loops],
      // Without pid and inode, which differ after a restart.
      ...[...processes, ...serving].map((line) => line.replace(/^\d+ /, '')),
      ...this.#listening(),
      ...files.filter((path) => !IGNORED.test(path)),
    ].sort();
  }

  /** What `remains`, and the names of all API objects but events and leases. */
  async state(volumeId?: string): Promise<readonly string[]> {
    const kinds = [...BUILT_IN_KINDS, unionVolumes, unionAttachments];
    const lasting = kinds.filter(({ kind }) => kind !== 'Event' && kind !== 'Lease');
    const lists = lasting.map(async (kind) => {
      const found = await this.api.list(kind);
      return found.map(({ metadata }) => `${kind.kind} ${metadata.namespace ?? ''}/${metadata.name}`);
    });
    return [...this.remains(volumeId), ...(await Promise.all(lists)).flat().sort()];
  }

  /** Waits until the state is that one again, and insists. */
  async expectState(wanted: readonly string[], volumeId?: string): Promise<void> {
    let state: readonly string[] = [];
    await eventually('the state', async () => {
      state = await this.state(volumeId);
      return state.join() === wanted.join();
    }).catch(() => {});
    const missing = wanted.filter((line) => !state.includes(line));
    const more = state.filter((line) => !wanted.includes(line));
    expect({ missing, more }).to.deep.equal({ missing: [], more: [] });
  }

  /** For the message of a test that failed: what there is, and what was said last. */
  async report(): Promise<string> {
    const kinds = [pods, persistentVolumeClaims, persistentVolumes, volumeAttachments, unionVolumes, unionAttachments];
    const lists = await Promise.all(kinds.map((kind: Kind) => this.api.list(kind)));
    const objects = lists.flat().map((object) => JSON.stringify(object));
    const said = (await this.api.list(events)).map(
      ({ lastTimestamp, involvedObject, type, reason, message }) =>
        `${lastTimestamp} ${involvedObject.kind} ${involvedObject.name}: ${type} ${reason}: ${message}`,
    );
    const lines = this.output.split('\n').filter((line) => !line.includes('"code":"OK"'));
    return [...this.remains(), ...objects, ...said.sort().slice(-30), ...lines.slice(-30)].join('\n');
  }

  /** Ends it as Ctrl-C does, and expects it to leave nothing. */
  async stop(): Promise<void> {
    this.#child?.kill('SIGTERM');
    await this.#ended();
    expect(this.#child?.exitCode, this.#printed).to.equal(0);
    await expectNoLeaks(this.dir);
    rmSync(this.dir, { recursive: true });
  }

  /** Removes whatever is left of it, after a test that failed. */
  async discard(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.#ended();
    await removeCluster(this.dir);
  }

  /** Sockets of its directory that somebody listens on: ACC in the flags of /proc/net/unix, without the inode. */
  #listening(): readonly string[] {
    const lines = readFileSync('/proc/net/unix', 'utf8').split('\n');
    return lines.flatMap((line) => {
      const [, , , flags, , , , path] = line.split(/\s+/);
      return flags === '00010000' && path?.startsWith(`${this.dir}/`) ? [`socket ${path}`] : [];
    });
  }

  async #ended(): Promise<void> {
    const child = this.#child;
    if (child && child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
}
