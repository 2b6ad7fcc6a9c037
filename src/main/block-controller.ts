/** `union-csi block-controller`: the CSI Identity and Controller services of block.union.csi.dev, and the reconciler of BlockVolumes. */
import { systemClock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { SILENT_LIMIT_MS } from '../block/driver/placement.ts';
import { runBlockVolumeController } from '../controllers/block/block-volume.ts';
import { blockControllerHandlers } from '../csi/block/controller.ts';
import { BLOCK_PLUGIN } from '../csi/identity.ts';
import { implement } from '../csi/server.ts';
import type { KubeClient } from '../kubernetes/client.ts';
import { createInformer } from '../kubernetes/informer.ts';
import { BLOCK_POOL, BLOCK_VOLUME, NODE } from '../kubernetes/kinds.ts';
import { createRepository } from '../kubernetes/repository.ts';
import { loadCsi } from '../protocol/proto.ts';
import { DAEMON_FLAGS, runDaemon, servePlugin } from './daemon.ts';
import { parseDuration, parseFlags, parsePort, required, UsageError } from './flags.ts';
import { startHealth } from './health.ts';
import { leadUntilStopped } from './leadership.ts';
import { createLogger } from './logging.ts';

const HELP = `usage: union-csi block-controller --csi-endpoint unix:///PATH [FLAGS]

  --csi-endpoint SOCKET    where to serve CSI
  --kubeconfig FILE        how to reach the cluster; without it, the service account of the pod it runs in
  --metrics-port PORT      serve /healthz, /readyz and /metrics
  --replace-after DURATION make the replicas of a node that is not heard of elsewhere after so long, default 10m; those of a
                           node that has left the cluster, or has the taint node.kubernetes.io/out-of-service, at once
  --[no-]leader-election   reconcile in one replica only; default with a service account, not with --kubeconfig
`;

interface ServiceOptions {
  readonly endpoint: string;
  readonly metricsPort: number | undefined;
  readonly elect: boolean;
  readonly replaceAfterMs: number;
  readonly log: Logger;
}

export async function run(argv: string[]): Promise<number> {
  const { values } = parseFlags(HELP, {
    args: argv,
    allowNegative: true,
    options: {
      ...DAEMON_FLAGS,
      'leader-election': { type: 'boolean' },
      'replace-after': { type: 'string', default: '10m' },
    },
  });
  const options: ServiceOptions = {
    endpoint: required(values['csi-endpoint'], 'csi-endpoint'),
    metricsPort: parsePort(values['metrics-port'], 'metrics-port'),
    replaceAfterMs: parseDelay(values['replace-after']),
    elect: values['leader-election'] ?? values.kubeconfig === undefined,
    log: createLogger('block-controller'),
  };
  const { kubeconfig } = values;
  return await runDaemon({ kubeconfig, log: options.log }, (client, stop) => serve(client, options, stop));
}

/** Nodes that are well may be silent for a while. */
function parseDelay(text: string): number {
  const delayMs = parseDuration(text, 'replace-after');
  if (delayMs >= SILENT_LIMIT_MS) return delayMs;
  throw new UsageError(
    `--replace-after ${text} is too short; give a node at least ${SILENT_LIMIT_MS / 1000}s to be heard of`,
  );
}

async function serve(client: KubeClient, options: ServiceOptions, stop: AbortController): Promise<number> {
  const { endpoint, metricsPort, replaceAfterMs, log } = options;
  const volumeChanges = createInformer({ client, kind: BLOCK_VOLUME, log });
  const isReady = () => volumeChanges.hasSynced;
  const health =
    metricsPort === undefined ? undefined : await startHealth({ port: metricsPort, isReady, log }, stop.signal);
  const controller = blockControllerHandlers({
    volumes: createRepository(client, BLOCK_VOLUME),
    pools: createRepository(client, BLOCK_POOL),
    nodes: createRepository(client, NODE),
    volumeChanges,
    clock: systemClock,
  });
  const service = implement(loadCsi().Controller.service, controller);
  const server = await servePlugin({ plugin: BLOCK_PLUGIN, service, endpoint, isReady, health, log }, stop.signal);
  const watching = volumeChanges.start(stop.signal);
  const lead = (term: AbortSignal) =>
    runBlockVolumeController({ client, changes: volumeChanges, replaceAfterMs, log }, term);
  const { elect } = options;
  const code = await leadUntilStopped({ client, name: 'union-csi-block-controller', elect, log }, lead, stop.signal);
  stop.abort();
  await Promise.all([watching, server.stopped, health?.stopped]);
  return code;
}
