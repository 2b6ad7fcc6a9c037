/**
 * `union-csi node`: the CSI Identity and Node services on a unix socket, and kubelet's plugin registration.
 * It serves no mount, and what it holds of mounts it finds again at their servers, so it may be stopped and replaced at any time.
 */

import type { Registry } from 'prom-client';
import packageJson from '../../package.json' with { type: 'json' };
import { systemClock } from '../base/clock.ts';
import { Custodian } from '../csi/custodian.ts';
import { Feeding } from '../csi/feeding.ts';
import { identityHandlers, UNION_PLUGIN } from '../csi/identity.ts';
import { MountReport } from '../csi/mount-report.ts';
import { createNodeService } from '../csi/node.ts';
import { startRegistration } from '../csi/registration.ts';
import { implement, startCsiServer } from '../csi/server.ts';
import { UnionLink } from '../csi/union-link.ts';
import { unionsWithin } from '../host/mounter.ts';
import { createKubeClient, type KubeClient } from '../kubernetes/client.ts';
import { createInformer } from '../kubernetes/informer.ts';
import { UNION_ATTACHMENT } from '../kubernetes/kinds.ts';
import { loadAccess } from '../kubernetes/kubeconfig.ts';
import { createRepository, fieldValue } from '../kubernetes/repository.ts';
import { loadCsi } from '../protocol/proto.ts';
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
  const { values } = parseFlags({
    args: argv,
    options: {
      'node-name': { type: 'string' },
      'csi-endpoint': { type: 'string' },
      'kubelet-dir': { type: 'string', default: '/var/lib/kubelet' },
      kubeconfig: { type: 'string' },
      'metrics-port': { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const options = {
    nodeName: required(values['node-name'], 'node-name'),
    endpoint: required(values['csi-endpoint'], 'csi-endpoint'),
    kubeletDir: values['kubelet-dir'],
    metricsPort: parsePort(values['metrics-port'], 'metrics-port'),
  };
  checkMachine();
  const client = createKubeClient(loadAccess(values.kubeconfig));
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.once('SIGTERM', onSignal).once('SIGINT', onSignal);
  try {
    await serve(client, options, stop.signal);
    return 0;
  } finally {
    stop.abort(); // also when only half of it could start
    client.close();
  }
}

/** At the end, for servers that are being started again; kubelet gives us thirty seconds. */
const SETTLE_LIMIT_MS = 20_000;

interface ServiceOptions {
  readonly nodeName: string;
  readonly endpoint: string;
  readonly kubeletDir: string;
  readonly metricsPort: number | undefined;
}

/** Resolves after the signal, when everything has stopped. */
async function serve(client: KubeClient, options: ServiceOptions, signal: AbortSignal): Promise<void> {
  const { nodeName, endpoint, kubeletDir, metricsPort } = options;
  const log = createLogger('node').child({ node: nodeName });
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
  const csi = loadCsi();
  const services = [
    implement(csi.Identity.service, identityHandlers({ plugin: UNION_PLUGIN, version: packageJson.version, isReady })),
    implement(csi.Node.service, createNodeService({ nodeName, link, custodian, clock: systemClock })),
  ];
  const measure = health && { measure: health.measure };
  const server = await startCsiServer({ endpoint, services, log, ...measure }, signal);
  // Last: kubelet asks the CSI socket as soon as it sees the registration.
  const { driver } = UNION_PLUGIN;
  const registration = await startRegistration({ driver, kubeletDir, csiSocket: server.socketPath, log }, signal);
  await Promise.all([server.stopped, registration.stopped, health?.stopped, recovered, watched, fed]);
  await custodian.settled(SETTLE_LIMIT_MS);
}
