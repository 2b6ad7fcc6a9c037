/** What the node plugin tells Prometheus: the mounts that it made. Read from mountinfo: no mount is asked anything. */
import { Gauge, type Registry } from 'prom-client';
import { unionsWithin } from '../host/mounter.ts';

export function registerNodeMetrics(registry: Registry, kubeletDir: string): void {
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
}
