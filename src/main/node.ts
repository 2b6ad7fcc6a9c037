/**
 * `union-csi node`: the CSI Identity and Node services on a unix socket, and kubelet's plugin registration.
 * It serves no mount, and what it holds of mounts it finds again at their servers, so it may be stopped and replaced at any time.
 */

import type { Registry } from 'prom-client';
import { systemClock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { Custodian } from '../csi/custodian.ts';
import { Feeding } from '../csi/feeding.ts';
import { UNION_PLUGIN } from '../csi/identity.ts';
import { MountReport } from '../csi/mount-report.ts';
import { createNodeService } from '../csi/node.ts';
import { implement } from '../csi/server.ts';
import { ServerRecords } from '../csi/server-records.ts';
import { UnionLink } from '../csi/union-link.ts';
import { unionsWithin } from '../host/mounter.ts';
import type { KubeClient } from '../kubernetes/client.ts';
import { createInformer } from '../kubernetes/informer.ts';
import { UNION_ATTACHMENT } from '../kubernetes/kinds.ts';
import { createRepository, fieldValue } from '../kubernetes/repository.ts';
import { loadCsi } from '../protocol/proto.ts';
import { DAEMON_FLAGS, runDaemon, serveNodePlugin } from './daemon.ts';
import { parseFlags, parsePort, required } from './flags.ts';
import { startHealth } from './health.ts';
import { createLogger } from './logging.ts';
import { checkMachine } from './mount-checks.ts';
import { limitedRefusers } from './server-refuse.ts';

const HELP = `usage: union-csi node --node-name NAME --csi-endpoint unix:///PATH [FLAGS]

  --node-name NAME        the Kubernetes node this runs on
  --csi-endpoint SOCKET   where to serve CSI, below the kubelet directory
  --kubelet-dir DIR       kubelet's directory, default /var/lib/kubelet
  --kubeconfig FILE       how to reach the cluster; without it, the service account of the pod it runs in
  --metrics-port PORT     serve /healthz, /readyz and /metrics
`;

export async function run(argv: string[]): Promise<number> {
  const { values } = parseFlags(HELP, {
    args: argv,
    options: {
      'node-name': { type: 'string' },
      'kubelet-dir': { type: 'string', default: '/var/lib/kubelet' },
      ...DAEMON_FLAGS,
    },
  });
  const nodeName = required(values['node-name'], 'node-name');
  const options: ServiceOptions = {
    nodeName,
    endpoint: required(values['csi-endpoint'], 'csi-endpoint'),
    kubeletDir: values['kubelet-dir'],
    metricsPort: parsePort(values['metrics-port'], 'metrics-port'),
    log: createLogger('node').child({ node: nodeName }),
  };
  checkMachine();
  return await runDaemon({ kubeconfig: values.kubeconfig, log: options.log }, async (client, stop) => {
    await serve(client, options, stop.signal);
    return 0;
  });
}

/** At the end, for servers that are being started again; kubelet gives us thirty seconds. */
const SETTLE_LIMIT_MS = 20_000;

interface ServiceOptions {
  readonly nodeName: string;
  readonly endpoint: string;
  readonly kubeletDir: string;
  readonly metricsPort: number | undefined;
  readonly log: Logger;
}

/** Resolves after the signal, when everything has stopped. */
async function serve(client: KubeClient, options: ServiceOptions, signal: AbortSignal): Promise<void> {
  const { nodeName, endpoint, kubeletDir, metricsPort, log } = options;
  const attachments = createRepository(client, UNION_ATTACHMENT);
  const informer = createInformer({
    client,
    kind: UNION_ATTACHMENT,
    selection: { fieldSelector: `spec.node=${fieldValue(nodeName)}` },
    log,
  });
  const feeding = new Feeding({ nodeName, kubeletDir, attachments: informer, log });
  const link = new UnionLink({ nodeName, kubeletDir, attachments, feeding, clock: systemClock });
  const report = new MountReport({ nodeName, attachments, clock: systemClock, log }, signal);
  const custodian = new Custodian({
    ...{ link, clock: systemClock, log },
    records: new ServerRecords(kubeletDir, log),
    refuse: limitedRefusers(),
    tell: (volumeId, status) => report.tell(volumeId, status),
  });
  const isReady = () => true;
  const metrics = async (registry: Registry) => {
    const { registerNodeMetrics } = await import('./node-metrics.ts');
    registerNodeMetrics(registry, { kubeletDir, custodian });
  };
  const health =
    metricsPort === undefined ? undefined : await startHealth({ port: metricsPort, isReady, metrics, log }, signal);
  const watched = informer.start(signal);
  const fed = feeding.run(link, signal);
  // What was mounted by an earlier process of this node.
  const recovered = custodian.recover(() => unionsWithin(kubeletDir), signal);
  const service = implement(
    loadCsi().Node.service,
    createNodeService({ nodeName, link, custodian, clock: systemClock }),
  );
  const plugin = { plugin: UNION_PLUGIN, service, endpoint, kubeletDir, isReady, health, log };
  const served = await serveNodePlugin(plugin, signal);
  await Promise.all([...served, health?.stopped, recovered, watched, fed]);
  await custodian.settled(SETTLE_LIMIT_MS);
}
