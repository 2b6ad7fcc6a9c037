/** What the long-running roles of a cluster share: flags, the cluster's client, the end by a signal, and the CSI services. */
import packageJson from '../../package.json' with { type: 'json' };
import type { Logger } from '../base/logger.ts';
import { identityHandlers, type Plugin } from '../csi/identity.ts';
import { startRegistration } from '../csi/registration.ts';
import { type CsiServer, type Implementation, implement, startCsiServer } from '../csi/server.ts';
import { createKubeClient, type KubeClient } from '../kubernetes/client.ts';
import { loadAccess } from '../kubernetes/kubeconfig.ts';
import { loadCsi } from '../protocol/proto.ts';
import type { Health } from './health.ts';

export const DAEMON_FLAGS = {
  'csi-endpoint': { type: 'string' },
  kubeconfig: { type: 'string' },
  'metrics-port': { type: 'string' },
} as const;

export interface DaemonOptions {
  readonly kubeconfig: string | undefined;
  readonly log: Logger;
  /** What is to be done before it ends. */
  readonly beforeEnd?: () => Promise<void>;
}

/** Runs `serve` and has it end on SIGTERM and SIGINT. When it ends, or only half of it could start, all of it stops. */
export async function runDaemon(
  { kubeconfig, log, beforeEnd }: DaemonOptions,
  serve: (client: KubeClient, stop: AbortController) => Promise<number>,
): Promise<number> {
  const client = createKubeClient(loadAccess(kubeconfig));
  const stop = new AbortController();
  const onSignal = (name: string) => {
    log.info('daemon.stopping', { signal: name });
    void Promise.resolve(beforeEnd?.()).then(() => stop.abort());
  };
  process.once('SIGTERM', onSignal).once('SIGINT', onSignal);
  try {
    return await serve(client, stop);
  } finally {
    stop.abort();
    process.off('SIGTERM', onSignal).off('SIGINT', onSignal);
    client.close();
  }
}

export interface PluginOptions {
  readonly plugin: Plugin;
  /** Controller or Node, beside Identity. */
  readonly service: Implementation;
  readonly endpoint: string;
  readonly isReady: () => boolean;
  readonly health: Health | undefined;
  readonly log: Logger;
}

/** Serves a plugin's CSI socket until the signal aborts. */
export async function servePlugin(options: PluginOptions, signal: AbortSignal): Promise<CsiServer> {
  const { plugin, service, endpoint, isReady, health, log } = options;
  const identity = identityHandlers({ plugin, version: packageJson.version, isReady });
  const services = [implement(loadCsi().Identity.service, identity), service];
  const measure = health && { measure: health.measure };
  return await startCsiServer({ endpoint, services, log, ...measure }, signal);
}

/** The same on a node, where kubelet must learn of it. Answers what ends with the signal. */
export async function serveNodePlugin(
  options: PluginOptions & { readonly kubeletDir: string },
  signal: AbortSignal,
): Promise<readonly Promise<void>[]> {
  const { plugin, kubeletDir, log } = options;
  const server = await servePlugin(options, signal);
  const { driver } = plugin;
  // Last: kubelet asks the CSI socket as soon as it sees the registration.
  const registration = await startRegistration({ driver, kubeletDir, csiSocket: server.socketPath, log }, signal);
  return [server.stopped, registration.stopped];
}
