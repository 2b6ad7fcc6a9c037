/**
 * `union-csi controller`: the CSI Identity and Controller services on a unix socket, and the reconcilers of our resources.
 * Every replica answers CSI calls; the reconcilers run in one of them, the leader. Ends cleanly on SIGTERM and SIGINT,
 * with 1 when leadership is lost: whatever this process believed about the cluster is then in doubt.
 */
import { hostname } from 'node:os';
import type { Registry } from 'prom-client';
import packageJson from '../../package.json' with { type: 'json' };
import { systemClock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { runControllers } from '../controllers/run.ts';
import { controllerHandlers } from '../csi/controller.ts';
import { controllerRepositories } from '../csi/controller-common.ts';
import { UNION_PLUGIN } from '../csi/identity.ts';
import { watchRoom } from '../csi/room.ts';
import { implement } from '../csi/server.ts';
import type { KubeClient } from '../kubernetes/client.ts';
import { createInformer } from '../kubernetes/informer.ts';
import { POD, UNION_ATTACHMENT, UNION_VOLUME } from '../kubernetes/kinds.ts';
import { createRepository } from '../kubernetes/repository.ts';
import type { WorkMeasurement } from '../kubernetes/workqueue.ts';
import { loadCsi } from '../protocol/proto.ts';
import { DAEMON_FLAGS, runDaemon, servePlugin } from './daemon.ts';
import { parseFlags, parsePort, required } from './flags.ts';
import { startHealth } from './health.ts';
import { leadUntilStopped } from './leadership.ts';
import { createLogger } from './logging.ts';
import { ownImage } from './own-image.ts';

const HELP = `usage: union-csi controller --csi-endpoint unix:///PATH [FLAGS]

  --csi-endpoint SOCKET    where to serve CSI
  --kubeconfig FILE        how to reach the cluster; without it, the service account of the pod it runs in
  --server-image IMAGE     of server pods; default is the image of the pod it runs in, or union-csi:${packageJson.version}
  --metrics-port PORT      serve /healthz, /readyz and /metrics
  --[no-]leader-election   reconcile in one replica only; default with a service account, not with --kubeconfig
`;

export async function run(argv: string[]): Promise<number> {
  const { values } = parseFlags(HELP, {
    args: argv,
    allowNegative: true,
    options: {
      'server-image': { type: 'string' },
      ...DAEMON_FLAGS,
      'leader-election': { type: 'boolean' },
    },
  });
  const options: ServiceOptions = {
    endpoint: required(values['csi-endpoint'], 'csi-endpoint'),
    metricsPort: parsePort(values['metrics-port'], 'metrics-port'),
    serverImage: values['server-image'] ?? (values.kubeconfig && `union-csi:${packageJson.version}`),
    elect: values['leader-election'] ?? values.kubeconfig === undefined,
    log: createLogger('controller'),
  };
  const { kubeconfig } = values;
  return await runDaemon({ kubeconfig, log: options.log }, (client, stop) => serve(client, options, stop));
}

interface ServiceOptions {
  readonly endpoint: string;
  readonly metricsPort: number | undefined;
  /** Without one, that of the pod we run in. */
  readonly serverImage: string | undefined;
  readonly elect: boolean;
  readonly log: Logger;
}

async function serve(client: KubeClient, options: ServiceOptions, stop: AbortController): Promise<number> {
  const { endpoint, metricsPort, log } = options;
  const volumeChanges = createInformer({ client, kind: UNION_VOLUME, log });
  const attachmentChanges = createInformer({ client, kind: UNION_ATTACHMENT, log });
  const room = watchRoom(client, log);
  const isReady = () => volumeChanges.hasSynced && attachmentChanges.hasSynced;
  let measureWork: ((measurement: WorkMeasurement) => void) | undefined;
  const metrics = async (registry: Registry) => {
    const { registerControllerMetrics } = await import('./controller-metrics.ts');
    measureWork = registerControllerMetrics(registry, { volumes: volumeChanges, attachments: attachmentChanges });
  };
  const health =
    metricsPort === undefined
      ? undefined
      : await startHealth({ port: metricsPort, isReady, metrics, log }, stop.signal);
  const handlers = controllerHandlers({
    ...controllerRepositories(client),
    ...{ volumeChanges, attachmentChanges, room, clock: systemClock },
  });
  const service = implement(loadCsi().Controller.service, handlers);
  const server = await servePlugin({ plugin: UNION_PLUGIN, service, endpoint, isReady, health, log }, stop.signal);
  const watching = [volumeChanges, attachmentChanges, ...Object.values(room)].map((kind) => kind.start(stop.signal));
  const code = await reconcile(client, options, measureWork, stop.signal);
  stop.abort();
  await Promise.all([...watching, server.stopped, health?.stopped]);
  return code;
}

async function reconcile(
  client: KubeClient,
  options: ServiceOptions,
  measure: ((measurement: WorkMeasurement) => void) | undefined,
  signal: AbortSignal,
): Promise<number> {
  const { log, elect } = options;
  const lead = async (term: AbortSignal) => {
    const image = options.serverImage ?? (await ownImage(createRepository(client, POD), hostname(), term));
    await runControllers({ client, log, server: { image }, measure }, term);
  };
  return await leadUntilStopped({ client, name: 'union-csi-controller', elect, log }, lead, signal);
}
