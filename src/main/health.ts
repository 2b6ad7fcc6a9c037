/**
 * /healthz, /readyz and /metrics of a service, and the measurements behind the last.
 * In a pod it listens on every address, because kubelet's probes and Prometheus come from outside; elsewhere on loopback.
 */
import { createServer, type ServerResponse } from 'node:http';
import { UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { RpcMeasurement } from '../csi/interceptors.ts';

export interface HealthOptions {
  readonly port: number;
  /** What calls need is there: caches are filled, sockets listen. */
  readonly isReady: () => boolean;
  readonly log: Logger;
}

export interface Health {
  /** For the CSI server. */
  readonly measure: (measurement: RpcMeasurement) => void;
  readonly port: number;
  readonly stopped: Promise<void>;
}

/** Serves until the signal aborts. */
export async function startHealth({ port, isReady, log }: HealthOptions, signal: AbortSignal): Promise<Health> {
  // Only who asks for metrics pays for loading them.
  const { collectDefaultMetrics, Histogram, Registry } = await import('prom-client');
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const rpcs = new Histogram({
    name: 'union_csi_rpc_seconds',
    help: 'Duration of CSI calls by method and status code',
    labelNames: ['method', 'code'],
    buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 8, 30],
    registers: [registry],
  });

  const answer = async (path: string, response: ServerResponse): Promise<void> => {
    const text = (status: number, body: string, type = 'text/plain') => {
      response.writeHead(status, { 'content-type': type });
      response.end(body);
    };
    if (path === '/healthz') return text(200, 'ok\n');
    if (path === '/readyz') return isReady() ? text(200, 'ok\n') : text(503, 'not ready\n');
    if (path === '/metrics') return text(200, await registry.metrics(), registry.contentType);
    text(404, 'ask for /healthz, /readyz or /metrics\n');
  };
  const server = createServer((request, response) => {
    answer(new URL(request.url ?? '/', 'http://localhost').pathname, response).catch((error) => {
      log.error('health.failed', { error });
      response.destroy();
    });
  });
  const host = process.env.KUBERNETES_SERVICE_HOST === undefined ? '127.0.0.1' : undefined;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      const message = `cannot serve metrics on port ${port}: ${error.message}; choose another --metrics-port`;
      reject(new UnionError('FAILED_PRECONDITION', message, { cause: error }));
    });
    server.listen(port, host, resolve);
  });
  const stopped = new Promise<void>((resolve) => {
    const stop = () => {
      server.close(() => resolve());
      server.closeAllConnections();
    };
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
  const address = server.address();
  return {
    measure: ({ method, code, seconds }) => rpcs.observe({ method, code }, seconds),
    port: typeof address === 'object' && address !== null ? address.port : port,
    stopped,
  };
}
