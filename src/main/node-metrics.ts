/** What the node plugin tells Prometheus: the mounts that it made and keeps. Read from mountinfo: no mount is asked anything. */
import { Counter, Gauge, type Registry } from 'prom-client';
import type { Custodian } from '../csi/custodian.ts';
import { unionsWithin } from '../host/mounter.ts';

export function registerNodeMetrics(
  registry: Registry,
  {
    kubeletDir,
    custodian,
  }: { readonly kubeletDir: string; readonly custodian: Pick<Custodian, 'heldCount' | 'restarts'> },
): void {
  const own = () => unionsWithin(kubeletDir);
  new Gauge({
    name: 'union_csi_node_unions',
    help: 'Unions that are mounted on this node',
    registers: [registry],
    collect() {
      this.set(new Set(own().map(({ device }) => device)).size);
    },
  });
  new Gauge({
    name: 'union_csi_node_mounts',
    help: 'Mounts of unions on this node, staging paths and those of pods',
    registers: [registry],
    collect() {
      this.set(own().length);
    },
  });
  new Gauge({
    name: 'union_csi_node_unions_held',
    help: 'Unions whose server has ended, and whose applications wait for the next one',
    registers: [registry],
    collect() {
      this.set(custodian.heldCount);
    },
  });
  new Counter({
    name: 'union_csi_node_server_restarts_total',
    help: 'Servers that took over from one that had ended, by volume',
    labelNames: ['volume'],
    registers: [registry],
    collect() {
      this.reset();
      for (const [volume, count] of custodian.restarts) this.inc({ volume }, count);
    },
  });
}
