/**
 * /healthz, /readyz and /metrics of a service, the measurements of its CSI calls, and pages of its own.
 * In a pod it listens on every address, because kubelet's probes and Prometheus come from outside; elsewhere on loopback.
 */
import { createServer, type ServerResponse } from 'node:http';
import type { Registry } from 'prom-client';
import { messageOf, UnionError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { RpcMeasurement } from '../csi/interceptors.ts';

export interface Page {
  readonly status: number;
  /** Sent as JSON. */
  readonly body: unknown;
}

export interface HealthOptions {
  readonly port: number;
  /** Only this address, in a pod too. */
  readonly host?: string | undefined;
  /** What calls need is there: caches are filled, sockets listen. */
  readonly isReady: () => boolean;
  /** Registers what this role has to tell. */
  readonly metrics?: (registry: Registry) => void | Promise<void>;
  /** Further lines of /metrics. */
  readonly moreMetrics?: () => string;
  /** By path. */
  readonly pages?: Readonly<Record<string, (query: URLSearchParams) => Page | Promise<Page>>>;
  readonly log: Logger;
}

export interface Health {
  /** For the CSI server. */
  readonly measure: (measurement: RpcMeasurement) => void;
  readonly port: number;
  readonly stopped: Promise<void>;
}

/** Serves until the signal aborts. */
export async function startHealth(options: HealthOptions, signal: AbortSignal): Promise<Health> {
  const { port, isReady, metrics, moreMetrics, pages = {}, log } = options;
  // Only who asks for metrics pays for loading them.
  const { collectDefaultMetrics, Histogram, Registry } = await import('prom-client');
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  await metrics?.(registry);
  const rpcs = new Histogram({
    name: 'union_csi_rpc_seconds',
    help: 'Duration of CSI calls by method and status code',
    labelNames: ['method', 'code'],
    buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 8, 30],
    registers: [registry],
  });

  const answer = async ({ pathname, searchParams }: URL, response: ServerResponse): Promise<void> => {
    const text = (status: number, body: string, type = 'text/plain') => {
      response.writeHead(status, { 'content-type': type });
      response.end(body);
    };
    if (pathname === '/healthz') return text(200, 'ok\n');
    if (pathname === '/readyz') return isReady() ? text(200, 'ok\n') : text(503, 'not ready\n');
    if (pathname === '/metrics') {
      return text(200, `${await registry.metrics()}${moreMetrics?.() ?? ''}`, registry.contentType);
    }
    if (Object.hasOwn(pages, pathname)) {
      const { status, body } = await pages[pathname]!(searchParams);
      return text(status, `${JSON.stringify(body)}\n`, 'application/json');
    }
    text(404, `ask for ${['/healthz', '/readyz', '/metrics', ...Object.keys(pages)].join(', ')}\n`);
  };
  const server = createServer((request, response) => {
    answer(new URL(request.url ?? '/', 'http://localhost'), response).catch((error: unknown) => {
      log.error('health.failed', { error: messageOf(error) });
      response.destroy();
    });
  });
  const host = options.host ?? (process.env.KUBERNETES_SERVICE_HOST === undefined ? '127.0.0.1' : undefined);
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
