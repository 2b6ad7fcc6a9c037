/**
 * `union-csi start`, which is `npm start`: a guided tour. Starts the embedded cluster, applies manifests, waits for their pod,
 * shows what was made, and stays up for trying things out. Leaves nothing behind, whenever it is interrupted; what a killed tour
 * left is cleaned up by the next one.
 */
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { UnionError } from '../base/errors.ts';
import { persistentVolumeClaims, persistentVolumes, pods, unionVolumes } from '../embedded/api-server/kinds.ts';
import { type Cluster, startCluster } from '../embedded/cluster.ts';
import { removeCluster } from '../embedded/remove-cluster.ts';
import { parseFlags, UsageError } from './flags.ts';
import { createFileLogger } from './stderr-logger.ts';
import { DEMOS, type Demo, demoOf } from './tour/demos.ts';
import { createManifests, type Manifest, readManifests } from './tour/manifests.ts';
import { readOutput } from './tour/pod-output.ts';
import { Progress } from './tour/progress.ts';
import { branchTable, findUnion, type TouredUnion } from './tour/report.ts';
import { waitUntil } from './tour/wait.ts';

const HELP = `usage: union-csi start [--once] [--dir DIR] [--demo NAME | --apply DIRECTORY]

Shows a union of volumes at work, in a small Kubernetes on this machine. Needs root and /dev/fuse.

  --once             end after the tour, with everything removed
  --dir DIR          keep everything in DIR, and go on from there the next time
                     (default: a temporary directory, removed at the end)
  --demo NAME        what to show: quickstart (default), or replicated, a union of volumes with two replicas each,
                     of which a node dies in the middle of a write
  --apply DIRECTORY  manifests of yours instead, with one pod and its claim in namespace default

Ctrl-C ends it and leaves nothing behind.
`;

const LIMIT_MS = 60_000;

export async function run(argv: string[]): Promise<number> {
  const { values } = parseFlags(HELP, {
    args: argv,
    options: {
      once: { type: 'boolean' },
      dir: { type: 'string' },
      apply: { type: 'string' },
      demo: { type: 'string', default: 'quickstart' },
    },
  });
  const interrupted = abortOnSignals();
  const demo = values.apply === undefined ? DEMOS.get(values.demo) : demoOf(resolve(values.apply));
  if (demo === undefined) throw new UsageError(`--demo ${values.demo} is none of ${[...DEMOS.keys()].join(', ')}`);
  const tour = new Tour({
    dir: resolve(values.dir ?? join(tmpdir(), 'union-csi-start')),
    isTemporary: values.dir === undefined,
    demo,
    manifests: readManifests(demo.directory),
    signal: interrupted,
  });
  try {
    const union = await tour.begin();
    if (values.once) await tour.deleteAll();
    else {
      tour.suggest(union);
      await aborted(interrupted);
    }
  } catch (error) {
    if (!interrupted.aborted) throw error;
  } finally {
    await tour.end();
  }
  return interrupted.aborted && values.once ? 130 : 0;
}

interface TourOptions {
  readonly dir: string;
  readonly isTemporary: boolean;
  readonly demo: Demo;
  readonly manifests: readonly Manifest[];
  readonly signal: AbortSignal;
}

class Tour {
  readonly #options: TourOptions;
  readonly #progress = new Progress();
  readonly #pod: { namespace: string; name: string };
  #cluster: Cluster | undefined;

  constructor(options: TourOptions) {
    this.#options = options;
    const pod = options.manifests.find(({ kind }) => kind === 'Pod');
    if (pod === undefined)
      throw new UnionError('INVALID_ARGUMENT', `${options.demo.directory} has no pod; the tour shows one`);
    this.#pod = { namespace: pod.metadata.namespace ?? 'default', name: pod.metadata.name };
  }

