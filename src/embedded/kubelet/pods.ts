/**
 * Runs the pods of one node. One reconciler per pod, keyed by uid: it looks at what should be (the store) and at what is (the
 * pod's directory), and takes the next steps; it never waits for a process. So a kubelet started anew goes on where the last
 * one was killed, and the pods' processes did not notice.
 *
 * A pod's directory exists from before its first volume until everything of it is gone; pod.json in it says whose it is.
 */
import { existsSync, type FSWatcher, mkdirSync, readFileSync, rmdirSync, rmSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { isWithin, readMountInfo } from '../../host/mountinfo.ts';
import type { WorkQueue } from '../../kubernetes/workqueue.ts';
import type { Pod } from '../../protocol/objects.ts';
import { pods } from '../api-server/kinds.ts';
import type { Store } from '../api-server/store.ts';
import type { EventRecorder } from '../sidecars/events.ts';
import { createQueue, isTerminated, NotYet, type ObjectName } from '../sidecars/sidecar.ts';
import {
  type ContainerRun,
  giveUpStarting,
  latestRun,
  listDirectories,
  signalContainer,
  startContainer,
} from './container.ts';
import { containerDirectory, logFile, podDirectory } from './layout.ts';
import { containerSpec } from './pod-command.ts';
import { nextStep, type PodFacts, podStatus, restartPolicyOf, terminatedStatus } from './pod-status.ts';
import type { VolumeManager } from './volumes.ts';

export interface PodsOptions {
  readonly store: Store;
  readonly nodeName: string;
  readonly kubeletDir: string;
  readonly volumes: VolumeManager;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly log: Logger;
  /** A pod's volumes have come into place. */
  readonly onMounted: (pod: Pod) => void;
}

/** A container that is told nothing when its waiting process was killed too is looked at this often. */
const LOOK_AGAIN_MS = 2_000;

type Outcome = undefined | { readonly requeueAfterMs: number };

export class Pods {
  readonly #options: PodsOptions;
  readonly #queue: WorkQueue;
  /** Where in the store each pod of this node is. */
  readonly #names = new Map<string, ObjectName>();
  /** Volumes that are in place, so that each sync need not ask the drivers again. */
  readonly #mounted = new Map<string, ReadonlyMap<string, string>>();
  /** Runs that this kubelet started or follows, by directory: told by the file system when they begin and end. */
  readonly #watched = new Map<string, FSWatcher>();
  /** Runs that were told to end. */
  readonly #stopping = new Set<string>();

  constructor(options: PodsOptions) {
    this.#options = options;
    this.#queue = createQueue(options, 'kubelet.pods', (uid, signal) => this.#sync(uid, signal));
  }

  /** Runs until the signal aborts; the pods' processes go on. */
  async run(signal: AbortSignal): Promise<void> {
    const { store, nodeName, kubeletDir } = this.#options;
    const add = (pod: Pod) => {
      this.#names.set(pod.metadata.uid!, { namespace: pod.metadata.namespace!, name: pod.metadata.name });
      this.#queue.add(pod.metadata.uid!);
    };
    const stop = store.watch(pods, { fieldSelector: `spec.nodeName=${nodeName}` }, ({ object }) => add(object));
    // Those that were deleted while nobody watched: directories without a pod.
    for (const uid of listDirectories(join(kubeletDir, 'pods'))) this.#queue.add(uid);
    try {
      await this.#queue.run(signal);
    } finally {
      stop();
      for (const watcher of this.#watched.values()) watcher.close();
    }
  }

  /** Something that pods may wait for has changed. */
  wake(): void {
    for (const uid of this.#names.keys()) this.#queue.add(uid);
  }

  async #sync(uid: string, signal: AbortSignal): Promise<Outcome> {
    const { store, nodeName } = this.#options;
    const name = this.#names.get(uid) ?? this.#recordedName(uid);
    const found = name && store.get(pods, name as { namespace: string; name: string });
    const pod = found?.metadata.uid === uid && found.spec?.nodeName === nodeName ? found : undefined;
    if (!pod) return await this.#remove(uid, undefined, signal);
    if (pod.metadata.deletionTimestamp !== undefined) return await this.#remove(uid, pod, signal);
    if (isTerminated(pod)) {
      await this.#options.volumes.unmount(uid, signal);
      this.#mounted.delete(uid);
      return undefined;
    }
    return await this.#runPod(uid, pod, signal);
  }

  async #runPod(uid: string, pod: Pod, signal: AbortSignal): Promise<Outcome> {
    const { kubeletDir, volumes, events } = this.#options;
    const directory = podDirectory(kubeletDir, uid);
    if (!existsSync(join(directory, 'pod.json'))) {
      mkdirSync(directory, { recursive: true, mode: 0o750 });
      const { namespace, name } = pod.metadata;
      writeFileSync(join(directory, 'pod.json'), JSON.stringify({ namespace, name }));
    }
    let paths = this.#mounted.get(uid);
    try {
      if (!paths) {
        paths = await volumes.mount(pod, signal);
        this.#mounted.set(uid, paths);
        this.#options.onMounted(pod);
      }
    } catch (error) {
      if (!signal.aborted) {
        if (!(error instanceof NotYet)) events.warning(pod, 'FailedMount', messageOf(error));
        this.#report(pod, podStatus(pod, this.#facts(pod)));
      }
      throw error;
    }
    let requeueAfterMs: number | undefined;
    let problem: PodFacts['problem'];
    for (const container of pod.spec?.containers ?? []) {
      const run = this.#latest(uid, container.name);
      const next = nextStep(run, restartPolicyOf(pod), this.#options.clock.now());
      if (next.kind === 'start-later') requeueAfterMs = Math.min(requeueAfterMs ?? next.inMs, next.inMs);
      if (run?.kind === 'running') requeueAfterMs = Math.min(requeueAfterMs ?? LOOK_AGAIN_MS, LOOK_AGAIN_MS);
      if (next.kind !== 'start') continue;
      try {
        this.#start(pod, container, { restart: next.restart, paths });
      } catch (error) {
        problem = { reason: 'CreateContainerError', message: messageOf(error) };
        events.warning(pod, 'Failed', problem.message);
      }
    }
    this.#report(pod, podStatus(pod, { ...this.#facts(pod), problem }));
    return requeueAfterMs === undefined ? undefined : { requeueAfterMs };
  }

  #start(
    pod: Pod,
    container: NonNullable<Pod['spec']>['containers'][number],
    { restart, paths }: { restart: number; paths: ReadonlyMap<string, string> },
  ): void {
    const { kubeletDir, events } = this.#options;
    const uid = pod.metadata.uid!;
    const run = { namespace: pod.metadata.namespace!, pod: pod.metadata.name, uid, container: container.name, restart };
    const spec = containerSpec(pod, container, { paths, logFile: logFile(kubeletDir, run) });
    const directory = containerDirectory(kubeletDir, uid, container.name);
    const started = startContainer(directory, restart, spec, () => this.#queue.add(uid));
    this.#follow(uid, started);
    events.normal(pod, 'Started', `Started container ${container.name}`);
  }

  /** The latest run of a container, as one that this kubelet is told about. */
  #latest(uid: string, container: string): ContainerRun | undefined {
    const run = latestRun(containerDirectory(this.#options.kubeletDir, uid, container));
    if (!run) return undefined;
    const known = this.#watched.has(run.directory);
    if (run.kind === 'exited') {
      this.#watched.get(run.directory)?.close();
      this.#watched.delete(run.directory);
      this.#stopping.delete(run.directory);
      return run;
    }
    if (known) return run;
    if (run.kind === 'starting') {
      // Of a kubelet that was killed: it never was, or is running by now.
      if (!giveUpStarting(run.directory))
        return latestRun(containerDirectory(this.#options.kubeletDir, uid, container));
    }
    this.#follow(uid, run.directory);
    return latestRun(containerDirectory(this.#options.kubeletDir, uid, container));
  }

  #follow(uid: string, directory: string): void {
    this.#watched.set(
      directory,
      watch(directory, () => this.#queue.add(uid)),
    );
  }

  #facts(pod: Pod): PodFacts {
    const runs = (pod.spec?.containers ?? []).map(({ name }) => [name, this.#latest(pod.metadata.uid!, name)] as const);
    return { runs: new Map(runs), now: this.#options.clock.now() };
  }

  #report(pod: Pod, status: NonNullable<Pod['status']>): void {
    const { store } = this.#options;
    const ref = { namespace: pod.metadata.namespace!, name: pod.metadata.name };
    // Deleted since we read it: the watch brings us back.
    if (store.get(pods, ref)?.metadata.uid !== pod.metadata.uid) return;
    store.modify(pods, ref, (fresh) => ({ ...fresh, status }), { subresource: 'status' });
  }

  /** Ends a pod's containers, takes its volumes away, and lets it go. `pod` is undefined when the store no longer has it. */
  async #remove(uid: string, pod: Pod | undefined, signal: AbortSignal): Promise<Outcome> {
    const { store, kubeletDir, volumes, clock, events } = this.#options;
    const directory = podDirectory(kubeletDir, uid);
    const now = clock.now();
    const killAt = pod ? Date.parse(pod.metadata.deletionTimestamp!) : now;
    const running = this.#running(uid);
    if (running.length > 0) {
      for (const { container, run } of running) {
        if (run.kind === 'exited' || !run.init) continue;
        if (now >= killAt) signalContainer(run.init, 'SIGKILL');
        if (run.kind === 'starting') continue;
        if (pod && !this.#stopping.has(run.directory)) {
          events.normal(pod, 'Killing', `Stopping container ${container}`);
        }
        // At every look: a process 1 that is still starting misses it, for the kernel keeps from it what it has no handler for
        // (pid_namespaces(7)), and nobody can tell from outside that it has one.
        signalContainer(run.init, 'SIGTERM');
        this.#stopping.add(run.directory);
      }
      return { requeueAfterMs: Math.min(LOOK_AGAIN_MS, Math.max(50, killAt - now)) };
    }
    if (existsSync(directory)) {
      await volumes.unmount(uid, signal);
      this.#mounted.delete(uid);
      if (pod) this.#report(pod, terminatedStatus(pod, this.#facts(pod)));
      removePodDirectory(directory);
    }
    if (pod) {
      const ref = { namespace: pod.metadata.namespace!, name: pod.metadata.name };
      const current = store.get(pods, ref);
      if (current?.metadata.uid === uid && current.metadata.deletionGracePeriodSeconds !== 0) {
        store.delete(pods, ref, { gracePeriodSeconds: 0, preconditions: { uid } });
      }
    }
    if (!pod || !store.get(pods, { namespace: pod.metadata.namespace!, name: pod.metadata.name }))
      this.#names.delete(uid);
    return undefined;
  }

  /** Containers that have not ended: also such as the pod's spec, which may be gone, named. */
  #running(uid: string): readonly { readonly container: string; readonly run: ContainerRun }[] {
    const directory = join(podDirectory(this.#options.kubeletDir, uid), 'containers');
    return listDirectories(directory).flatMap((container) => {
      const run = this.#latest(uid, container);
      return run && run.kind !== 'exited' ? [{ container, run }] : [];
    });
  }

  #recordedName(uid: string): ObjectName | undefined {
    try {
      return JSON.parse(readFileSync(join(podDirectory(this.#options.kubeletDir, uid), 'pod.json'), 'utf8'));
    } catch {
      return undefined;
    }
  }
}

/** Only plain files may be left, and nothing mounted: a mount that was overlooked would lose its data here. */
function removePodDirectory(directory: string): void {
  const mounted = readMountInfo().find(({ mountpoint }) => isWithin(mountpoint, directory));
  if (mounted) throw new Error(`${mounted.mountpoint} is still mounted; unmount it, then its pod can go`);
  const csi = join(directory, 'volumes', 'kubernetes.io~csi');
  if (existsSync(csi)) rmdirSync(csi);
  rmSync(directory, { recursive: true });
}
