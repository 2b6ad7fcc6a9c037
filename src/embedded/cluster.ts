/**
 * The embedded cluster: API server, sidecar loop, kubelets and lower provisioners in this process, and the production commands
 * of Union CSI beside it. Its directory is all its state:
 *
 *   cluster.json      who runs it (pid and start time): the lock
 *   processes.json    the child processes
 *   kubeconfig        for people, and for the children
 *   api/ lower/       objects; contents of the lower volumes
 *   nodes/NODE/kubelet/  pods, mounts, sockets of each node
 *   run/ logs/        the controller's socket; what the children wrote
 *
 * Killed at any moment, it goes on in the same directory where it was; pods' processes did not notice.
 */
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { systemClock } from '../base/clock.ts';
import { messageOf, UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { processIdentity } from '../host/process-identity.ts';
import { DRIVER_NAME, DRIVER_NAMESPACE } from '../protocol/resources.ts';
import { csiDrivers, customResourceDefinitions, namespaces } from './api-server/kinds.ts';
import { type ApiServer, startApiServer } from './api-server/server.ts';
import { Store } from './api-server/store.ts';
import { checkout } from './checkout.ts';
import { Children, endProcesses, recordedChildren } from './children.ts';
import { connectController } from './csi-client.ts';
import type { CsiController } from './csi-driver.ts';
import { drain } from './drain.ts';
import { runKubelet } from './kubelet/kubelet.ts';
import { registryDirectory } from './kubelet/layout.ts';
import { createLogReader, kubeletDirectory } from './kubelet/log-reader.ts';
import { LEASE_NAMESPACE } from './kubelet/node-object.ts';
import { directoryBackend } from './provisioners/directory.ts';
import { loopBackend } from './provisioners/loop.ts';
import { createLowerDriver, type LowerDriver } from './provisioners/lower-driver.ts';
import { releaseMachine, runningCluster } from './remove-cluster.ts';
import { runAttacher } from './sidecars/attacher.ts';
import { runBinder } from './sidecars/binder.ts';
import { createEventRecorder } from './sidecars/events.ts';
import { runProvisioner } from './sidecars/provisioner.ts';
import { runResizer } from './sidecars/resizer.ts';
import { runScheduler } from './sidecars/scheduler.ts';
import type { Sidecar } from './sidecars/sidecar.ts';
import { type DriverPlaces, type ExternalDriver, unionDriver } from './union-driver.ts';

export interface ClusterOptions {
  readonly dir: string;
  /** How many nodes to simulate. */
  readonly nodes: number;
  /** Of the API server; 0 takes a free one. */
  readonly port: number;
  readonly log: Logger;
  /** Drivers outside of this process; Union CSI unless a test has others. */
  readonly drivers?: (places: DriverPlaces) => readonly ExternalDriver[];
}

export interface Cluster {
  readonly dir: string;
  readonly url: string;
  /** Path of the kubeconfig file. */
  readonly kubeconfig: string;
  readonly store: Store;
  /**
   * Ends pods, unmounts, detaches, ends the children; within half a minute. With `keep` pods go on without a cluster, until
   * one is started in the directory again. Returns what could not be done.
   */
  close(options?: { readonly keep?: boolean }): Promise<readonly string[]>;
}

/** sun_path, without its closing zero. */
const SOCKET_PATH_LIMIT = 107;
const CHILD_LIMIT_MS = 5_000;

/** Resolves when the API server answers; drivers and nodes come up after that. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  checkMachine();
  const isNew = mkdirSync(options.dir, { recursive: true }) !== undefined;
  const dir = realpathSync(options.dir);
  try {
    return await startIn(dir, options);
  } catch (error) {
    if (isNew) rmSync(dir, { recursive: true, force: true });
    throw error;
  }
}

async function startIn(dir: string, options: ClusterOptions): Promise<Cluster> {
  const kubeletDirs = new Map<string, string>();
  for (let index = 1; index <= options.nodes; index++) {
    kubeletDirs.set(`node-${index}`, kubeletDirectory(dir, `node-${index}`));
  }
  checkSocketPaths(dir, kubeletDirs);
  const unlock = lock(dir);
  let store: Store | undefined;
  try {
    await endProcesses(recordedChildren(dir), { clock: systemClock, limitMs: CHILD_LIMIT_MS });
    mkdirSync(join(dir, 'run'), { recursive: true });
    const objects = new Store({ directory: join(dir, 'api'), log: options.log });
    store = objects;
    const readLog = createLogReader((node) => kubeletDirectory(dir, node));
    const server = await startApiServer({ store: objects, port: options.port, readLog, log: options.log });
    const kubeconfig = join(dir, 'kubeconfig');
    writeFileSync(kubeconfig, kubeconfigFor(server.url), { mode: 0o600 });
    return run({ ...options, dir }, { store: objects, server, kubeconfig, kubeletDirs, unlock });
  } catch (error) {
    store?.close();
    unlock();
    throw error;
  }
}

interface Parts {
  readonly store: Store;
  readonly server: ApiServer;
  readonly kubeconfig: string;
  readonly kubeletDirs: ReadonlyMap<string, string>;
  readonly unlock: () => void;
}

function run(options: ClusterOptions, { store, server, kubeconfig, kubeletDirs, unlock }: Parts): Cluster {
  const { dir, log } = options;
  const clock = systemClock;
  const lowers = [loopBackend, directoryBackend].map((backend) =>
    createLowerDriver(join(dir, 'lower', backend.name.split('.')[0]!), backend),
  );
  const external = (options.drivers ?? ((places) => [unionDriver(places)]))({
    clusterDir: dir,
    kubeconfig,
    kubeletDirs,
  });
  createObjects(store, lowers, external);
  const clients = external.map((driver) => ({ name: driver.name, client: connectController(driver.controllerSocket) }));
  const drivers = new Map<string, CsiController>([
    ...lowers.map(({ name, controller }) => [name, controller] as const),
    ...clients.map(({ name, client }) => [name, client] as const),
  ]);
  const working = new AbortController();
  const parts: Promise<void>[] = [];
  const start = (name: string, part: () => Promise<void>) => {
    const running = part().catch((error) => {
      if (!working.signal.aborted) log.error('cluster.part-failed', { part: name, message: messageOf(error) });
    });
    parts.push(running);
  };
  const sidecar = (component: string, of: Sidecar, signal: AbortSignal) =>
    start(component, () =>
      of({ store, drivers, events: createEventRecorder(store, component, clock), clock, log }, signal),
    );
  sidecar('default-scheduler', runScheduler, working.signal);
  sidecar('persistentvolume-controller', runBinder, working.signal);
  sidecar('external-provisioner', runProvisioner, working.signal);
  sidecar('attachdetach-controller', runAttacher, working.signal);
  sidecar('external-resizer', runResizer, working.signal);
  for (const [nodeName, kubeletDir] of kubeletDirs) {
    const kubelet = { store, nodeName, kubeletDir, lowerDrivers: lowers, clock, log };
    start(nodeName, () => runKubelet(kubelet, working.signal));
  }
  const children = new Children({ clusterDir: dir, clock, log });
  for (const child of external.flatMap(({ commands }) => commands)) {
    start(child.name, () => children.run(child, working.signal));
  }
  let closing: Promise<readonly string[]> | undefined;
  const close = async (keep: boolean): Promise<readonly string[]> => {
    const problems = keep ? [] : [...(await drain(store, clock))];
    working.abort();
    await Promise.all(parts);
    for (const { client } of clients) client.close();
    if (!keep) problems.push(...(await releaseMachine(dir)));
    await server.close();
    store.close();
    unlock();
    return problems;
  };
  return {
    dir,
    url: server.url,
    kubeconfig,
    store,
    close: ({ keep = false } = {}) => {
      closing ??= close(keep);
      return closing;
    },
  };
}

function checkMachine(): void {
  if (process.getuid?.() !== 0) {
    throw new UnionError(
      'PERMISSION_DENIED',
      'the embedded cluster mounts filesystems, which needs root; run it with sudo',
    );
  }
  if (!existsSync('/dev/fuse')) {
    throw new UnionError(
      'FAILED_PRECONDITION',
      '/dev/fuse is missing: this kernel has no FUSE, or the container was not given it',
    );
  }
}

function checkSocketPaths(dir: string, kubeletDirs: ReadonlyMap<string, string>): void {
  // Of all sockets these have the longest paths (csi/registration.ts).
  const sockets = [...kubeletDirs.values()].map((kubeletDir) =>
    join(registryDirectory(kubeletDir), `${DRIVER_NAME}-reg.sock`),
  );
  const longest = Math.max(...sockets.map((path) => Buffer.byteLength(path)));
  if (longest <= SOCKET_PATH_LIMIT) return;
  const limit = SOCKET_PATH_LIMIT - (longest - Buffer.byteLength(dir));
  throw new UnionError(
    'INVALID_ARGUMENT',
    `the directory ${dir} is too long for the sockets in it; take one of at most ${limit} bytes`,
  );
}

/** Makes this process the one that runs the cluster in `dir`. Returns what ends that. */
function lock(dir: string): () => void {
  const file = join(dir, 'cluster.json');
  const mine = `${file}.${process.pid}`;
  writeFileSync(mine, JSON.stringify(processIdentity(process.pid)));
  try {
    for (;;) {
      try {
        linkSync(mine, file);
        return () => rmSync(file, { force: true });
      } catch {
        const running = runningCluster(dir);
        if (running) {
          const message = `a cluster runs in ${dir} already, as process ${running.pid}; end it, or choose another directory with --dir`;
          throw new UnionError('FAILED_PRECONDITION', message);
        }
        rmSync(file, { force: true });
      }
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

/** What a cluster has from the start. */
function createObjects(store: Store, lowers: readonly LowerDriver[], external: readonly ExternalDriver[]): void {
  for (const name of ['default', 'kube-system', LEASE_NAMESPACE, DRIVER_NAMESPACE]) {
    if (!store.get(namespaces, { name })) store.create(namespaces, { metadata: { name } });
  }
  const directories = [
    join(checkout, 'deploy', 'base', 'crds'),
    ...external.flatMap(({ definitions = [] }) => definitions),
  ];
  const files = directories.flatMap((directory) => readdirSync(directory).map((name) => join(directory, name)));
  for (const file of files.filter((name) => name.endsWith('.yaml'))) {
    const definition = parse(readFileSync(file, 'utf8'));
    const ref = { name: definition.metadata.name };
    // As kubectl apply would, so that a newer program brings its newer schemas to an older directory.
    if (store.get(customResourceDefinitions, ref)) {
      store.modify(customResourceDefinitions, ref, (fresh) => ({ ...fresh, spec: definition.spec }));
    } else {
      store.create(customResourceDefinitions, definition);
    }
  }
  const all = [...external, ...lowers.map(({ name }) => ({ name, attachRequired: false }))];
  for (const { name, attachRequired } of all) {
    if (store.get(csiDrivers, { name })) continue;
    store.create(csiDrivers, {
      metadata: { name },
      spec: { attachRequired, podInfoOnMount: false, fsGroupPolicy: 'File' },
    });
  }
}

function kubeconfigFor(url: string): string {
  const name = 'union-csi';
  return `apiVersion: v1
kind: Config
clusters: [{name: ${name}, cluster: {server: "${url}", insecure-skip-tls-verify: true}}]
users: [{name: ${name}, user: {}}]
contexts: [{name: ${name}, context: {cluster: ${name}, user: ${name}, namespace: default}}]
current-context: ${name}
`;
}