  /** From nothing to a running pod. */
  async begin(): Promise<TouredUnion> {
    const progress = this.#progress;
    progress.line('Union CSI: one filesystem out of several volumes\n');
    if (this.#options.isTemporary) await removeCluster(this.#options.dir);
    const started = performance.now();
    const cluster = await progress.step(
      'start the embedded cluster',
      () => this.#start(),
      ({ url }) => url,
    );
    const { store } = cluster;
    await progress.step(
      `apply ${relative(process.cwd(), this.#options.demo.directory) || '.'}`,
      async () => createManifests(store, this.#options.manifests),
      () => this.#options.manifests.map(({ kind, metadata }) => `${shortKind(kind)}/${metadata.name}`).join(' '),
    );
    const claims = this.#options.manifests.filter(({ kind }) => kind === 'PersistentVolumeClaim');
    for (const { metadata } of claims) await this.#waitForClaim(cluster, metadata);
    await this.#waitForPod(cluster);
    progress.line(`\nfrom cluster start to running pod: ${((performance.now() - started) / 1000).toFixed(1)} s\n`);
    await this.#meanwhile(cluster);
    const union = await this.#waitForOutput(cluster);
    for (const line of branchTable(union)) progress.line(`  ${line}`);
    progress.line();
    return union;
  }

  async #start(): Promise<Cluster> {
    const { dir, signal, demo } = this.#options;
    signal.throwIfAborted();
    this.#cluster = await startCluster({
      dir,
      nodes: demo.nodes,
      drivers: demo.drivers,
      port: 0,
      log: createFileLogger(join(dir, 'logs', 'cluster.log')),
    });
    return this.#cluster;
  }

  async #waitForClaim({ store }: Cluster, { name, namespace = 'default' }: Manifest['metadata']): Promise<void> {
    const ref = { namespace, name };
    const wanted = { store, kind: persistentVolumeClaims, ref, limitMs: LIMIT_MS };
    await this.#progress.step(
      `claim ${name} becomes a union of lower volumes`,
      () => waitUntil({ ...wanted, until: (claim) => claim?.status?.phase === 'Bound' }, this.#options.signal),
      () => {
        const lowers = store.list(unionVolumes).find(({ spec }) => spec.claim?.name === name)?.spec.branches ?? [];
        return lowers.map(({ id, storageClassName }) => `${id}:${storageClassName}`).join(' ');
      },
    );
  }

  async #waitForPod({ store }: Cluster): Promise<void> {
    const wanted = { store, kind: pods, ref: this.#pod, limitMs: LIMIT_MS };
    await this.#progress.step(`pod ${this.#pod.name} runs, with the union mounted`, () =>
      waitUntil({ ...wanted, until: (pod) => pod?.status?.phase === 'Running' }, this.#options.signal),
    );
  }

  /** What the demo does to the cluster while the pod works. */
  async #meanwhile(cluster: Cluster): Promise<void> {
    const { demo, signal } = this.#options;
    await demo.meanwhile?.({ cluster, pod: this.#pod, progress: this.#progress, signal });
  }

  /** What the pod prints, until it says that it is ready. */
  async #waitForOutput({ store, dir }: Cluster): Promise<TouredUnion> {
    const union = findUnion(store, dir, this.#pod);
    const lines = await this.#progress.step('the pod writes, reads, and is done', () => {
      const limit = AbortSignal.any([this.#options.signal, AbortSignal.timeout(LIMIT_MS)]);
      return readOutput({ store, clusterDir: dir, pod: this.#pod, until: 'ready' }, limit);
    });
    this.#progress.line();
    for (const line of lines) this.#progress.line(`  ${line}`);
    this.#progress.line();
    return union;
  }

  suggest(union: TouredUnion): void {
    const cluster = this.#cluster!;
    const first = union.branches[0]!.path;
    const files = relative(process.cwd(), this.#options.demo.directory) || '.';
    this.#progress.line(`Three things to try, in another shell:

  1. look at it      export KUBECONFIG=${cluster.kubeconfig}
                     kubectl get sc,pvc,pv,pods,unionvolumes -A -o wide
  2. add a file      cp README.md ${union.path}/
                     ls ${first}    # a branch: an ordinary directory
  3. delete it       kubectl delete -f ${files}    # the lower volumes go with it

Ctrl-C ends the cluster and leaves nothing behind.`);
  }

  /** The pod and its claim, and with them every volume. */
  async deleteAll(): Promise<void> {
    const { store } = this.#cluster!;
    const { signal, manifests } = this.#options;
    await this.#progress.step('delete pod and claim; lower volumes go with them', async () => {
      store.delete(pods, this.#pod);
      await waitUntil(
        { store, kind: pods, ref: this.#pod, until: (pod) => pod === undefined, limitMs: LIMIT_MS },
        signal,
      );
      for (const { kind, metadata } of manifests) {
        if (kind !== 'PersistentVolumeClaim') continue;
        const ref = { namespace: metadata.namespace ?? 'default', name: metadata.name };
        const volume = store.get(persistentVolumeClaims, ref)?.spec?.volumeName;
        store.delete(persistentVolumeClaims, ref);
        if (volume === undefined) continue;
        const gone = { store, kind: persistentVolumes, ref: { name: volume }, limitMs: LIMIT_MS };
        await waitUntil({ ...gone, until: (object) => object === undefined }, signal);
      }
    });
    const left = store.list(persistentVolumes).map(({ metadata }) => metadata.name);
    if (left.length > 0) throw new UnionError('INTERNAL', `volumes are left after the delete: ${left.join(', ')}`);
  }

  /** The machine as it was. */
  async end(): Promise<void> {
    const cluster = this.#cluster;
    if (cluster === undefined) return;
    if (this.#options.signal.aborted) this.#progress.line();
    await this.#progress.step('end the cluster: stop pods, unmount, detach', async () => {
      const problems = await cluster.close();
      if (problems.length > 0) throw new UnionError('INTERNAL', problems.join('; '));
      if (this.#options.isTemporary) await removeCluster(this.#options.dir);
    });
  }
}

const SHORT_KINDS: Readonly<Record<string, string>> = { StorageClass: 'sc', PersistentVolumeClaim: 'pvc', Pod: 'pod' };

function shortKind(kind: string): string {
  return SHORT_KINDS[kind] ?? kind.toLowerCase();
}

/** Aborts at the first SIGINT, SIGTERM or SIGHUP; later ones change nothing: ending has begun. */
function abortOnSignals(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => controller.abort());
  return controller.signal;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done();
    signal.addEventListener('abort', () => done(), { once: true });
  });
}
